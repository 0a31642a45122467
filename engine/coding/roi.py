"""Regions of interest, in the encoder alone: squared error counts more in some places, or, the same, bits less."""

from dataclasses import dataclass

import numpy as np

from sdtrt._arrays import F32Array

MAX_WEIGHT = 64.0


@dataclass(frozen=True, slots=True, eq=False)
class RoiWeights:
    """How many times as usual squared error counts at each pixel: `weights`, float32 (H, W), 1 to 64.

    All of an image has the steps of the largest weight; elsewhere bits are dearer by as much as the weight is smaller.
    """

    weights: F32Array

    def __post_init__(self) -> None:
        low, high = self.weights.min(initial=1), self.weights.max(initial=1)
        if not (np.isfinite([low, high]).all() and low >= 1 and high <= MAX_WEIGHT):
            raise ValueError(f"weights of interest from {low} to {high}, expected 1 (as usual) to {MAX_WEIGHT:.0f}")

    @property
    def largest(self) -> float:
        """The largest weight."""
        return float(self.weights.max())

    @property
    def is_uniform(self) -> bool:
        """Whether it is the same everywhere: the image has a higher quality then, and that is all."""
        return bool(self.weights.min() == self.weights.max())

    def rate_weights(self, size: int) -> F32Array:
        """Return by how much dearer bits are than at the largest weight, float32 (h, w), for each block of a size.

        A block takes the largest weight of its own and of those around it, which latents reach into.
        """
        height, width = self.weights.shape
        rows, columns = np.arange(0, height, size), np.arange(0, width, size)
        blocks = np.maximum.reduceat(np.maximum.reduceat(self.weights, rows, axis=0), columns, axis=1)
        padded = np.pad(blocks, 1, mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max((2, 3))
        return (self.weights.max() / around).astype(np.float32)
