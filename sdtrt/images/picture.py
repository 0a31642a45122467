"""Pillow images and arrays to pictures, and back."""

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from sdtrt.engine.format.arguments import checked_truth, shown
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits, checked_limits
from sdtrt.engine.format.metadata import NOTHING, Metadata
from sdtrt.engine.picture import Picture, luma
from sdtrt.errors import LimitError, PictureWarning
from sdtrt.images.metadata import MISSING, ORIENTATION, UNREADABLE_EXIF, marked, metadata_of, put_into
from sdtrt.images.transparency import filled
from sdtrt.sources import FilePath

ImageLike = Image.Image | NDArray[np.uint8] | FilePath

GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
DEEP_MODES = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
ICC_MODES = {"RGB", "RGBA", "CMYK", "L", "LAB"}
# By EXIF's orientation, what turns an image upright; none for 1.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ANY_SIZE = Lock()  # while Pillow's own limit, which is all threads', is lifted
SRGB_AREA = 0.1121  # IEC 61966-2-1: red 0.64 0.33, green 0.30 0.60, blue 0.15 0.06


def picture_of(image: ImageLike, *, strip: bool = False, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Return the picture of a Pillow image, an array or an image file.

    Arrays are uint8: (H, W), (H, W, 3) or (H, W, 4). Of images, the EXIF orientation is applied, an embedded ICC
    profile is converted to sRGB, and an alpha channel that is opaque everywhere is dropped; of animations the current
    frame is taken, of files the first. EXIF, XMP and text are kept unless `strip`.

    Raises `LimitError` for more pixels than `limits` has, `ValueError` if there is no picture to be had. What a user
    may not expect to be lost (more than 8 bits, colours beyond sRGB, further frames) is told by a `PictureWarning`.
    """
    if isinstance(image, str | os.PathLike):
        with open_any_size(image) as opened:
            return picture_of(opened, strip=strip, limits=limits)
    if isinstance(image, np.ndarray):
        return picture_of(_image_of_array(image), strip=strip, limits=limits)
    if not isinstance(image, Image.Image):
        raise TypeError(f"image is {shown(image)}, expected a Pillow image, a uint8 array or a path")
    checked_truth("strip", strip)
    check_size(image, limits)
    tell_of_frames(image)
    upright = _upright(image)
    return _picture_of(upright, NOTHING if strip else metadata_of(image, upright))


def open_any_size(file: FilePath | IO[bytes], formats: tuple[str, ...] | None = None) -> Image.Image:
    """Return an image, opened, of some of Pillow's formats, of any if None.

    How large it may be is for `check_size` to say, not for Pillow.
    """
    with ANY_SIZE:
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with told_as_damage():
                return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = usual


@contextmanager
def told_as_damage() -> Iterator[None]:
    """Raise `ValueError` for what Pillow's readers stumble over."""
    try:
        yield
    except (LookupError, RuntimeError, SyntaxError, TypeError, struct.error) as error:
        raise ValueError(f"damaged image: {error}") from error


def check_size(image: Image.Image, limits: Limits) -> None:
    """Raise `LimitError` if an image has more pixels than `limits`."""
    if image.width * image.height > checked_limits(limits).max_pixels:
        raise LimitError(
            f"the image has {image.width}x{image.height} pixels; the limit is {limits.max_pixels} (--max-pixels)"
        )


def _picture_of(image: Image.Image, metadata: Metadata) -> Picture:
    grey = image.mode in GREY_MODES
    if image.mode in DEEP_MODES:
        image = _in_8_bits(image)
    elif image.mode == "La":  # premultiplied: of this mode Pillow makes no other but LA
        image = image.convert("LA")
    image, alpha = _without_alpha(_in_srgb(image))
    pixels = np.asarray(image.convert("RGB"))
    if alpha is not None:
        pixels = filled(pixels, alpha)
    return Picture(pixels, alpha, grey, metadata)


def image_of(picture: Picture, *, strip: bool = False) -> Image.Image:
    """Return a picture as a Pillow image of mode L, LA, RGB or RGBA, with metadata in its `info` unless `strip`.

    There, too, what is missing of the file it is from.
    """
    image = Image.fromarray(luma(picture.pixels) if picture.grey else picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    if not strip:
        put_into(image, marked(picture.metadata, picture.look))
    if picture.missing:
        image.info[MISSING] = picture.missing
    return image


def _image_of_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {3, 4})):
        raise ValueError(
            f"array of {array.dtype} and shape {array.shape}; expected uint8 (H, W), (H, W, 3) or (H, W, 4)"
        )
    if not array.size:
        raise ValueError(f"array of shape {array.shape} has no pixels")
    return Image.fromarray(np.ascontiguousarray(array))


