"""Rate-distortion optimised quantization (RDOQ): the symbols that minimise D + lambda R, pass by pass.

D is the squared error of the latents, R the bits of the entropy model. Errors are in distances of neighbouring symbols.
"""

from dataclasses import dataclass

import numpy as np

from sdtrt._arrays import F32Array, I8Array, I32Array
from sdtrt.engine.coding.priors.passes import gather, gather_plane, non_empty
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import NUM_BINS, Context, bins_of

RDOQ_LAMBDA = 0.1  # squared symbol distances per bit, in J = D + lambda R
LAMBDA_FOR_MORE_CANDIDATES = 0.75  # above it more than the two nearest symbols are tried
MIN_NONZERO_BITS = 9.0  # bits of a symbol other than 0 in a pass of almost only zeros, at least
SKIP_TOLERANCE = 1e-5  # squared quantization steps per symbol: at most a thousandth of the quantization error

LambdaMap = float | F32Array  # one lambda, or one for each position


def quantize_rdo(
    target: F32Array, context: Context, bits: F32Array, centroids: I8Array | None, lmbda: LambdaMap
) -> I32Array:
    """Choose the symbols of a pass that minimise squared error + lambda * bits.

    Candidates are the two symbols nearest to each latent. Where lambda is large, the symbols between them and the mode
    of the distribution are candidates too.

    Arguments:
        target: float32 (channels of the pass, positions), the latents in quantization steps.
        context: the context of the pass.
        bits: float32 (rows, bins), the rate of each bin of each table.
        centroids: int8 (rows, bins), reconstruction offset of each bin in 1/64 symbol, or None if all are 0.
        lmbda: squared symbol distances per bit; a number, or float32 (positions,).

    Returns the symbols, int32 (channels of the pass, positions).
    """
    target = context.to_symbol_units(target)
    nearest = _nearest_two(target, context, bits, centroids, lmbda)
    if isinstance(lmbda, float) or lmbda.max(initial=0) <= LAMBDA_FOR_MORE_CANDIDATES:
        return nearest
    costs = _RdCost(target, context, bits, centroids, lmbda)
    best, least = nearest, costs.of(nearest)
    mode = context.mode()
    for candidate in (nearest + np.sign(mode - nearest), (nearest + mode) >> 1, mode):
        cost = costs.of(candidate)
        best, least = np.where(cost < least, candidate, best), np.minimum(cost, least)
    return best


@dataclass(frozen=True, slots=True)
class _RdCost:
    """The cost of symbols of a pass; the fields are the arguments of `quantize_rdo`."""

    target: F32Array
    context: Context
    bits: F32Array
    centroids: I8Array | None
    lmbda: F32Array

    def of(self, symbols: I32Array) -> F32Array:
        rows, bins = self.context.table_rows(), bins_of(symbols - self.context.base(), self.context.low_bits())
        error = self.target - symbols.astype(np.float32)
        if self.centroids is not None:
            error -= self.centroids[rows, bins] * np.float32(1 / 64)
        return error * error + self.lmbda * self.bits[rows, bins]


def _nearest_two(
    target: F32Array, context: Context, bits: F32Array, centroids: I8Array | None, lmbda: LambdaMap
) -> I32Array:
    """Choose the cheaper of the two symbols next to each latent."""
    floor = np.floor(target)
    symbols = floor.astype(np.int32)
    rows, low_bits = context.table_rows() * NUM_BINS, context.low_bits()
    difference = symbols - context.base()
    lower_bin, upper_bin = rows + bins_of(difference, low_bits), rows + bins_of(difference + 1, low_bits)
    lower_error = target - floor
    upper_error = lower_error - 1
    if centroids is not None:
        offsets = centroids.ravel() * np.float32(1 / 64)
        lower_error, upper_error = lower_error - offsets.take(lower_bin), upper_error - offsets.take(upper_bin)
    rate_delta = bits.take(lower_bin) - bits.take(upper_bin)
    cost_delta = lower_error * lower_error - upper_error * upper_error + np.asarray(lmbda, np.float32) * rate_delta
    return symbols + (cost_delta > 0)


def count_useful_passes(ordered: F32Array, prior: Prior, lmbda: LambdaMap) -> int:
    """Count the first passes that are worth their bits; the passes after them have almost no symbols but 0.

    Predicted passes always count, because their symbols are only known once the contexts are.

    Arguments:
        ordered: float32 (C, h, w), latents in quantization steps, channels in coding order.
        prior: the entropy model.
        lmbda: squared symbol distances per bit; a number, or float32 (h, w). At 0 only passes of zeros are left out.
    """
    passes = non_empty(prior.passes(len(ordered)), *ordered.shape[1:])
    tolerance_per_symbol = SKIP_TOLERANCE if np.any(lmbda) else 0.0
    loss = tolerance = 0.0
    for count in range(len(passes), 0, -1):
        _, coding_pass = passes[count - 1]
        if coding_pass.predicted:
            return count
        target = gather(ordered, coding_pass)
        pass_lmbda = lmbda if isinstance(lmbda, float) else gather_plane(lmbda, coding_pass)
        gain = target * target - np.square(target - np.rint(target)) - np.float32(MIN_NONZERO_BITS) * pass_lmbda
        loss += float(np.maximum(gain, 0).sum())
        tolerance += tolerance_per_symbol * target.size
        if loss > tolerance:
            return count
    return 0
