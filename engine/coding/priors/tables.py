"""The probability tables: what a (location, scale) context says about a symbol, as integers.

A symbol minus its location is split into a bin and, for wide scales, low bits that are coded as they are. A table
has `BINS` weights that sum to 2**24: one for each bin from -15 to 15, and the last for "outside", after which
the whole symbol follows in 16 bits. Row `scale * FRACTIONS + fraction` serves a location that lies `fraction`
eighths above a whole number. All of this is part of the format: `docs/format.md`, "Tables".
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.errors import BundleError
from sdtrt.kernels.reference import SYMBOL_LIMIT

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

PRECISION = 24  # weights of a table sum to 2**24, as the coder wants
BINS = 32
ESCAPE = BINS - 1
REACH = 15  # bins -15 … 15
FRACTIONS = 8
POINTS = 64  # in a step: so finely is told where latents lie beside their symbols
LATENT_LIMIT = POINTS << 15  # so that the nearest symbols have 16 bits
SCALES = 32
LOCATION_LIMIT = 1 << 15

# Low bits by scale: 0 up to scale 2.5 symbols, then one more for each doubling.
LOW_BITS = np.array([0] * 17 + [1 + k // 3 for k in range(SCALES - 17)], np.int32)


@dataclass(frozen=True, slots=True)
class Context:
    """What is expected of a pass's symbols, int32 (channels of the group, positions) each.

    `location` counts eighths of a symbol, `scale` is an index of the tables. Where latents are predicted, symbols count
    from `origin`, in 1/64 step, and lie `spacing` of these apart.
    """

    location: Ints
    scale: Ints
    origin: Ints | None = None
    spacing: int = POINTS

    def counted(self, wanted: Floats) -> Floats:
        """Return latents, float32 in steps, in symbols, saturated as `kernels.reference.normalise` saturates them."""
        if self.origin is None:
            return wanted
        counted = (wanted - self.origin.astype(np.float32) * np.float32(1 / POINTS)) * np.float32(POINTS / self.spacing)
        return np.clip(counted, 1 - SYMBOL_LIMIT, SYMBOL_LIMIT - 1)

    def points(self, symbols: Ints, within: Ints | None = None) -> Ints | None:
        """Return what symbols have beside them, in 1/64 step; `within` it, and in 1/64 symbol, is what tables tell."""
        if self.origin is None:
            return within
        fine = POINTS * symbols if within is None else POINTS * symbols + within
        latents = self.origin + (fine * self.spacing >> 6)  # POINTS is 2**6
        return np.clip(latents, -LATENT_LIMIT, LATENT_LIMIT - POINTS) - POINTS * symbols

    def rows(self) -> Ints:
        """Return the tables' rows."""
        return self.scale * FRACTIONS + (self.location & (FRACTIONS - 1))

    def base(self) -> Ints:
        """Return the whole symbols below the locations."""
        return self.location >> 3  # FRACTIONS is 2**3, and a shift rounds down, too

    def expected(self) -> Ints:
        """Return the whole symbols nearest to the locations."""
        return (self.location + FRACTIONS // 2) >> 3

    def low_bits(self) -> Ints:
        """Return how many bits of each symbol are coded as they are."""
        return LOW_BITS.take(self.scale)


def bins_of(residual: Ints, low_bits: Ints) -> Ints:
    """Return the table entries of symbols less their base."""
    bins = (residual >> low_bits) + np.int32(REACH)
    return np.minimum(bins.view(np.uint32), np.uint32(ESCAPE)).view(np.int32)  # what is negative is large, too


def bits_of_tables(tables: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return the bits of a symbol of each entry, float32 like the tables: all that is sent for it."""
    bits = PRECISION - np.log2(tables)
    bits[:, :ESCAPE] += np.repeat(LOW_BITS, FRACTIONS)[:, None]
    bits[:, ESCAPE] += 16
    return bits.astype(np.float32)


def load_arrays(name: str) -> dict[str, Any]:
    """Return the arrays of a shipped prior's file; `BundleError` if this version has none of that name."""
    path = resources.files("sdtrt.engine") / "data" / "priors" / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError as error:
        raise BundleError(f"prior {name} is not part of this version; a later sdtrt may have it") from error
