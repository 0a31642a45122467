"""Conversion of Pillow images and arrays to the engine's images, and back."""

import io
import os
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from sdtrt._arrays import U8Array
from sdtrt.engine.format.arguments import checked_truth, value_text
from sdtrt.engine.format.limits import DEFAULT_LIMITS, UNLIMITED, Limits
from sdtrt.engine.format.metadata import NO_METADATA, Metadata
from sdtrt.engine.image import ImageData, luma
from sdtrt.images.headers import head_of
from sdtrt.images.losses import warn, warn_of_file, warn_of_frames
from sdtrt.images.metadata import (
    MISSING,
    add_mark,
    exif_of_changes,
    metadata_of,
    orientation_in,
    orientation_of,
    put_into,
    replace_metadata,
)
from sdtrt.images.opening import check_size, is_file_image, load, open_any_size, size_error
from sdtrt.images.sources import FilePath
from sdtrt.images.transparency import fill_transparent

ImageLike = Image.Image | U8Array | FilePath

GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
DEEP_MODES = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
ICC_MODES = {"RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK", "L": "GRAY", "LAB": "Lab"}  # and the profile's colour space
PIXEL_INFO = "icc_profile", "transparency"  # entries of `info` that define the meaning of the pixels
RGB_LIKE = {"P", "PA", "YCbCr", "RGBX", "RGBa", "HSV"}  # modes with a profile of colour space RGB
# The transpose that turns an image upright, by its EXIF orientation. Orientation 1 needs none.
EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SRGB_AREA = 0.1121  # IEC 61966-2-1: red 0.64 0.33, green 0.30 0.60, blue 0.15 0.06


def to_engine_image(image: ImageLike, *, strip: bool = False, limits: Limits = DEFAULT_LIMITS) -> ImageData:
    """Convert a Pillow image, an array or an image file to an image of the engine.

    Arguments:
        image: a Pillow image; an array, uint8 (H, W), (H, W, 3) or (H, W, 4); or the path of an image file. An
            animation gives its current frame, a file its first.
        strip: leave out EXIF, XMP and text.
        limits: the number of pixels that are allowed. Pillow's own limit does not apply.

    The EXIF orientation is applied to a file, and to an image whose pixels are unchanged since it was opened. Any other
    image in memory is encoded as it is; Pillow's own writers do the same. Colours are converted from an embedded ICC
    profile to sRGB. An alpha channel that is opaque everywhere is dropped.

    Raises `LimitError` for more pixels than `limits` allows, `ValueError` for a damaged image or for values outside the
    range of the mode. An `ImageWarning` names each unexpected loss: bits beyond 8, colours, frames, metadata.
    """
    if isinstance(image, str | os.PathLike):
        with open_any_size(image) as opened:
            return to_engine_image(opened, strip=strip, limits=limits)
    if isinstance(image, np.ndarray):
        return _of_array(image, strip=strip, limits=limits)
    if not isinstance(image, Image.Image):
        raise TypeError(f"image is {value_text(image)}, expected a Pillow image, a uint8 array or a path")
    checked_truth("strip", strip)
    pixels, orientation = load_for_encoding(image, strip=strip, limits=limits)
    metadata = NO_METADATA if strip else metadata_of(image, orientation)
    return _engine_image(turn_upright(pixels, orientation), metadata, described=is_file_image(image))


def load_for_encoding(image: Image.Image, *, strip: bool, limits: Limits) -> tuple[Image.Image, int]:
    """Load an image, and warn of each part of its file that will be lost.

    Returns the image as the file stores it, and its EXIF orientation. The orientation is 1 for an image that is not an
    unchanged image file.
    """
    if 0 in image.size:
        raise ValueError(f"the image has {image.width}x{image.height} pixels, expected at least 1x1")
    check_size(*image.size, limits)
    warn_of_frames(image, limits)
    if not is_file_image(image):
        return image, 1
    head = head_of(image)
    warn_of_file(image, head, strip=strip)
    load(image, limits)
    narrow = image
    if head.bits > 8 and image.mode not in DEEP_MODES:
        warn(f"{head.bits} bits are reduced to 8")
        narrow = _transparency_in_8_bits(image, head.bits)
    return narrow, orientation_of(image)


