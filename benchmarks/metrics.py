"""How like two pictures are: PSNR, MS-SSIM, SSIMULACRA2; all higher for the better."""

import io
from dataclasses import astuple, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from pytorch_msssim import ms_ssim
from rivals import psnr
from ssimulacra2 import compute_ssimulacra2

METRICS = {"psnr": "PSNR dB", "ms_ssim": "MS-SSIM", "ssimulacra2": "SSIMULACRA2"}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Likeness:
    """PSNR in dB; MS-SSIM 0 to 1; SSIMULACRA2 up to 100 (90 is hard to tell from the original, 30 is low quality)."""

    psnr: float
    ms_ssim: float
    ssimulacra2: float

    def values(self) -> tuple[float, ...]:
        return astuple(self)


def likeness(original: Pixels, other: Pixels) -> Likeness:
    """Compare two RGB pictures, uint8 (H, W, 3) both, of at least 176 pixels a side."""
    planes = [torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() for p in (original, other)]
    return Likeness(
        psnr(original, other),
        float(ms_ssim(*planes, data_range=255)),
        ssimulacra2(original, other),
    )


def ssimulacra2(original: Pixels, other: Pixels) -> float:
    """Return the SSIMULACRA2 of an RGB picture beside another, uint8 (H, W, 3) both."""
    return float(compute_ssimulacra2(_png(original), _png(other)))


def at_rate(rate: float, rates: ArrayLike, values: ArrayLike) -> float:
    """Return the value at a rate, interpolated linearly in the rates' logarithms; beyond them, the nearest one's."""
    order = np.argsort(rates)
    return float(np.interp(np.log(rate), np.log(np.asarray(rates)[order]), np.asarray(values)[order]))


def _png(pixels: Pixels) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    stream.seek(0)
    return stream
