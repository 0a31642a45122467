"""Warnings about the parts of an image file that an `.sdt` file does not hold: each is an `ImageWarning`."""

import re
import warnings
from collections.abc import Iterator
from typing import Any

from PIL import Image

from sdtrt.engine.format.limits import Limits
from sdtrt.errors import ImageWarning
from sdtrt.images.headers import GEO_TAGS, JUMBF, TIFF_IPTC, TIFF_LAYERS, TIFF_PHOTOSHOP, Head
from sdtrt.images.opening import FrameLostError, frames_of, raw_file

SRGB_GAMMA, SRGB_CHROMATICITIES = 0.45455, (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
# By ITU-T H.273: primaries and transfer functions of BT.709, BT.601, sRGB, and "unspecified".
PLAIN_PRIMARIES, PLAIN_TRANSFERS = {1, 2, 5, 6, 7}, {1, 2, 6, 13, 14, 15}
IPTC, PSD_XMP, PSD_EXIF, PSD_IPTC = 0x0404, 1060, 1058, 1028  # image resources of Photoshop
ISO_GAIN_MAP, EXTENDED_XMP = b"urn:iso:std:iso:ts:21496:-1\0", b"http://ns.adobe.com/xmp/extension/\0"
GIF_XMP = b"\x0bXMP DataXMP"
GAIN_MAP_VERSION = re.compile(rb"\shdrgm:Version\s*=\s*([\"'])[^\"'<>]*\1")


def warn(message: str) -> None:
    """Warn of a loss."""
    warnings.warn(message, ImageWarning, stacklevel=4)


def warn_of_frames(image: Image.Image, limits: Limits) -> None:
    """Warn if an image has several frames, layers or sizes: only one of them is encoded."""
    try:
        frames = frames_of(image, limits)
    except FrameLostError:
        raise
    except ValueError as error:
        warn(f"the frames after this one cannot be read ({error})")
        return
    sizes = image.info.get("sizes") or ()
    if image.format == "PSD" and frames > 1:
        warn(f"{frames} layers are dropped: the merged image is taken")
    elif frames > 1:
        warn(f"one of {frames} frames is taken")
    elif image.format in {"ICO", "ICNS", "CUR"} and len(sizes) > 1:
        warn(f"one of {len(sizes)} sizes is taken")


def warn_of_file(image: Image.Image, head: Head, *, strip: bool) -> None:
    """Warn of each part of the image's file that will be lost; of metadata only without `strip`."""
    for loss in _colours(image, head):
        warn(loss)
    if has_gain_map(image) or b"tmap" in head.parts:
        warn("the gain map is dropped: the image is taken without its high dynamic range")
    if TIFF_LAYERS in getattr(image, "tag_v2", {}):
        warn("layers of Photoshop are dropped: the merged image is taken")
    if not strip and (dropped := sorted(set(_metadata(image, head)))):
        warn(f"metadata is dropped: {', '.join(dropped)}")


def has_gain_map(image: Image.Image) -> bool:
    """Return whether a JPEG file has a gain map beside its image."""
    for kind, content in segments(image):
        if kind == "APP2" and content.startswith(ISO_GAIN_MAP):
            return True
        if kind == "APP1" and GAIN_MAP_VERSION.search(content):
            return True
    return False


def segments(image: Image.Image) -> list[tuple[str, bytes]]:
    """Return the segments of a JPEG file that Pillow has kept, with their names; an empty list for other files."""
    kept: list[tuple[str, bytes]] = getattr(image, "applist", [])
    return kept


def _colours(image: Image.Image, head: Head) -> Iterator[str]:
    info = image.info
    if head.cicp and (head.cicp[0] not in PLAIN_PRIMARIES or head.cicp[1] not in PLAIN_TRANSFERS):
        place = "cICP chunk" if image.format == "PNG" else "nclx box"
        primaries, transfer = head.cicp[:2]
        yield (
            f"colours are taken as sRGB: the {place} with primaries {primaries} and transfer function {transfer} "
            "is not applied"
        )
    elif not head.cicp and not info.get("icc_profile") and info.get("srgb") is None:
        if _differs((info.get("gamma", SRGB_GAMMA),), (SRGB_GAMMA,), 0.02):
            yield f"colours are taken as sRGB: the gamma of {info['gamma']:g} is not applied"
        if _differs(info.get("chromaticity", SRGB_CHROMATICITIES), SRGB_CHROMATICITIES, 0.005):
            yield "colours are taken as sRGB: the chromaticities of the cHRM chunk are not applied"
    if b"colr with a profile" in head.parts and not info.get("icc_profile"):
        yield "colours are taken as sRGB: Pillow does not read the ICC profile of a JPEG 2000 file"


def _differs(values: tuple[float, ...], expected: tuple[float, ...], tolerance: float) -> bool:
    return len(values) != len(expected) or any(
        abs(value - usual) > tolerance for value, usual in zip(values, expected, strict=True)
    )


def _metadata(image: Image.Image, head: Head) -> Iterator[str]:
    tags: dict[int, Any] = getattr(image, "tag_v2", {})
    photoshop = image.info.get("photoshop") or {}
    if (isinstance(photoshop, dict) and photoshop.get(IPTC)) or TIFF_IPTC in tags or PSD_IPTC in resources_of(image):
        yield "IPTC"
    if TIFF_PHOTOSHOP in tags:
        yield "image resources of Photoshop"
    if tags.keys() & GEO_TAGS:
        yield "GeoTIFF"
    if b"caBX" in head.parts:
        yield "content credentials"
    yield from _metadata_of_segments(image)
    yield from (f"ImageMagick's profile {kind}" for kind in _raw_profiles(image) if kind not in {"exif", "xmp"})
    if image.format == "JPEG2000":
        yield from (f"{kind.decode().strip()} box" for kind in (b"uuid", b"xml ") if kind in head.parts)
    if image.format == "GIF":
        with raw_file(image) as stream:
            if GIF_XMP in stream.read():
                yield "XMP"
    yield from _shape_of_pixels(image)


def _metadata_of_segments(image: Image.Image) -> Iterator[str]:
    for kind, content in segments(image):
        if kind == "APP11" and content.startswith(JUMBF) and b"c2pa" in content:
            yield "content credentials"
        if kind == "APP1" and content.startswith(EXTENDED_XMP):
            yield "extended XMP"


def resources_of(image: Image.Image) -> dict[int, bytes]:
    """Return the image resources of a Photoshop file by number; an empty dictionary for other files."""
    return {number: data for number, _, data in getattr(image, "resources", ())}


def _raw_profiles(image: Image.Image) -> list[str]:
    prefix = "Raw profile type "
    return [name.removeprefix(prefix) for name in image.info if isinstance(name, str) and name.startswith(prefix)]


def _shape_of_pixels(image: Image.Image) -> Iterator[str]:
    density = image.info.get("aspect")
    if image.info.get("jfif_unit") == 0:
        density = image.info.get("jfif_density")
    if isinstance(density, tuple) and len(density) == 2 and min(density) > 0 and density[0] != density[1]:
        yield f"the shape of its pixels, {density[1]}:{density[0]}"
