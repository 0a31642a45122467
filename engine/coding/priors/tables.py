"""The probability tables: what a (location, scale) context says about a symbol, as integers.

A symbol minus its location is split into a bin and, for wide scales, low bits that are coded as they are. A table
has `NUM_BINS` weights that sum to 2**24: one for each bin from -15 to 15, and the last for "outside", after which
the whole symbol follows in 16 bits. Row `scale * FRACTIONS + fraction` serves a location that lies `fraction`
eighths above a whole number. All of this is part of the format: `docs/format.md`, "Tables".
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, I32Array, U32Array
from sdtrt.errors import BundleError
from sdtrt.kernels.reference import SYMBOL_LIMIT

PRECISION = 24  # weights of a table sum to 2**24, as the coder wants
NUM_BINS = 32
ESCAPE = NUM_BINS - 1
MAX_BIN = 15  # bins -15 … 15
SUBSYMBOL_STEPS = 8
OFFSET_UNITS = 64  # in a step: so finely is told where latents lie beside their symbols
LATENT_LIMIT = OFFSET_UNITS << 15  # so that the nearest symbols have 16 bits
NUM_SCALES = 32
LOCATION_LIMIT = 1 << 15

# Low bits by scale: 0 up to scale 2.5 symbols, then one more for each doubling.
LOW_BITS = np.array([0] * 17 + [1 + k // 3 for k in range(NUM_SCALES - 17)], np.int32)


@dataclass(frozen=True, slots=True)
class Context:
    """What is expected of a pass's symbols, int32 (channels of the group, positions) each.

    `location` counts eighths of a symbol, `scale` is an index of the tables. Where latents are predicted, symbols count
    from `origin`, in 1/64 step, and lie `spacing` of these apart.
    """

    location: I32Array
    scale: I32Array
    origin: I32Array | None = None
    spacing: int = OFFSET_UNITS

    def to_symbol_units(self, wanted: F32Array) -> F32Array:
        """Return latents, float32 in steps, in symbols, saturated as `kernels.reference.normalise` saturates them."""
        if self.origin is None:
            return wanted
        counted = (wanted - self.origin.astype(np.float32) * np.float32(1 / OFFSET_UNITS)) * np.float32(
            OFFSET_UNITS / self.spacing
        )
        return np.clip(counted, 1 - SYMBOL_LIMIT, SYMBOL_LIMIT - 1)

    def recon_offsets(self, symbols: I32Array, within: I32Array | None = None) -> I32Array | None:
        """Return what symbols have beside them, in 1/64 step; `within` it, and in 1/64 symbol, is what tables tell."""
        if self.origin is None:
            return within
        fine = OFFSET_UNITS * symbols if within is None else OFFSET_UNITS * symbols + within
        latents = self.origin + (fine * self.spacing >> 6)  # POINTS is 2**6
        return np.clip(latents, -LATENT_LIMIT, LATENT_LIMIT - OFFSET_UNITS) - OFFSET_UNITS * symbols

    def table_rows(self) -> I32Array:
        """Return the tables' rows."""
        return self.scale * SUBSYMBOL_STEPS + (self.location & (SUBSYMBOL_STEPS - 1))

    def base(self) -> I32Array:
        """Return the whole symbols below the locations."""
        return self.location >> 3  # FRACTIONS is 2**3, and a shift rounds down, too

    def mode(self) -> I32Array:
        """Return the whole symbols nearest to the locations."""
        return (self.location + SUBSYMBOL_STEPS // 2) >> 3

    def low_bits(self) -> I32Array:
        """Return how many bits of each symbol are coded as they are."""
        return LOW_BITS.take(self.scale)


def bins_of(residual: I32Array, low_bits: I32Array) -> I32Array:
    """Return the table entries of symbols less their base."""
    bins = (residual >> low_bits) + np.int32(MAX_BIN)
    return np.minimum(bins.view(np.uint32), np.uint32(ESCAPE)).view(np.int32)  # what is negative is large, too


def bit_costs(tables: U32Array) -> F32Array:
    """Return the bits of a symbol of each entry, float32 like the tables: all that is sent for it."""
    bits = PRECISION - np.log2(tables)
    bits[:, :ESCAPE] += np.repeat(LOW_BITS, SUBSYMBOL_STEPS)[:, None]
    bits[:, ESCAPE] += 16
    return bits.astype(np.float32)


def load_prior_file(name: str) -> dict[str, Any]:
    """Return the arrays of a shipped prior's file; `BundleError` if this version has none of that name."""
    path = resources.files("sdtrt.engine") / "data" / "priors" / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError as error:
        raise BundleError(f"prior {name} is not part of this version; a later sdtrt may have it") from error
