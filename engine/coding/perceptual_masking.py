"""Where errors are seen least: activity around them masks them, so bits are dearer there. In the encoder alone.

That structure is judged beside the energy around it, see "Image quality assessment" by Wang, Bovik, Sheikh and
Simoncelli, 2004; the numbers are from trials on images that nothing was trained on.
"""

import numpy as np

from sdtrt._arrays import F32Array

RADIUS = 2  # latents, of the window around each
ACTIVITY_FLOOR = np.float32(1)  # the least activity, in squared steps at step 1
REFERENCE_ACTIVITY = np.float32(6)  # what has price 1
MIN_WEIGHT, MAX_WEIGHT = np.float32(0.25), np.float32(4)


def masking_weights(latents: F32Array) -> F32Array:
    """Return by how much dearer than usual bits are at each position, float32 (h, w), 1/4 to 4.

    `latents`, float32 (C, h, w), are those of low frequencies of brightness, in steps at step 1. The sum of their
    variances in a window is the activity; the price is the fourth root of it, and the floor, beside what is usual.
    """
    mean, mean_square = _windowed(latents), _windowed(latents * latents)
    activity = np.maximum(mean_square - mean * mean, 0)
    total = activity[0]
    for plane in activity[1:]:
        total = total + plane
    weight = np.sqrt(
        np.sqrt((total + ACTIVITY_FLOOR) / REFERENCE_ACTIVITY)
    )  # square roots alone: the same on every machine
    return np.minimum(np.maximum(weight, MIN_WEIGHT), MAX_WEIGHT)


def _windowed(planes: F32Array) -> F32Array:
    """Return the mean around each position of planes (C, h, w), whose edges are repeated."""
    _, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)), mode="edge")
    rows = padded[:, :height]
    for n in range(1, 2 * RADIUS + 1):
        rows = rows + padded[:, n : n + height]
    found = rows[:, :, :width]
    for n in range(1, 2 * RADIUS + 1):
        found = found + rows[:, :, n : n + width]
    return found * np.float32(1 / (2 * RADIUS + 1) ** 2)
