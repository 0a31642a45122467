"""The adaptive prior: three parameters per channel, which the encoder fits (`adaptive_fit`) and the file
contains.
"""

from functools import cache

import numpy as np

from sdtrt._arrays import I32Array, IndexArray, U8Array, U32Array
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, PYRAMID, InnerEdges
from sdtrt.engine.coding.priors.symbol_planes import AdaptivePass, SymbolPlanes, adaptive_passes
from sdtrt.engine.coding.priors.tables import NUM_SCALES, Context, load_prior_file
from sdtrt.errors import FormatError


class AdaptivePrior:
    """A prior for latent spaces without a trained one.

    Five passes code all channels at once, over a pyramid of positions. In the first pass the location is 0, and the
    scale is `first_scale`. In later passes the location is `weight`/8 times the mean of the nearest known neighbours;
    the scale is `base_scale` plus a multiple of the mean magnitude of the neighbours.
    """

    centroids, has_recon_offsets = None, False
    cuts = (3, 4)  # of five passes: levels end at a quarter and at half of the positions
    PARAMETERS = 3  # bytes per channel: weight 0 … 8, base_scale 0 … 31, first_scale 0 … 31

    def __init__(self, parameters: U8Array) -> None:
        """Take the parameters, uint8 (channels, 3); `FormatError` if one is out of range."""
        if (parameters > (8, NUM_SCALES - 1, NUM_SCALES - 1)).any():
            raise FormatError(
                f"the adaptive prior's parameters {parameters.max(0).tolist()} are out of range, "
                f"expected at most {[8, NUM_SCALES - 1, NUM_SCALES - 1]}"
            )
        self.parameters = parameters
        self.weight, self.base_scale, self.first_scale = parameters.astype(np.int32).T[:, :, None]
        self.tables = adaptive_tables()

    def passes(self, channels: int) -> tuple[AdaptivePass, ...]:
        return adaptive_passes(channels, PYRAMID, reach=2)

    def order(self, channels: int) -> IndexArray:
        return np.arange(channels)

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: InnerEdges = NO_INNER_EDGES) -> SymbolPlanes:
        return SymbolPlanes(shape, inner)

    def context(self, coding_pass: AdaptivePass, planes: SymbolPlanes, number: int) -> Context:
        channels, count = coding_pass.stop, planes.positions(coding_pass)
        if number == 0:
            zeros = np.zeros((channels, count), np.int32)
            return Context(zeros, zeros + self.first_scale)
        return adaptive_context(*neighbour_means(coding_pass, planes), self.weight, self.base_scale)


def neighbour_means(coding_pass: AdaptivePass, planes: SymbolPlanes) -> tuple[I32Array, I32Array]:
    """Return two means over a pass's known neighbours, int32 (channels, positions) each, in 1/8.

    The first is the mean symbol at the nearest taps. The second is the mean compressed magnitude at all taps; the
    nearest taps have double weight.
    """
    distances = np.array([abs(dy) + abs(dx) for dy, dx in coding_pass.taps])
    is_nearest = distances == distances.min()
    shape = (len(is_nearest), coding_pass.stop - coding_pass.start, -1)
    signed = planes.signed(coding_pass).reshape(shape).astype(np.int32)
    magnitudes = planes.magnitudes(coding_pass).reshape(shape).astype(np.int32)
    mean = (signed[is_nearest].sum(0) * 8 + is_nearest.sum() // 2) // is_nearest.sum()
    tap_weights = np.where(is_nearest, 2, 1)
    magnitude = (magnitudes * tap_weights[:, None, None]).sum(0) * 8 // tap_weights.sum()
    return mean.astype(np.int32), magnitude.astype(np.int32)


def adaptive_context(
    mean: I32Array, magnitude: I32Array, weight: I32Array | int, base_scale: I32Array | int
) -> Context:
    """Return the context of two parameters and the `neighbour_means`."""
    return Context(mean * weight >> 3, np.minimum(base_scale + (magnitude * 3 >> 7), NUM_SCALES - 1))


@cache
def adaptive_tables() -> U32Array:
    """Return the tables of the adaptive prior, which ship with sdtrt."""
    tables: U32Array = load_prior_file("adaptive-1")["tables"]
    return tables