def with_metadata(image: Image.Image, changes: dict[str, Any]) -> Image.Image:
    """Return an upright image in memory with changed metadata, which `to_engine_image` does not turn again.

    `changes` are those of `sdtrt.images.metadata.replace_metadata`. The orientation of new EXIF data is applied, or
    that of the image if there is no new EXIF data.
    """
    pixels, orientation = load_for_encoding(image, strip=False, limits=UNLIMITED)
    if tiff := exif_of_changes(changes):
        orientation = orientation_in(tiff) or 1
    upright = turn_upright(pixels, orientation).copy()
    upright.info = {name: pixels.info[name] for name in PIXEL_INFO if name in pixels.info}
    put_into(upright, replace_metadata(image, orientation, changes))
    return upright


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return an image turned upright from an EXIF orientation of 1 to 8; itself if it is upright."""
    return image.transpose(EXIF_TRANSPOSES[orientation]) if orientation in EXIF_TRANSPOSES else image


def _transparency_in_8_bits(image: Image.Image, bits: int) -> Image.Image:
    """Return an 8-bit image whose transparent colour is reduced from the file's bit depth to 8 bits."""
    colour = image.info.get("transparency")
    if not isinstance(colour, tuple):
        return image
    narrow = image.copy()
    narrow.info["transparency"] = tuple(level >> (bits - 8) for level in colour)
    return narrow


def _engine_image(image: Image.Image, metadata: Metadata, *, described: bool) -> ImageData:
    """Convert pixels. `described` is True if the ICC profile comes from the image's own file, and must fit its mode."""
    grey, image = image.mode in GREY_MODES, _drop_invalid_transparency(image)
    if image.mode in DEEP_MODES:
        image = _reduce_to_8_bits(image)
    elif image.mode == "La":  # premultiplied: Pillow converts this mode to LA only
        image = image.convert("LA")
    image, alpha = _split_alpha(_convert_to_srgb(image, described=described))
    pixels = np.asarray(image.convert("RGB"))
    if alpha is not None:
        pixels = fill_transparent(pixels, alpha)
    return ImageData(pixels, alpha, grey, metadata)


def to_pil(image_data: ImageData, *, strip: bool = False) -> Image.Image:
    """Convert an image of the engine to a Pillow image of mode L, LA, RGB or RGBA.

    Its `info` holds the metadata, unless `strip`, and a text about the missing parts of a damaged file.
    """
    image = Image.fromarray(luma(image_data.pixels) if image_data.grey else image_data.pixels)
    if image_data.alpha is not None:
        image.putalpha(Image.fromarray(image_data.alpha))
    if not strip:
        put_into(image, add_mark(image_data.metadata, image_data.look))
    if image_data.missing:
        image.info[MISSING] = image_data.missing
    return image


def _of_array(array: U8Array, *, strip: bool, limits: Limits) -> ImageData:
    """Convert an array, which has neither metadata nor a colour profile."""
    checked_truth("strip", strip)
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {3, 4})):
        raise ValueError(
            f"array of {array.dtype} and shape {array.shape}; expected uint8 (H, W), (H, W, 3) or (H, W, 4)"
        )
    if not array.size:
        raise ValueError(f"array of shape {array.shape} has no pixels")
    height, width = array.shape[:2]
    if width * height > limits.max_pixels:
        raise size_error(width, height, limits)
    if array.ndim == 2:
        return ImageData(np.repeat(array[:, :, None], 3, axis=2), grey=True)
    if array.shape[2] == 4:
        return _engine_image(Image.fromarray(np.ascontiguousarray(array)), NO_METADATA, described=False)
    return ImageData(np.ascontiguousarray(array))


