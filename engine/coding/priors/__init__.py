"""From what is known of a plane to what is expected next, in integers. The way in is `prior`."""
