"""Perceptual masking: a larger lambda in textured regions, where errors are harder to see. Used by the encoder alone.

Texture masks errors: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", 2004, judge structure relative to
the energy around it. The constants are from trials on images that no model was trained on.
"""

import numpy as np

from sdtrt._arrays import F32Array

RADIUS = 2  # latents: the window around each position
ACTIVITY_FLOOR = np.float32(1)  # added to the activity, in squared quantization steps at step 1
REFERENCE_ACTIVITY = np.float32(6)  # activity of weight 1
MIN_WEIGHT, MAX_WEIGHT = np.float32(0.25), np.float32(4)


def masking_weights(latents: F32Array) -> F32Array:
    """Compute the factor of lambda at each position, float32 (h, w), 1/4 to 4.

    The activity is the sum over channels of the variance in a window. The weight is the fourth root of the activity
    plus a floor, relative to the reference activity.

    Arguments:
        latents: float32 (C, h, w), the channels of low luma frequencies, in quantization steps at step 1.
    """
    mean, mean_square = _window_mean(latents), _window_mean(latents * latents)
    variance = np.maximum(mean_square - mean * mean, 0)
    activity = variance[0]
    for plane in variance[1:]:
        activity = activity + plane
    # Square roots are exactly rounded, so the weights are the same on every machine.
    weight = np.sqrt(np.sqrt((activity + ACTIVITY_FLOOR) / REFERENCE_ACTIVITY))
    return np.minimum(np.maximum(weight, MIN_WEIGHT), MAX_WEIGHT)


def _window_mean(planes: F32Array) -> F32Array:
    """Average planes (C, h, w) over the window around each position; edges are repeated."""
    _, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)), mode="edge")
    rows = padded[:, :height]
    for n in range(1, 2 * RADIUS + 1):
        rows = rows + padded[:, n : n + height]
    sums = rows[:, :, :width]
    for n in range(1, 2 * RADIUS + 1):
        sums = sums + rows[:, :, n : n + width]
    return sums * np.float32(1 / (2 * RADIUS + 1) ** 2)
