"""What eyes miss first in a decoded picture, as a loss: structure of brightness, scale by scale.

Jon Sneyers, "SSIMULACRA 2 - Structural SIMilarity Unveiling Local And Compression Related Artifacts", 2022-2023
(https://github.com/cloudinary/ssimulacra2), fitted 108 measures to what people say of compressed pictures. The two
largest of its weights are those of the mean structure lost of JPEG XL's brightness at a quarter and an eighth of the
size; they are here, too.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE_WEIGHTS = (0.1, 0.1, 0.5, 0.25, 0.05)  # of the whole size, a half, a quarter …
SIGMA, RADIUS = 1.5, 4  # pixels, of the Gaussian window
FLOOR = 0.0009  # of the energy that structure is measured by

# ISO/IEC 18181-1, annex L: linear RGB to the two cone responses that brightness is the mean of; bias of the cube roots.
_CONES = ((0.3, 0.622, 0.078), (0.23, 0.692, 0.078))
_BIAS = 0.0037930732552754493


def lost_structure(decoded: Tensor, original: Tensor) -> Tensor:
    """Return the share of structure lost in each picture, float32 (N,): 0 if they are the same.

    Both are float32 (N, 3, H, W) in [-1, 1], of at least 64 pixels a side; what is out of range is clamped.
    """
    first, second = linear(original), linear(decoded)
    lost = original.new_zeros(len(original))
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
        lost = lost + weight / sum(SCALE_WEIGHTS) * lost_map(brightness(first), brightness(second)).mean((1, 2, 3))
    return lost


def linear(pixels: Tensor) -> Tensor:
    """Return sRGB in [-1, 1] as linear RGB in [0, 1] (IEC 61966-2-1)."""
    encoded = ((pixels + 1) / 2).clamp(0, 1)
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def brightness(rgb: Tensor) -> Tensor:
    """Return the Y of JPEG XL's XYB, (N, 1, H, W), of linear RGB."""
    red, green, blue = rgb.split(1, dim=1)
    cones = torch.cat([r * red + g * green + b * blue for r, g, b in _CONES], dim=1) + _BIAS
    return (cones.clamp_min(1e-6) ** (1 / 3)).mean(1, keepdim=True) - _BIAS ** (1 / 3)


def lost_map(first: Tensor, second: Tensor) -> Tensor:
    """Return where `second` has lost structure of `first`, planes (N, 1, H, W) both: 1 less their similarity there.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", 2004, without the luminance term's denominator.
    """
    mean_first, mean_second = blurred(first), blurred(second)
    energy = blurred(first.square() + second.square()) - mean_first.square() - mean_second.square()
    shared = 2 * (blurred(first * second) - mean_first * mean_second) + FLOOR
    similarity = (1 - (mean_first - mean_second).square()) * shared / (energy.clamp_min(0) + FLOOR)
    return (1 - similarity).clamp_min(0)


def blurred(plane: Tensor) -> Tensor:
    """Return a plane, (N, 1, H, W), in a Gaussian window; edges are repeated."""
    height, width = plane.shape[2:]
    return window(height, plane.device) @ plane @ window(width, plane.device).mT


@cache
def window(side: int, device: torch.device) -> Tensor:
    """Return the Gaussian window along a side, as a matrix, float32 (side, side): faster than a convolution."""
    places = torch.arange(-RADIUS, RADIUS + 1)
    weights = torch.exp(-places.square() / (2 * SIGMA**2))
    positions = torch.arange(side)[:, None]
    matrix = torch.zeros(side, side)
    matrix.scatter_add_(1, (positions + places).clamp(0, side - 1), (weights / weights.sum()).expand(side, -1))
    return matrix.to(device)
