"""Regions of interest, in the encoder alone: squared error counts more in some places, or, the same, bits less."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

OCTAVE = 256  # step codes
LARGEST_WEIGHT = 64.0


@dataclass(frozen=True, slots=True, eq=False)
class Interest:
    """How many times as usual squared error counts at each pixel: `weights`, float32 (H, W), 1 to 64.

    At high rate the squared error of a quantizer goes with the square of its step, so that a weight of w asks for a
    step smaller by the root of w. All of a picture has one step, that of the largest weight; elsewhere bits are dearer
    by as much as the weight is smaller.
    """

    weights: Floats

    def __post_init__(self) -> None:
        low, high = self.weights.min(initial=1), self.weights.max(initial=1)
        if not (np.isfinite([low, high]).all() and low >= 1 and high <= LARGEST_WEIGHT):
            raise ValueError(f"weights of interest from {low} to {high}, expected 1 (as usual) to {LARGEST_WEIGHT:.0f}")

    @property
    def finer(self) -> int:
        """By how many step codes the picture's step is finer than without interest."""
        return round(OCTAVE / 2 * math.log2(self.weights.max()))

    @property
    def is_even(self) -> bool:
        """Whether it is the same everywhere: the picture has a finer step then, and that is all."""
        return bool(self.weights.min() == self.weights.max())

    def price(self, downscale: int) -> Floats:
        """Return by how much dearer bits are than at the largest weight, float32 (h, w), for each latent.

        A latent takes the largest weight of its block and of those around it, which it reaches into.
        """
        height, width = self.weights.shape
        rows, columns = np.arange(0, height, downscale), np.arange(0, width, downscale)
        blocks = np.maximum.reduceat(np.maximum.reduceat(self.weights, rows, axis=0), columns, axis=1)
        padded = np.pad(blocks, 1, mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max((2, 3))
        return (self.weights.max() / around).astype(np.float32)