def _reduce_to_8_bits(image: Image.Image) -> Image.Image:
    """Convert a grey image of 16 or 32 bits to 8 bits, and its transparent level to an alpha channel.

    Values are 16-bit values. A floating-point image whose values lie between 0 and 1 has that range.
    """
    levels, transparent = np.asarray(image), image.info.get("transparency")
    if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 65535:
        raise ValueError(f"image of mode {image.mode} with values outside 0 to 65535")
    scale = 255 if image.mode == "F" and levels.max() <= 1 else 1 / 257
    warn(f"{'16' if image.mode.startswith('I;16') else '32'} bits are reduced to 8")
    narrow = Image.fromarray(np.rint(levels * np.float64(scale)).astype(np.uint8))
    narrow.info = {name: value for name, value in image.info.items() if name != "transparency"}
    if isinstance(transparent, int):
        narrow.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return narrow


def _split_alpha(image: Image.Image) -> tuple[Image.Image, U8Array | None]:
    """Return an image without its alpha channel, and the alpha channel; None if it is opaque everywhere."""
    if not image.has_transparency_data:
        return image, None
    image = image.convert("RGBA")
    alpha = np.array(image.getchannel("A"))
    return image.convert("RGB"), None if alpha.min(initial=255) == 255 else alpha


def _drop_invalid_transparency(image: Image.Image) -> Image.Image:
    """Return an image without its transparent colour, and warn, if the colour does not fit the image's mode."""
    if "transparency" not in image.info or image.mode in DEEP_MODES:
        return image
    try:
        image.convert("RGBA")
    except (OverflowError, SystemError, TypeError, ValueError):
        warn(f"the transparency does not fit an image of mode {image.mode}: it is dropped")
        image = image.copy()
        del image.info["transparency"]
    return image


def _convert_to_srgb(image: Image.Image, *, described: bool) -> Image.Image:
    """Convert an image from its embedded profile to sRGB. Where this fails, warn and return the image as it is.

    An image in memory may still have the profile of an earlier mode. Such a profile is ignored without a warning,
    unless the image is `described` by it.
    """
    if "icc_profile" not in image.info or image.info["icc_profile"] == b"":
        return image
    profile = image.info["icc_profile"]
    if image.mode in RGB_LIKE:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode == "LA":
        grey = _convert_to_srgb(_with_profile(image.getchannel("L"), profile), described=described)
        grey.putalpha(image.getchannel("A"))
        return grey
    if image.mode not in ICC_MODES:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, TypeError, AttributeError):  # not a profile
        warn("colours are taken as sRGB: the ICC profile is damaged")
        return image
    if space != ICC_MODES[image.mode]:
        if described:
            warn(f"colours are taken as sRGB: the ICC profile is of {space}, the image of {ICC_MODES[image.mode]}")
        return image
    return _apply_profile(image, source)


def _apply_profile(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.createProfile("sRGB")
    output = {"CMYK": "RGB", "LAB": "RGB", "L": "RGB"}.get(image.mode, image.mode)
    _warn_of_gamut(source)
    try:
        converted = ImageCms.profileToProfile(image, source, target, outputMode=output) or image
    except (ImageCms.PyCMSError, OSError):
        warn("colours are taken as sRGB: the ICC profile cannot be applied")
        return image
    return converted.convert("L") if image.mode == "L" else converted  # a grey profile has one channel, sRGB three


def _with_profile(image: Image.Image, profile: bytes) -> Image.Image:
    image.info["icc_profile"] = profile
    return image


def warn_of_gamut(image: Image.Image) -> None:
    """Warn if an image has a profile with colours beyond sRGB."""
    with suppress(ImageCms.PyCMSError, OSError):
        if profile := image.info.get("icc_profile"):
            _warn_of_gamut(ImageCms.ImageCmsProfile(io.BytesIO(profile)))


def _warn_of_gamut(profile: ImageCms.ImageCmsProfile) -> None:
    if is_wide(profile):
        warn(f"colours beyond sRGB are clipped ({ImageCms.getProfileDescription(profile).strip()})")


def is_wide(profile: ImageCms.ImageCmsProfile) -> bool:
    """Return whether a profile's primaries span a larger triangle in CIE 1931 x, y than those of sRGB."""
    primaries = [getattr(profile.profile, f"{colour}_primary") for colour in ("red", "green", "blue")]
    if any(primary is None for primary in primaries):
        return False
    (ax, ay), (bx, by), (cx, cy) = (primary[1][:2] for primary in primaries)
    return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2 > 1.05 * SRGB_AREA
