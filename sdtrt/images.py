"""Pillow images and arrays to pictures, and back."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from sdtrt.engine.codec import Picture, luma

ImageLike = Image.Image | NDArray[np.uint8] | str | Path


def picture_of(image: ImageLike) -> Picture:
    """Return the picture of a Pillow image, an array or an image file.

    Arrays are uint8: (H, W), (H, W, 3) or (H, W, 4). Of images, the EXIF orientation is applied, an embedded ICC
    profile is converted to sRGB, and an alpha channel that is opaque everywhere is dropped.
    """
    if isinstance(image, str | Path):
        with Image.open(image) as opened:
            return picture_of(opened)
    if isinstance(image, np.ndarray):
        return picture_of(_image_of_array(image))
    if not isinstance(image, Image.Image):
        raise TypeError(f"image is a {type(image).__name__}; expected a Pillow image, a uint8 array or a path")
    image = _in_srgb(_upright(image))
    if image.mode in {"F", "I"}:
        raise ValueError(f"images of mode {image.mode} have no fixed range; convert to 8 bits first")
    grey = image.mode in {"1", "L", "LA", "I;16", "I;16L", "I;16B"}
    if image.mode.startswith("I;16"):
        image = _in_8_bits(image)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.array(image.getchannel("A"))
        if alpha.min(initial=255) == 255:
            alpha = None
    return Picture(np.asarray(image.convert("RGB")), alpha, grey)


def image_of(picture: Picture) -> Image.Image:
    """Return a picture as a Pillow image of mode L, LA, RGB or RGBA."""
    image = Image.fromarray(luma(picture.pixels) if picture.grey else picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def _image_of_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {3, 4})):
        raise ValueError(
            f"array of {array.dtype} and shape {array.shape}; expected uint8 (H, W), (H, W, 3) or (H, W, 4)"
        )
    if not array.size:
        raise ValueError(f"array of shape {array.shape} has no pixels")
    return Image.fromarray(np.ascontiguousarray(array))


def _upright(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except SyntaxError as error:  # Pillow's word for a broken PNG
        raise ValueError(f"damaged image: {error}") from error
    try:
        return ImageOps.exif_transpose(image)
    except SyntaxError:  # and for EXIF data that is none
        return image


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits in 8, its transparent level as an alpha channel."""
    levels, transparent = np.asarray(image), image.info.get("transparency")
    narrow = Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    if transparent is not None:
        narrow.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return narrow


def _in_srgb(image: Image.Image) -> Image.Image:
    """Return an image converted from its embedded profile to sRGB; as it is without a usable one."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in {"RGB", "RGBA", "CMYK", "L"}:
        return image
    output = {"CMYK": "RGB", "L": "L"}.get(image.mode, image.mode)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        if output == "L":  # a grey profile has one channel, sRGB three
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            return converted.convert("L") if converted else image
        return ImageCms.profileToProfile(image, source, target, outputMode=output) or image
    except (ImageCms.PyCMSError, OSError):  # the latter if it is no profile at all
        return image