def _tell(what: str) -> None:
    warnings.warn(what, PictureWarning, stacklevel=4)


def tell_of_frames(image: Image.Image) -> None:
    """Tell by a `PictureWarning` if an image has more frames than the one that is taken."""
    try:
        frames = getattr(image, "n_frames", 1)
    except (EOFError, OSError, SyntaxError, ValueError):
        frames = 1  # broken further on: the frame at hand may be whole
    if frames > 1:
        _tell(f"one of {frames} frames is taken")


def _upright(image: Image.Image) -> Image.Image:
    deep = ";16" in str(getattr(image, "tile", ""))  # of colours that Pillow reads in 8 bits, 16 are in the file
    with told_as_damage():
        image.load()
    if deep and image.mode not in DEEP_MODES:
        _tell("16 bits are reduced to 8")
    try:
        return ImageOps.exif_transpose(image)
    except UNREADABLE_EXIF:  # what cannot be written again may still say how the image lies
        return _turned(image)


def _turned(image: Image.Image) -> Image.Image:
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except UNREADABLE_EXIF:
        turn = None
    return image.copy() if turn is None else image.transpose(turn)


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 or 32 bits in 8, its transparent level as an alpha channel.

    Numbers are levels of 16 bits, but those of floating-point images that lie between 0 and 1 are taken as that range.
    """
    levels, transparent = np.asarray(image), image.info.get("transparency")
    if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 65535:
        raise ValueError(f"an image of mode {image.mode} whose values are not all within 0 to 65535")
    scale = 255 if image.mode == "F" and levels.max() <= 1 else 1 / 257
    _tell(f"{'16' if image.mode.startswith('I;16') else '32'} bits are reduced to 8")
    narrow = Image.fromarray(np.rint(levels * np.float64(scale)).astype(np.uint8))
    narrow.info = {name: value for name, value in image.info.items() if name != "transparency"}
    if isinstance(transparent, int):
        narrow.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return narrow


def _without_alpha(image: Image.Image) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """Return an image without its alpha channel, and that, None if it is opaque everywhere."""
    if not image.has_transparency_data:
        return image, None
    image = image.convert("RGBA")
    alpha = np.array(image.getchannel("A"))
    return image.convert("RGB"), None if alpha.min(initial=255) == 255 else alpha


def _in_srgb(image: Image.Image) -> Image.Image:
    """Return an image converted from its embedded profile to sRGB; as it is without a usable one."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    if image.mode in {"P", "PA"}:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode == "LA":
        grey = _in_srgb(_with_profile(image.getchannel("L"), profile))
        grey.putalpha(image.getchannel("A"))
        return grey
    if image.mode not in ICC_MODES:
        return image
    output = {"CMYK": "RGB", "LAB": "RGB", "L": "L"}.get(image.mode, image.mode)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        _tell_of_gamut(source)
        if output == "L":  # a grey profile has one channel, sRGB three
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            return converted.convert("L") if converted else image
        return ImageCms.profileToProfile(image, source, target, outputMode=output) or image
    except (ImageCms.PyCMSError, OSError):  # the latter if it is no profile at all
        return image


def _with_profile(image: Image.Image, profile: bytes) -> Image.Image:
    image.info["icc_profile"] = profile
    return image


def tell_of_gamut(image: Image.Image) -> None:
    """Tell by a `PictureWarning` if an image has a profile with colours beyond sRGB."""
    with suppress(ImageCms.PyCMSError, OSError):
        if profile := image.info.get("icc_profile"):
            _tell_of_gamut(ImageCms.ImageCmsProfile(io.BytesIO(profile)))


def _tell_of_gamut(profile: ImageCms.ImageCmsProfile) -> None:
    if is_wide(profile):
        _tell(f"colours beyond sRGB are clipped ({ImageCms.getProfileDescription(profile).strip()})")


def is_wide(profile: ImageCms.ImageCmsProfile) -> bool:
    """Return whether a profile's primaries span more than sRGB's: by the area of their triangle in CIE 1931 x, y."""
    primaries = [getattr(profile.profile, f"{colour}_primary") for colour in ("red", "green", "blue")]
    if any(primary is None for primary in primaries):
        return False
    (ax, ay), (bx, by), (cx, cy) = (primary[1][:2] for primary in primaries)
    return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2 > 1.05 * SRGB_AREA
