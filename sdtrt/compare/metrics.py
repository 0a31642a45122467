"""Image quality metrics: PSNR and SSIM."""

import numpy as np

from sdtrt._arrays import F64Array, U8Array
from sdtrt.engine.image import luma, psnr

__all__ = ["psnr", "ssim"]

WINDOW = 8  # pixels a side


def ssim(first: U8Array, second: U8Array) -> float:
    """Return the mean SSIM of the luma of two images; 1 if they are equal.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    2004, equation 13, over uniform windows of 8x8 pixels. A smaller side of an image is one window.

    Arguments:
        first, second: the images, uint8 (H, W, 3).
    """
    x, y = luma(first).astype(np.float64), luma(second).astype(np.float64)
    mean_x, mean_y = _window_means(x), _window_means(y)
    square_x, square_y, product = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    variance_x, variance_y = _window_means(x * x) - square_x, _window_means(y * y) - square_y
    covariance = _window_means(x * y) - product
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (
        (2 * product + c1) * (2 * covariance + c2) / ((square_x + square_y + c1) * (variance_x + variance_y + c2))
    )
    return float(similarity.mean())


def _window_means(plane: F64Array) -> F64Array:
    """Return the mean of each window at each position, from cumulative sums."""
    for axis in (0, 1):
        side = min(WINDOW, plane.shape[axis])
        sums = np.cumsum(np.insert(plane, 0, 0, axis), axis)
        plane = np.take(sums, range(side, sums.shape[axis]), axis) - np.take(sums, range(sums.shape[axis] - side), axis)
        plane /= side
    return plane
