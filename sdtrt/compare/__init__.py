"""`sdtrt compare`: an image by several codecs, their figures, a report. Start at `comparison.compare`."""
