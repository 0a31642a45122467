"""Rate-distortion optimised quantization: the symbols, and the passes, that are worth their bits in squared error."""

from dataclasses import dataclass

import numpy as np

from sdtrt._arrays import F32Array, I8Array, I32Array
from sdtrt.engine.coding.priors.passes import gather, gather_plane, non_empty
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import NUM_BINS, Context, bins_of

RDOQ_LAMBDA = 0.1  # what a bit may cost in squared error, in squares of what symbols lie apart
LAMBDA_FOR_MORE_CANDIDATES = 0.75  # more than that, and symbols that lie further away may be the cheapest
MIN_NONZERO_BITS = 9.0  # bits, at the least, of a symbol other than 0 where nearly all are 0
SKIP_TOLERANCE = 1e-5  # squared steps for each symbol: a thousandth, or less, of what quantizing costs

LambdaMap = float | F32Array


def quantize_rdo(
    target: F32Array, context: Context, bits: F32Array, centroids: I8Array | None, lmbda: LambdaMap
) -> I32Array:
    """Return a pass's symbols, int32 (channels of the pass, positions).

    Arguments:
        wanted: float32 (channels of the pass, positions), the latents in steps.
        bits: float32 (rows, BINS), of each entry of each table.
        centroids: int8 (rows, BINS), reconstruction points in 1/64 symbol from each; None if they are all 0.
        multiplier: what a bit may cost in squared error, in squared symbols; or at each position, float32 (positions,).

    The cheapest in error^2 + multiplier * bits is chosen, errors counted in symbols: of the two on either side of a
    latent, and where bits may be dear, also of those up to what is expected.
    """
    target = context.to_symbol_units(target)
    nearest = _nearest_two(target, context, bits, centroids, lmbda)
    if isinstance(lmbda, float) or lmbda.max(initial=0) <= LAMBDA_FOR_MORE_CANDIDATES:
        return nearest
    costs = _RdCost(target, context, bits, centroids, lmbda)
    best, least = nearest, costs.of(nearest)
    expected = context.mode()
    for candidate in (nearest + np.sign(expected - nearest), (nearest + expected) >> 1, expected):
        cost = costs.of(candidate)
        best, least = np.where(cost < least, candidate, best), np.minimum(cost, least)
    return best


@dataclass(frozen=True, slots=True)
class _RdCost:
    """What symbols of a pass cost; fields as the arguments of `quantize_rdo`."""

    target: F32Array
    context: Context
    bits: F32Array
    centroids: I8Array | None
    lmbda: F32Array

    def of(self, symbols: I32Array) -> F32Array:
        """Return error^2 + multiplier * bits of each."""
        rows, bins = self.context.table_rows(), bins_of(symbols - self.context.base(), self.context.low_bits())
        error = self.target - symbols.astype(np.float32)
        if self.centroids is not None:
            error -= self.centroids[rows, bins] * np.float32(1 / 64)
        return error * error + self.lmbda * self.bits[rows, bins]


def _nearest_two(
    target: F32Array, context: Context, bits: F32Array, centroids: I8Array | None, lmbda: LambdaMap
) -> I32Array:
    """Return of the two symbols on either side of each latent the cheaper."""
    below = np.floor(target)
    symbols = below.astype(np.int32)
    rows, low_bits = context.table_rows() * NUM_BINS, context.low_bits()
    residual = symbols - context.base()
    lower, upper = rows + bins_of(residual, low_bits), rows + bins_of(residual + 1, low_bits)
    left = target - below
    right = left - 1
    if centroids is not None:
        points = centroids.ravel() * np.float32(1 / 64)
        left, right = left - points.take(lower), right - points.take(upper)
    spent = bits.take(lower) - bits.take(upper)
    return symbols + (left * left - right * right + np.asarray(lmbda, np.float32) * spent > 0)


def count_useful_passes(coded: F32Array, prior: Prior, lmbda: LambdaMap) -> int:
    """Return how many of a prior's passes over latents in steps, float32 (C, h, w) in coding order, are worth sending.

    Those after them have next to no symbols that are worth their bits; where bits cost nothing, no symbols but 0. What
    predicted ones have is not known before.
    """
    passes = non_empty(prior.passes(len(coded)), *coded.shape[1:])
    spare_each = SKIP_TOLERANCE if np.any(lmbda) else 0.0
    lost = spare = 0.0
    for count in range(len(passes), 0, -1):
        _, coding_pass = passes[count - 1]
        if coding_pass.predicted:
            return count
        target = gather(coded, coding_pass)
        each = lmbda if isinstance(lmbda, float) else gather_plane(lmbda, coding_pass)
        gained = target * target - np.square(target - np.rint(target)) - np.float32(MIN_NONZERO_BITS) * each
        lost += float(np.maximum(gained, 0).sum())
        spare += spare_each * target.size
        if lost > spare:
            return count
    return 0
