"""A perceptual loss: the features of SSIMULACRA2 with significant weights.

Jon Sneyers, "SSIMULACRA 2 - Structural SIMilarity Unveiling Local And Compression Related Artifacts", 2022-2023
(https://github.com/cloudinary/ssimulacra2), fitted 108 features to human ratings of compressed images: lost structure,
new edges and lost edges, of three channels, at six scales, as means and as fourth roots of mean fourth powers. Most of
their weights are nearly 0.
"""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMA, RADIUS = 1.5, 4  # pixels, of the Gaussian window
FLOOR = 0.0009  # constant added to energies

# ISO/IEC 18181-1, annex L: matrix from linear RGB to cone responses, and the bias before their cube roots.
CONES = (
    (0.3, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
BIAS = 0.0037930732552754493


class Weights(NamedTuple):
    """Weights of the features of one channel at one scale.

    Attributes:
        scale: Number of halvings of the image.
        channel: Index of X, Y or B.
        means: Weights of the means of lost structure, new edges and lost edges.
        peaks: Weights of their fourth roots of mean fourth powers.
    """

    scale: int
    channel: int
    means: tuple[float, float, float]
    peaks: tuple[float, float, float]


WEIGHTS = (  # all above 0.3
    Weights(0, 1, (0, 0, 0), (7.466890328078848, 0, 17.445833984131262)),
    Weights(1, 0, (0, 0, 0), (1.1041726426657346, 0, 0)),
    Weights(1, 1, (0, 0, 0), (6.683678146179332, 0, 1.027889937768264)),
    Weights(2, 0, (0, 0, 0), (1.8422455520539298, 11.441172603757666, 0)),
    Weights(2, 1, (225.20515300849274, 0, 0), (19.213238186143016, 0, 0)),
    Weights(3, 0, (0, 0, 0), (1.8787594979546387, 10.94906990605142, 0)),
    Weights(3, 1, (176.39317598450694, 0, 0), (24.43300999870476, 0, 0)),
    Weights(3, 2, (0, 0, 0), (8.826982764996862, 23.19243343998926, 0)),
    Weights(4, 0, (0, 0.9677937080626833, 0), (0, 0.9981766977854967, 0)),
    Weights(4, 1, (0, 0, 0), (34.77906344483772, 44.835625328877896, 0)),
    Weights(
        4, 2, (95.1080498811086, 0.9863978034400682, 0.9834382792465353), (0, 171.2667255897307, 0.9807858872435379)
    ),
)


def ssimulacra2_loss(decoded: Tensor, original: Tensor) -> Tensor:
    """Return the weighted sum of SSIMULACRA2's features, float32 (N,): about 11 at a score of 30, about 0 at 100.

    Arguments:
        decoded: Decoded images, float32 (N, 3, H, W) in [-1, 1], of at least 64 pixels a side; values are clamped.
        original: The original images, in the same form.
    """
    first, second, scale = linear(original), linear(decoded), 0
    total = original.new_zeros(len(original))
    for weights in WEIGHTS:
        while scale < weights.scale:
            first, second, scale = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2), scale + 1
        maps = measures(channel(first, weights.channel), channel(second, weights.channel))
        for feature_map, mean, peak in zip(maps, weights.means, weights.peaks, strict=True):
            if mean:
                total = total + mean * feature_map.mean((1, 2, 3))
            if peak:
                total = total + peak * (feature_map.square().square().mean((1, 2, 3)) + 1e-12) ** 0.25
    return total


def linear(pixels: Tensor) -> Tensor:
    """Convert sRGB in [-1, 1] to linear RGB in [0, 1] (IEC 61966-2-1)."""
    encoded = ((pixels + 1) / 2).clamp(0, 1)
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def channel(rgb: Tensor, which: int) -> Tensor:
    """Return X, Y or B of JPEG XL's XYB, (N, 1, H, W), of linear RGB, scaled as in SSIMULACRA2."""
    long, middle, short = (response(rgb, cone) for cone in CONES)
    brightness = (long + middle) / 2
    return (7 * (long - middle), brightness, short - brightness)[which]


def response(rgb: Tensor, cone: tuple[float, float, float]) -> Tensor:
    """Return the response of a cone, (N, 1, H, W), to linear RGB."""
    red, green, blue = rgb.split(1, dim=1)
    return (cone[0] * red + cone[1] * green + cone[2] * blue + BIAS).clamp_min(1e-6) ** (1 / 3) - BIAS ** (1 / 3)


def measures(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return maps of lost structure, new edges and lost edges of `second` against `first`; all are (N, 1, H, W).

    Structure is the SSIM of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", 2004, without the
    denominator of the luminance term.
    """
    mean_first, mean_second = blurred(first), blurred(second)
    energy = blurred(first.square() + second.square()) - mean_first.square() - mean_second.square()
    shared = 2 * (blurred(first * second) - mean_first * mean_second) + FLOOR
    similarity = (1 - (mean_first - mean_second).square()) * shared / (energy.clamp_min(0) + FLOOR)
    edges = (1 + (second - mean_second).abs()) / (1 + (first - mean_first).abs()) - 1
    return (1 - similarity).clamp_min(0), edges.clamp_min(0), (-edges).clamp_min(0)


def blurred(plane: Tensor) -> Tensor:
    """Blur a plane, (N, 1, H, W), with a Gaussian window; edges are repeated."""
    height, width = plane.shape[2:]
    return window(height, plane.device) @ plane @ window(width, plane.device).mT


@cache
def window(side: int, device: torch.device) -> Tensor:
    """Return the Gaussian blur along a side as a matrix, float32 (side, side), which is faster than a convolution."""
    offsets = torch.arange(-RADIUS, RADIUS + 1)
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    positions = torch.arange(side)[:, None]
    matrix = torch.zeros(side, side)
    matrix.scatter_add_(1, (positions + offsets).clamp(0, side - 1), (weights / weights.sum()).expand(side, -1))
    return matrix.to(device)
