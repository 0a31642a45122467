"""One image, or its middle, by several codecs at the same number of bytes: files, figures and rate curves."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sdtrt._arrays import BoolArray, U8Array
from sdtrt.codec import Codec
from sdtrt.compare.likeness import psnr, ssim
from sdtrt.compare.rivals import RIVALS, Encode, at_bytes, decoded
from sdtrt.images.convert import ImageLike, to_engine_image
from sdtrt.images.options import ImageEncodeOptions
from sdtrt.images.roi import mask_of

OURS = "sdtrt"
MAX_COMPARED = 768  # pixels a side: of larger images the middle is compared, so that it takes seconds
QUALITIES = {OURS: (1, 10, 20, 30, 45, 60, 80), "JPEG": (2, 5, 10, 20, 35, 55), "WebP": (1, 10, 25, 45, 65)}
OTHER_QUALITIES = (5, 20, 35, 50, 65)

WHITE = 128  # in a mask, from where on a pixel counts as the region's


@dataclass(frozen=True, slots=True)
class Result:
    """What a codec made of an image; PSNR in dB, SSIM up to 1."""

    codec: str
    nbytes: int
    bits_per_pixel: float
    psnr: float
    ssim: float
    pixels: U8Array


@dataclass(frozen=True, slots=True)
class Gain:
    """What a region of interest gains and the rest loses, in dB of PSNR, beside a file of at most as many bytes.

    None where there is no rest.
    """

    weight: float
    region_with: float
    region_without: float
    rest_with: float | None
    rest_without: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One image of a size, and what each codec made of it, or of its middle; `curves` are (bits per pixel, PSNR)."""

    name: str
    width: int
    height: int
    pixels: U8Array  # what was compared
    results: list[Result]
    curves: dict[str, list[tuple[float, float]]]
    roi: Gain | None = None


def compare(
    codec: Codec,
    name: str,
    image: ImageLike,
    options: ImageEncodeOptions,
) -> Comparison:
    """Encode an image by sdtrt, and by each rival into at most as many bytes, or into the fewest that it can.

    Of an image of more than `MAX_COMPARED` pixels a side it is the middle. Errors as in `Codec.encode`, and
    `ValueError` if the middle has nothing of a region of interest. Alpha is left out: what is compared is colour.
    """
    whole = to_engine_image(image).pixels
    pixels, mask = middle(whole), None
    if options.roi is not None:
        mask = middle(mask_of(options.roi, whole.shape[1], whole.shape[0]))
        if mask.max() < WHITE:
            raise ValueError("the region of interest is not in the middle of the image, which is compared")
    data = codec._encode(pixels, replace(options, roi=mask))
    files = {OURS: data} | {
        rival: at_bytes(encode, Image.fromarray(pixels), len(data))[1] for rival, encode in RIVALS.items()
    }
    results = [_result(name, pixels, _decoded(codec, file), len(file)) for name, file in files.items()]
    gain = None if mask is None else _gain(codec, results[0], pixels, mask >= WHITE, options.roi_weight)
    return Comparison(name, whole.shape[1], whole.shape[0], pixels, results, _curves(codec, pixels), gain)


def _gain(codec: Codec, ours: Result, pixels: U8Array, region: BoolArray, weight: float) -> Gain:
    plain = _decoded(codec, codec.encode(pixels, max_bytes=ours.nbytes))

    def likeness(found: U8Array, where: BoolArray) -> float | None:
        return psnr(pixels[where], found[where]) if where.any() else None

    inside, inside_plain = (psnr(pixels[region], found[region]) for found in (ours.pixels, plain))
    return Gain(weight, inside, inside_plain, likeness(ours.pixels, ~region), likeness(plain, ~region))


def middle(pixels: U8Array) -> U8Array:
    """Return the middle of an image or mask, of at most so many pixels a side as are compared."""
    top, left = (max(0, side - MAX_COMPARED) // 2 for side in pixels.shape[:2])
    return pixels[top : top + MAX_COMPARED, left : left + MAX_COMPARED]


def _result(codec: str, original: U8Array, pixels: U8Array, nbytes: int) -> Result:
    rate = 8 * nbytes / (original.shape[0] * original.shape[1])
    return Result(codec, nbytes, rate, psnr(original, pixels), ssim(original, pixels), pixels)


def _decoded(codec: Codec, file: bytes) -> U8Array:
    if file.startswith(b"SDT"):
        return np.asarray(codec.decode(file, strip=True).convert("RGB"))
    return decoded(file)


def _curves(codec: Codec, pixels: U8Array) -> dict[str, list[tuple[float, float]]]:
    encoders: dict[str, Encode] = {OURS: lambda image, quality: codec.encode(image, quality=quality), **RIVALS}
    image, count = Image.fromarray(pixels), pixels.shape[0] * pixels.shape[1]
    curves = {}
    for name, encode in encoders.items():
        files = [encode(image, quality) for quality in QUALITIES.get(name, OTHER_QUALITIES)]
        curves[name] = [(8 * len(file) / count, psnr(pixels, _decoded(codec, file))) for file in files]
    return curves
