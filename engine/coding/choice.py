"""Rate-distortion optimised quantization: the symbols, and the passes, that are worth their bits in squared error."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.passes import gather, gather_plane, present
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import BINS, Context, bins_of

MULTIPLIER = 0.1  # what a bit may cost in squared error, in squares of what symbols lie apart
DEAR = 0.75  # more than that, and symbols that lie further away may be the cheapest
RARE = 9.0  # bits, at the least, of a symbol other than 0 where nearly all are 0
SPARE = 1e-5  # squared steps for each symbol: a thousandth, or less, of what quantizing costs

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
        centroids: int8 (rows, BINS), reconstruction points in 1/64 symbol from each; None if they are all 0.
        multiplier: what a bit may cost in squared error, in squared symbols; or at each position, float32 (positions,).

    The cheapest in error^2 + multiplier * bits is chosen, errors counted in symbols: of the two on either side of a
    latent, and where bits may be dear, also of those up to what is expected.
    """
    wanted = context.counted(wanted)
    nearest = _of_two(wanted, context, bits, centroids, multiplier)
    if isinstance(multiplier, float) or multiplier.max(initial=0) <= DEAR:
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
        left, right = left - points.take(lower), right - points.take(upper)
    spent = bits.take(lower) - bits.take(upper)
    return symbols + (left * left - right * right + np.asarray(multiplier, np.float32) * spent > 0)


def passes_worth(coded: Floats, prior: Prior, multiplier: Multiplier) -> int:
    """Return how many of a prior's passes over latents in steps, float32 (C, h, w) in coding order, are worth sending.

    Those after them have next to no symbols that are worth their bits; where bits cost nothing, no symbols but 0. What
    predicted ones have is not known before.
    """
    passes = present(prior.passes(len(coded)), *coded.shape[1:])
    spare_each = SPARE if np.any(multiplier) else 0.0
    lost = spare = 0.0
    for count in range(len(passes), 0, -1):
        _, step = passes[count - 1]
        if step.predicted:
            return count
        wanted = gather(coded, step)
        each = multiplier if isinstance(multiplier, float) else gather_plane(multiplier, step)
        gained = wanted * wanted - np.square(wanted - np.rint(wanted)) - np.float32(RARE) * each
        lost += float(np.maximum(gained, 0).sum())
        spare += spare_each * wanted.size
        if lost > spare:
            return count
    return 0
