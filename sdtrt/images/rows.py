"""Large image files, read by rows with libvips and written with pypng (the extra `large`)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from sdtrt._arrays import U8Array
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.metadata import NO_METADATA, Metadata
from sdtrt.engine.image import luma
from sdtrt.errors import DeviceError
from sdtrt.images.convert import warn_of_gamut
from sdtrt.images.headers import head_of
from sdtrt.images.losses import warn_of_file, warn_of_frames
from sdtrt.images.media_types import PNG_LEVEL
from sdtrt.images.metadata import metadata_of, orientation_of
from sdtrt.images.opening import check_size, open_any_size
from sdtrt.process.install import install_command

LARGE = 1 << 26  # pixels: larger images are read by rows where possible
BAND = 256  # rows that are read together


@dataclass(frozen=True, slots=True)
class Rows:
    """An image as bands of rows, uint8 (n, width, 3), from top to bottom, read on demand."""

    width: int
    height: int
    bands: Iterator[U8Array]
    grey: bool
    metadata: Metadata


def rows_of_file(path: Path, *, strip: bool = False, limits: Limits = DEFAULT_LIMITS) -> Rows | None:
    """Return the rows of an image file; None if it is small or cannot be read by rows.

    An image cannot be read by rows if it has an orientation, alpha, more than 8 bits, or channels other than grey and
    RGB.

    Raises:
        DeviceError: the libraries are missing, or do not read the format.
        LimitError: the image has more pixels than `limits` allows.
    """
    with open_any_size(path) as image:
        turned = orientation_of(_bare(image) if image.format == "PNG" else image) != 1
        plain = image.mode in {"L", "RGB"} and not image.has_transparency_data and not turned
        if image.width * image.height <= LARGE or not plain:
            return None
        check_size(*image.size, limits)
        bands = _bands(path, len(image.getbands()))
        if bands is None:
            return None
        warn_of_frames(image, limits)
        warn_of_file(image, head_of(image), strip=strip)
        warn_of_gamut(image)
        metadata = NO_METADATA if strip else metadata_of(image)
        return Rows(image.width, image.height, bands, image.mode == "L", metadata)


def _bare(image: Image.Image) -> Image.Image:
    """Return an image with the same `info` and other pixels: Pillow would load the pixels of a PNG file."""
    bare = Image.new("L", (1, 1))
    bare.info = image.info
    return bare


def _bands(path: Path, channels: int) -> Iterator[U8Array] | None:
    """Return an image's rows; None if libvips finds another depth than 8 bits or another number of channels."""
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise DeviceError(f"libraries for large images are missing ({error}): {install_command('large')}") from error
    try:
        opened = pyvips.Image.new_from_file(str(path), access="sequential", fail_on="error")
    except pyvips.Error as error:
        raise DeviceError(f"libvips does not read it ({str(error).strip().splitlines()[-1].strip()})") from error
    if (opened.format, opened.bands) != ("uchar", channels):
        return None

    def bands() -> Iterator[U8Array]:
        try:
            image = opened
            if image.get_typeof("icc-profile-data"):
                image = image.icc_transform("srgb")
            region = pyvips.Region.new(image)  # reads from top to bottom: the file is decoded once
            for top in range(0, image.height, BAND):
                count = min(BAND, image.height - top)
                data = region.fetch(0, top, image.width, count)
                pixels = np.frombuffer(data, np.uint8).reshape(count, image.width, image.bands)
                yield pixels if image.bands == 3 else np.repeat(pixels[:, :, :1], 3, axis=2)
        except pyvips.Error as error:
            raise ValueError(f"damaged image: {str(error).strip().splitlines()[-1]}") from error

    return bands()


def write_png(
    stream: BinaryIO, width: int, height: int, bands: Iterable[U8Array], *, grey: bool, level: int = PNG_LEVEL
) -> None:
    """Write bands of RGB rows as a PNG file. With `grey` the file has one channel. `level` is zlib's, 0 to 9.

    Raises `DeviceError` if pypng is missing.
    """
    try:
        import png
    except ImportError as error:
        raise DeviceError(f"libraries for large images are missing ({error}): {install_command('large')}") from error
    rows = (row.tobytes() for band in bands for row in (luma(band) if grey else band))
    png.Writer(width, height, greyscale=grey, compression=level).write_packed(stream, rows)
