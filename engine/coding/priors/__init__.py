"""The priors: from the symbols known so far to the distribution of the next ones, in integers. Start at `prior`."""
