"""An image, or its middle, by several codecs at the same number of bytes: files, figures, rate-distortion curves."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sdtrt._arrays import BoolArray, U8Array
from sdtrt.codec import Codec, ImageEncodeOptions
from sdtrt.compare.baselines import BASELINES, EncodeAtQuality, decode_pixels, encode_within
from sdtrt.compare.metrics import psnr, ssim
from sdtrt.images.convert import ImageLike, to_engine_image
from sdtrt.images.roi import mask_of

OURS = "sdtrt"
MAX_COMPARED = 768  # pixels a side; of a larger image the middle is compared, which takes seconds
QUALITIES = {OURS: (1, 10, 20, 30, 45, 60, 80), "JPEG": (2, 5, 10, 20, 35, 55), "WebP": (1, 10, 25, 45, 65)}
DEFAULT_QUALITIES = (5, 20, 35, 50, 65)  # of the curves of other codecs

ROI_THRESHOLD = 128  # mask values from here on are in the region of interest


@dataclass(frozen=True, slots=True)
class CodecResult:
    """The result of a codec.

    Arguments:
        codec: its name.
        nbytes: size of the file.
        bits_per_pixel: size of the file.
        psnr: PSNR of all pixels in dB.
        ssim: SSIM, at most 1.
        pixels: the decoded pixels, uint8 (H, W, 3).
    """

    codec: str
    nbytes: int
    bits_per_pixel: float
    psnr: float
    ssim: float
    pixels: U8Array


@dataclass(frozen=True, slots=True)
class RoiGain:
    """The effect of a region of interest (ROI), against a file of at most the same size without an ROI.

    Arguments:
        weight: the weight of the ROI.
        region_with: PSNR of the ROI in dB, with the ROI.
        region_without: PSNR of the ROI in dB, without the ROI.
        rest_with: PSNR of the other pixels in dB, with the ROI; None if there are no other pixels.
        rest_without: PSNR of the other pixels in dB, without the ROI; None if there are no other pixels.
    """

    weight: float
    region_with: float
    region_without: float
    rest_with: float | None
    rest_without: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """An image by several codecs.

    Arguments:
        name: the name of the image.
        width, height: the size of the whole image in pixels.
        pixels: the compared pixels, uint8 (H, W, 3): the image, or the middle of a larger one.
        results: the result of each codec, sdtrt first.
        curves: rate-distortion curves by codec, as points (bits per pixel, PSNR in dB).
        roi: the effect of the region of interest (default None, no region).
    """

    name: str
    width: int
    height: int
    pixels: U8Array
    results: list[CodecResult]
    curves: dict[str, list[tuple[float, float]]]
    roi: RoiGain | None = None


def compare(
    codec: Codec,
    name: str,
    image: ImageLike,
    options: ImageEncodeOptions,
) -> Comparison:
    """Encode an image by sdtrt, and by each baseline within the same number of bytes.

    Of an image with a side of more than `MAX_COMPARED` pixels, the middle is encoded. Alpha is ignored.

    Arguments:
        codec: the codec of sdtrt.
        name: the name of the image in reports.
        image: the image.
        quality: quality of sdtrt's file, 1 to 100, or None.
        nbytes: largest size of sdtrt's file in bytes, or None.
        roi: the region of interest, of the whole image (default None).
        roi_weight: the weight of the region (default `DEFAULT_ROI_WEIGHT`).

    Raises:
        ValueError: the region is not in the middle of the image, or an error of `Codec.encode`.
    """
    whole = to_engine_image(image).pixels
    pixels, mask = crop_middle(whole), None
    if options.roi is not None:
        mask = crop_middle(mask_of(options.roi, whole.shape[1], whole.shape[0]))
        if mask.max() < ROI_THRESHOLD:
            raise ValueError("the region of interest is not in the middle of the image, which is compared")
    data = codec._encode(pixels, replace(options, roi=mask))
    files = {OURS: data} | {
        baseline: encode_within(encode, Image.fromarray(pixels), len(data))[1] for baseline, encode in BASELINES.items()
    }
    results = [_result(name, pixels, _decoded(codec, file), len(file)) for name, file in files.items()]
    gain = None if mask is None else _roi_gain(codec, results[0], pixels, mask >= ROI_THRESHOLD, options.roi_weight)
    return Comparison(name, whole.shape[1], whole.shape[0], pixels, results, _curves(codec, pixels), gain)


def _roi_gain(codec: Codec, ours: CodecResult, pixels: U8Array, region: BoolArray, weight: float) -> RoiGain:
    without_roi = _decoded(codec, codec.encode(pixels, max_bytes=ours.nbytes))

    def rest_psnr(decoded: U8Array) -> float | None:
        return None if region.all() else psnr(pixels[~region], decoded[~region])

    region_with, region_without = (psnr(pixels[region], decoded[region]) for decoded in (ours.pixels, without_roi))
    return RoiGain(weight, region_with, region_without, rest_psnr(ours.pixels), rest_psnr(without_roi))


def crop_middle(pixels: U8Array) -> U8Array:
    """Return the middle of an image or mask, at most `MAX_COMPARED` pixels a side."""
    top, left = (max(0, side - MAX_COMPARED) // 2 for side in pixels.shape[:2])
    return pixels[top : top + MAX_COMPARED, left : left + MAX_COMPARED]


def _result(codec: str, original: U8Array, pixels: U8Array, nbytes: int) -> CodecResult:
    rate = 8 * nbytes / (original.shape[0] * original.shape[1])
    return CodecResult(codec, nbytes, rate, psnr(original, pixels), ssim(original, pixels), pixels)


def _decoded(codec: Codec, file: bytes) -> U8Array:
    if file.startswith(b"SDT"):
        return np.asarray(codec.decode(file, strip=True).convert("RGB"))
    return decode_pixels(file)


def _curves(codec: Codec, pixels: U8Array) -> dict[str, list[tuple[float, float]]]:
    """Return points (bits per pixel, PSNR in dB) of each codec at a few qualities."""
    encoders: dict[str, EncodeAtQuality] = {OURS: lambda image, quality: codec.encode(image, quality=quality)}
    encoders |= BASELINES
    image, num_pixels = Image.fromarray(pixels), pixels.shape[0] * pixels.shape[1]
    curves = {}
    for name, encode in encoders.items():
        files = [encode(image, quality) for quality in QUALITIES.get(name, DEFAULT_QUALITIES)]
        curves[name] = [(8 * len(file) / num_pixels, psnr(pixels, _decoded(codec, file))) for file in files]
    return curves
