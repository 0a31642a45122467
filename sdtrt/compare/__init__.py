"""An image by several codecs -> figures -> a report. The way in is `comparison.compare`."""
