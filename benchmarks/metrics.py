"""Similarity of two images by PSNR, MS-SSIM and SSIMULACRA2. A higher value is better for each."""

import io

import numpy as np
import torch
from harness import Pixels
from numpy.typing import ArrayLike
from PIL import Image
from pytorch_msssim import ms_ssim
from ssimulacra2 import compute_ssimulacra2

from sdtrt.engine.image import psnr

METRICS = {"psnr": "PSNR dB", "ms_ssim": "MS-SSIM", "ssimulacra2": "SSIMULACRA2"}


def all_metrics(original: Pixels, other: Pixels) -> dict[str, float]:
    """Return PSNR in dB, MS-SSIM from 0 to 1, and SSIMULACRA2 up to 100, by the names of `METRICS`.

    Both images are RGB, uint8 (H, W, 3), with at least 176 pixels a side. SSIMULACRA2 gives 90 to an image that is hard
    to distinguish from the original, and 30 to one of low quality.
    """
    planes = [torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() for pixels in (original, other)]
    return {
        "psnr": psnr(original, other),
        "ms_ssim": float(ms_ssim(*planes, data_range=255)),
        "ssimulacra2": ssimulacra2(original, other),
    }


def ssimulacra2(original: Pixels, other: Pixels) -> float:
    """Return the SSIMULACRA2 of an RGB image against the original, both uint8 (H, W, 3)."""
    return float(compute_ssimulacra2(_png(original), _png(other)))


def value_at_rate(rate: float, rates: ArrayLike, values: ArrayLike) -> float:
    """Interpolate linearly in the logarithm of the rate; beyond the curve, return its nearest value."""
    order = np.argsort(rates)
    return float(np.interp(np.log(rate), np.log(np.asarray(rates)[order]), np.asarray(values)[order]))


def _png(pixels: Pixels) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    stream.seek(0)
    return stream
