"""Calls for a single image: `encode`, `decode`, `preview`; each opens a `Codec` and closes it again."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdtrt.codec import Codec
from sdtrt.engine.coding.entropy import DEFAULT_EFFORT
from sdtrt.engine.coding.latents import latents_of_file
from sdtrt.engine.coding.rate import Method
from sdtrt.engine.format import container
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.networks.bundle import BUILT_IN, find_decoder, own_profile
from sdtrt.engine.networks.view import Denoise, Wanted
from sdtrt.engine.picture import Region
from sdtrt.images.interest import DEFAULT_WEIGHT, Roi
from sdtrt.images.picture import ImageLike
from sdtrt.sources import Source, bytes_of, opened


def encode(
    image: ImageLike,
    *,
    quality: float | None = None,
    nbytes: int | None = None,
    bits_per_pixel: float | None = None,
    psnr: float | None = None,
    effort: int = DEFAULT_EFFORT,
    method: Method = "latents",
    layers: int = 2,
    roi: Roi | None = None,
    roi_weight: float = DEFAULT_WEIGHT,
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    model: str | Path = BUILT_IN,
) -> bytes:
    """Return an image as the bytes of an `.sdt` file; see `Codec.encode`. For many images hold a `Codec`."""
    with Codec.open(model) as codec:
        return codec.encode(
            image,
            quality=quality,
            nbytes=nbytes,
            bits_per_pixel=bits_per_pixel,
            psnr=psnr,
            effort=effort,
            method=method,
            layers=layers,
            roi=roi,
            roi_weight=roi_weight,
            strip=strip,
            limits=limits,
        )


def decode(
    source: Source,
    *,
    region: Region | None = None,
    partial: bool = False,
    model: str | Path | None = None,
    denoise: Denoise = "auto",
    look: Wanted = "auto",
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Image.Image:
    """Return the image in an `.sdt` file, decoded by `model`, or by the first that knows the file's latent space.

    See `Codec.decode`.
    """
    with opened(source) as found:
        chosen = model_for(found, partial=partial, limits=limits) if model is None else model
        with Codec.open(chosen) as codec:
            return codec.decode(
                found, region=region, partial=partial, denoise=denoise, look=look, strip=strip, limits=limits
            )


def preview(
    source: Source,
    *,
    scale: int = 8,
    model: str | Path | None = None,
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Image.Image:
    """Return the image in a file at 1/`scale` of its size; see `Codec.preview`."""
    with opened(source) as found:
        chosen = model_for(found, limits=limits) if model is None else model
        with Codec.open(chosen) as codec:
            return codec.preview(found, scale=scale, strip=strip, limits=limits)


def decode_latents(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.float32]:
    """Return a file's latents, float32 (C, h, w) at unit scale, as a decoder would see them.

    Needs a model for those files alone that refer to its prior; `BundleError` if that is not to be had.
    """
    file = container.read(bytes_of(source), limits)
    return latents_of_file(file, limits, own_profile(file))


def model_for(source: Source, *, partial: bool = False, limits: Limits = DEFAULT_LIMITS) -> Path:
    """Return the folder of the first model that knows a file's latent space; `BundleError` if none does."""
    if partial:
        file = container.salvage(bytes_of(source), limits).file
    else:
        with opened(source) as found:
            file = container.read(found, limits) if isinstance(found, bytes) else container.read_from(found, limits)
    return find_decoder(file).folder
