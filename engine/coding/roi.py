"""Region of interest (ROI): weights of the squared error, used by the encoder alone."""

from dataclasses import dataclass

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.coding.encode_options import MAX_ROI_WEIGHT


@dataclass(frozen=True, slots=True, eq=False)
class RoiWeights:
    """The weight of the squared error of each pixel.

    The whole image gets the quantization steps of the largest weight. Where the weight is smaller, lambda is larger in
    proportion.

    Attributes:
        weights: float32 (H, W), 1 (normal) to 64.

    Raises:
        ValueError: if a weight is out of range.
    """

    weights: F32Array

    def __post_init__(self) -> None:
        low, high = self.weights.min(initial=1), self.weights.max(initial=1)
        if not (np.isfinite([low, high]).all() and low >= 1 and high <= MAX_ROI_WEIGHT):
            raise ValueError(f"ROI weights from {low} to {high}, expected 1 (normal) to {MAX_ROI_WEIGHT:.0f}")

    @property
    def largest(self) -> float:
        """The largest weight."""
        return float(self.weights.max())

    @property
    def is_uniform(self) -> bool:
        """Whether all weights are equal, which only means a higher quality for the whole image."""
        return bool(self.weights.min() == self.weights.max())

    def rate_weights(self, size: int) -> F32Array:
        """Compute the factor of lambda for each block, float32 (blocks down, blocks across), at least 1.

        A block takes the largest weight of itself and its neighbours, since latents affect the pixels around them.

        Arguments:
            size: side of a block in pixels.
        """
        height, width = self.weights.shape
        rows, columns = np.arange(0, height, size), np.arange(0, width, size)
        blocks = np.maximum.reduceat(np.maximum.reduceat(self.weights, rows, axis=0), columns, axis=1)
        padded = np.pad(blocks, 1, mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max((2, 3))
        return (self.weights.max() / around).astype(np.float32)
