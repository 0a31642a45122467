"""The probability tables: what a (location, scale) context says about a symbol, as integers.

A symbol minus its location is split into a bin and, for wide scales, low bits that are coded as they are. A table
has `BINS` weights that sum to 2**24: one for each bin from -15 to 15, and the last for "outside", after which
the whole symbol follows in 16 bits. Row `scale * FRACTIONS + fraction` serves a location that lies `fraction`
eighths above a whole number. All of this is part of the format: `docs/format.md`, "Tables".
"""

import numpy as np

PRECISION = 24  # weights of a table sum to 2**24, as the coder wants
BINS = 32
ESCAPE = BINS - 1
REACH = 15  # bins -15 … 15
FRACTIONS = 8
SCALES = 32
LOCATION_LIMIT = 1 << 15

# Low bits by scale: 0 up to scale 2.5 symbols, then one more for each doubling.
LOW_BITS = np.array([0] * 17 + [1 + k // 3 for k in range(SCALES - 17)], np.int32)
