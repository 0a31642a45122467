"""The probability tables: the distribution of a symbol, given the location and scale of its context.

A location is a multiple of 1/8 symbol. Its integer part, the base, is subtracted from the symbol. For large scales the
low bits of the difference are coded without a model; the rest is the bin.

A table has `NUM_BINS` integer weights that sum to 2**24: one for each bin from -15 to 15, and the last for an escape
code, after which the symbol follows in 16 bits. Row `scale * SUBSYMBOL_STEPS + fraction` is for locations whose
fractional part is `fraction` / 8. All of this is part of the format: `docs/format.md`, section 3.2.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from sdtrt._arrays import F32Array, I32Array, U32Array
from sdtrt.errors import BundleError
from sdtrt.kernels import SYMBOL_LIMIT

PRECISION = 24  # the weights of a table sum to 2**24
NUM_BINS = 32
ESCAPE = NUM_BINS - 1
ESCAPE_OFFSET = 1 << 15  # an escaped symbol is coded as symbol + 2**15 in 16 bits
MAX_BIN = 15  # bins -15 … 15
SUBSYMBOL_STEPS = 8  # of a location in a symbol
OFFSET_UNITS = 64  # of a reconstruction offset in a quantization step
LATENT_LIMIT = OFFSET_UNITS << 15  # in units of offsets: the nearest symbols have 16 bits
NUM_SCALES = 32
LOCATION_LIMIT = 1 << 15

# Number of low bits by scale index: 0 up to a scale of 2.5 symbols, then one more for each doubling.
LOW_BITS = np.array([0] * 17 + [1 + k // 3 for k in range(NUM_SCALES - 17)], np.int32)


@dataclass(frozen=True, slots=True)
class Context:
    """The parameters of the distribution of each symbol of a pass, int32 (channels of the pass, positions) each.

    Arguments:
        location: in 1/8 symbol.
        scale: index of the tables, 0 to 31.
        origin: in a predicted pass, the predicted latents in 1/64 step: symbol 0 means the origin. Otherwise None.
        spacing: distance of reconstruction levels in 1/64 step.
    """

    location: I32Array
    scale: I32Array
    origin: I32Array | None = None
    spacing: int = OFFSET_UNITS

    def to_symbol_units(self, scaled: F32Array) -> F32Array:
        """Return latents in units of symbols, from latents in steps; float32, saturated at +-32766."""
        if self.origin is None:
            return scaled
        relative = scaled - self.origin.astype(np.float32) * np.float32(1 / OFFSET_UNITS)
        in_symbols = relative * np.float32(OFFSET_UNITS / self.spacing)
        return np.clip(in_symbols, 1 - SYMBOL_LIMIT, SYMBOL_LIMIT - 1)

    def recon_offsets(self, symbols: I32Array, bin_offsets: I32Array | None = None) -> I32Array | None:
        """Return the reconstruction offsets of symbols in 1/64 step, None for none.

        `bin_offsets` are the reconstruction offsets of the symbols' bins in 1/64 symbol, None if the prior has none.
        """
        if self.origin is None:
            return bin_offsets
        fine = OFFSET_UNITS * symbols if bin_offsets is None else OFFSET_UNITS * symbols + bin_offsets
        latents = self.origin + (fine * self.spacing >> 6)  # OFFSET_UNITS is 2**6
        return np.clip(latents, -LATENT_LIMIT, LATENT_LIMIT - OFFSET_UNITS) - OFFSET_UNITS * symbols

    def table_rows(self) -> I32Array:
        """Return the row of the tables for each symbol."""
        return self.scale * SUBSYMBOL_STEPS + (self.location & (SUBSYMBOL_STEPS - 1))

    def base(self) -> I32Array:
        """Return the locations rounded down to symbols."""
        return self.location >> 3  # SUBSYMBOL_STEPS is 2**3

    def mode(self) -> I32Array:
        """Return the locations rounded to symbols, half up."""
        return (self.location + SUBSYMBOL_STEPS // 2) >> 3

    def low_bits(self) -> I32Array:
        """Return the number of low bits of each symbol that are coded without a model."""
        return LOW_BITS.take(self.scale)


def bins_of(residual: I32Array, low_bits: I32Array) -> I32Array:
    """Return the index in the tables of each symbol's bin; `residual` are the symbols minus their bases."""
    bins = (residual >> low_bits) + np.int32(MAX_BIN)
    return np.minimum(bins.view(np.uint32), np.uint32(ESCAPE)).view(np.int32)  # as unsigned, negative bins are large


class TwoStepTables(NamedTuple):
    """Tables split into "is the mode" and "which other bin"; all weights of a step sum to 2**24.

    Attributes:
        mode: int32 (rows,), the bin that has more than half of the weight, or -1 if none has.
        mode_weight: uint32 (rows,), the largest weight of each row.
        rest: uint32 (rows, bins), the weights of the second step: of bins other than the mode.
    """

    mode: I32Array
    mode_weight: U32Array
    rest: U32Array


def two_step_tables(tables: U32Array) -> TwoStepTables:
    """Split tables, uint32 (rows, bins)."""
    weights = tables.astype(np.int64)
    total, rows = 1 << PRECISION, np.arange(len(weights))
    largest = weights.argmax(1)
    mode_weight = weights[rows, largest]
    mode = np.where(mode_weight > total // 2, largest, -1)
    rest = weights * (total - 1) // (total - mode_weight)[:, None]
    rest[rows, largest] = 0
    rest[rows, rest.argmax(1)] += total - 1 - rest.sum(1)
    rest[rows, largest] = 1
    rest = np.where(mode[:, None] < 0, weights, rest)
    return TwoStepTables(mode.astype(np.int32), mode_weight.astype(np.uint32), rest.astype(np.uint32))


def bit_costs(tables: U32Array) -> F32Array:
    """Return the bits of a symbol in each bin, float32 of the tables' shape, with its low bits or its escape code."""
    bits = PRECISION - np.log2(tables)
    bits[:, :ESCAPE] += np.repeat(LOW_BITS, SUBSYMBOL_STEPS)[:, None]
    bits[:, ESCAPE] += 16
    return bits.astype(np.float32)


def load_prior_file(name: str) -> dict[str, Any]:
    """Return the arrays of a prior's file that ships with sdtrt; `BundleError` if there is none of this name."""
    path = resources.files("sdtrt.engine") / "data" / "priors" / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError as error:
        raise BundleError(f"prior {name} is not part of this version; a later sdtrt may have it") from error
