"""Rate-distortion optimised quantization: the symbols that cost least in squared error plus bits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.tables import BINS, Context, bins_of

MULTIPLIER = 0.1  # what a bit may cost in squared error, in squared steps

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Multiplier = float | Floats


def choose(
    wanted: Floats, context: Context, bits: Floats, centroids: NDArray[np.int8] | None, multiplier: Multiplier
) -> Ints:
    """Return a pass's symbols, int32 (channels of the pass, positions).

    Arguments:
        wanted: float32 (channels of the pass, positions), the latents in steps.
        bits: float32 (rows, BINS), of each entry of each table.
        centroids: int8 (rows, BINS), reconstruction points in 1/64 step from each symbol; None if they are all 0.
        multiplier: what a bit may cost in squared error, in squared steps; or at each position, float32 (positions,).

    The cheapest in error^2 + multiplier * bits is chosen: of the two symbols on either side of a latent, and where
    prices differ from position to position, and may be high, also of those up to what is expected.
    """
    nearest = _of_two(wanted, context, bits, centroids, multiplier)
    if isinstance(multiplier, float):
        return nearest
    costs = _Costs(wanted, context, bits, centroids, multiplier)
    best, least = nearest, costs.of(nearest)
    expected = context.expected()
    for candidate in (nearest + np.sign(expected - nearest), (nearest + expected) >> 1, expected):
        cost = costs.of(candidate)
        best, least = np.where(cost < least, candidate, best), np.minimum(cost, least)
    return best


@dataclass(frozen=True, slots=True)
class _Costs:
    """What symbols of a pass cost; fields as the arguments of `choose`."""

    wanted: Floats
    context: Context
    bits: Floats
    centroids: NDArray[np.int8] | None
    multiplier: Floats

    def of(self, symbols: Ints) -> Floats:
        """Return error^2 + multiplier * bits of each."""
        rows, bins = self.context.rows(), bins_of(symbols - self.context.base(), self.context.low_bits())
        error = self.wanted - symbols.astype(np.float32)
        if self.centroids is not None:
            error -= self.centroids[rows, bins] * np.float32(1 / 64)
        return error * error + self.multiplier * self.bits[rows, bins]


def _of_two(
    wanted: Floats, context: Context, bits: Floats, centroids: NDArray[np.int8] | None, multiplier: Multiplier
) -> Ints:
    """Return of the two symbols on either side of each latent the cheaper."""
    below = np.floor(wanted)
    symbols = below.astype(np.int32)
    rows, low_bits = context.rows() * BINS, context.low_bits()
    residual = symbols - context.base()
    lower, upper = rows + bins_of(residual, low_bits), rows + bins_of(residual + 1, low_bits)
    left = wanted - below
    right = left - 1
    if centroids is not None:
        points = centroids.ravel() * np.float32(1 / 64)
        left, right = left - points[lower], right - points[upper]
    spent = bits.ravel()[lower] - bits.ravel()[upper]
    return symbols + (left * left - right * right + np.asarray(multiplier, np.float32) * spent > 0)
