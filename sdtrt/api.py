"""Calls for a single image. `encode`, `decode` and `preview` open a `Codec` and close it; latents need none."""

import os
from pathlib import Path

from PIL import Image

from sdtrt._arrays import F32Array
from sdtrt.codec import Codec
from sdtrt.engine.coding import latent_file
from sdtrt.engine.coding.rate_control import EncodeOptions, Method
from sdtrt.engine.coding.stream_codec import DEFAULT_EFFORT
from sdtrt.engine.format import container
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.image import Region
from sdtrt.engine.networks.bundle import BUILT_IN, find_bundle_for, model_profile_for
from sdtrt.engine.networks.decode_options import Denoise, LookOption
from sdtrt.images.convert import ImageLike
from sdtrt.images.roi import DEFAULT_WEIGHT, Roi
from sdtrt.latents.coding import LatentsLike, file_of
from sdtrt.latents.spaces import profile_of_space
from sdtrt.sources import Source, bytes_of, opened


def encode(
    image: ImageLike,
    *,
    quality: float | None = None,
    max_bytes: int | None = None,
    bpp: float | None = None,
    target_psnr: float | None = None,
    effort: int = DEFAULT_EFFORT,
    method: Method = "latents",
    layers: int = 2,
    roi: Roi | None = None,
    roi_weight: float = DEFAULT_WEIGHT,
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    model: str | os.PathLike[str] = BUILT_IN,
) -> bytes:
    """Return an image as the bytes of an `.sdt` file; see `Codec.encode`. For many images hold a `Codec`."""
    with Codec.open(model) as codec:
        return codec.encode(
            image,
            quality=quality,
            max_bytes=max_bytes,
            bpp=bpp,
            target_psnr=target_psnr,
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
    model: str | os.PathLike[str] | None = None,
    denoise: Denoise = "auto",
    look: LookOption = "auto",
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Image.Image:
    """Return the image in an `.sdt` file, decoded by `model`, or by the first that knows the file's latent space.

    See `Codec.decode`.
    """
    with opened(source) as found:
        chosen = find_model(found, partial=partial, limits=limits) if model is None else model
        with Codec.open(chosen) as codec:
            return codec.decode(
                found, region=region, partial=partial, denoise=denoise, look=look, strip=strip, limits=limits
            )


def preview(
    source: Source,
    *,
    scale: int = 8,
    model: str | os.PathLike[str] | None = None,
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Image.Image:
    """Return the image in a file at 1/`scale` of its size; see `Codec.preview`."""
    with opened(source) as found:
        chosen = find_model(found, limits=limits) if model is None else model
        with Codec.open(chosen) as codec:
            return codec.preview(found, scale=scale, strip=strip, limits=limits)


def encode_latents(
    latents: LatentsLike,
    *,
    latent_space: str,
    quality: float | None = None,
    max_bytes: int | None = None,
    bpp: float | None = None,
    effort: int = DEFAULT_EFFORT,
    method: Method = "latents",
    width: int | None = None,
    height: int | None = None,
    key: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> bytes:
    """Return latents as the bytes of an `.sdt` file. Neither networks nor a backend are needed.

    Arguments:
        latents: floating-point numbers of shape (C, h, w) or (1, C, h, w), at unit scale. A NumPy array, a torch tensor
            on any device, an object with DLPack or `__array__`, or the path of a `.npy`, `.npz` or `.safetensors` file.
        latent_space: "sd1", "tiny", or the name of a space for which a bundle lies under `$SDTRT_MODELS`.
        quality: 1 (smallest) to 100 (best), 50 by default. One of the following may be given instead:
        max_bytes: the largest size of the whole file in bytes.
        bpp: the largest size in bits per pixel of the image.
        effort: 1 (fast) to 9 (slow), 5 by default.
        method: "latents", or "palette" for the method of 2022, for 4 channels.
        width: the width of the image in pixels. By default the latents cover it exactly.
        height: the height of the image in pixels, likewise.
        key: the array's name in a `.npz` or `.safetensors` file. By default `latents`, `latent_tensor` or the only one.
        limits: the latents may have as many values, and the image as many pixels, as are allowed.

    Raises `ValueError` if the latents are not those of an image in the space, or there is no file so small,
    `TypeError` if they are no array, `BundleError` if the space is unknown, `LimitError` if they exceed `limits`.
    Latents whose spread no image has give a `LatentsWarning`, which says by what they probably were multiplied.
    """
    options = EncodeOptions(quality=quality, max_bytes=max_bytes, bpp=bpp, effort=effort, method=method)
    profile = profile_of_space(latent_space)
    return file_of(latents, profile, options, size=(width, height), key=key, limits=limits, stacklevel=2)


def decode_latents(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> F32Array:
    """Return the latents in an `.sdt` file, float32 (C, h, w) at unit scale, as a decoder would see them.

    Arguments:
        source: the file's bytes, its path, or an object with `read` and `seek`.
        limits: what the file may ask for.

    Neither networks nor a backend are needed. Raises `FormatError` if the file is damaged, `LimitError` if it exceeds
    `limits`. A file that refers to a model's prior needs the model's bundle; without it `BundleError` is raised.
    """
    file = container.read(bytes_of(source), limits)
    return latent_file.decode_latents(file, limits, model_profile_for(file))


def find_model(source: Source, *, partial: bool = False, limits: Limits = DEFAULT_LIMITS) -> Path:
    """Return the folder of the first model that knows a file's latent space; `BundleError` if none does."""
    if partial:
        file = container.salvage(bytes_of(source), limits).file
    else:
        with opened(source) as found:
            file = container.read(found, limits) if isinstance(found, bytes) else container.read_from(found, limits)
    return find_bundle_for(file).folder
