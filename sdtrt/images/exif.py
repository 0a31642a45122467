"""EXIF data as bytes: a few tags are read and changed in place, and every other byte stays as it is."""

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image, TiffImagePlugin

PREFIX = b"Exif\0\0"
ORIENTATION, WIDTH, LENGTH, PIXEL_WIDTH, PIXEL_HEIGHT = 0x0112, 0x0100, 0x0101, 0xA002, 0xA003
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, EXIF_IFD, GPS_IFD = 0x011A, 0x011B, 0x0128, 0x8769, 0x8825
# `struct`'s sign for each TIFF type of integers. Pillow gives byte types as bytes: they are left out.
INTEGERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"}
RATIONAL, INCH, CENTIMETRE = 5, 2, 3
TURNED = range(2, 9)  # orientations that are not upright
SIDES_SWAPPED = range(5, 9)  # orientations that swap width and height
DEFAULT_DPI = (72, 96)  # resolutions of screens, which writers store by default
# Tags of a TIFF file that describe the image, and not its storage.
DESCRIPTIVE = (
    *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298),  # description, make, model, software, date, …
    *(0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),  # title, comment, author, keywords, subject of Windows
)


class Entry(NamedTuple):
    """An entry of a directory: its type, the number of its values, and the position of its 12 bytes."""

    kind: int
    length: int
    at: int


class Directory(NamedTuple):
    """A directory of a TIFF structure: its entries by tag; `order` is `struct`'s sign of the byte order."""

    order: str
    at: int
    entries: dict[int, Entry]
    next: int


def tiff_of(exif: bytes) -> bytes:
    """Return EXIF data without the prefixes of JPEG files."""
    while exif.startswith(PREFIX):
        exif = exif[len(PREFIX) :]
    return exif


def main_directory(tiff: bytes) -> Directory:
    """Return the first directory of EXIF data; `ValueError` if it is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        raise ValueError(f"EXIF data begins with {tiff[:4]!r}, expected b'II*\\0' or b'MM\\0*'")
    return _directory(tiff, order, struct.unpack_from(f"{order}I", tiff, 4)[0])


def _directory(tiff: bytes, order: str, at: int) -> Directory:
    end = at + 2
    count = struct.unpack_from(f"{order}H", tiff, at)[0] if 8 <= at <= len(tiff) - 2 else -1
    if count < 0 or end + 12 * count > len(tiff):
        raise ValueError(f"a directory of EXIF data at byte {at} does not fit into its {len(tiff)} bytes")
    entries = {}
    for number in range(count):
        tag, kind, length = struct.unpack_from(f"{order}HHI", tiff, end + 12 * number)
        entries[tag] = Entry(kind, length, end + 12 * number)
    after = end + 12 * count
    following = struct.unpack_from(f"{order}I", tiff, after)[0] if after + 4 <= len(tiff) else 0
    return Directory(order, at, entries, following)


def _integer(tiff: bytes, directory: Directory, tag: int) -> int | None:
    """Return the value of a tag with a single integer; None for any other tag."""
    entry = directory.entries.get(tag)
    if entry is None or entry.length != 1 or entry.kind not in INTEGERS:
        return None
    value: int = struct.unpack_from(directory.order + INTEGERS[entry.kind], tiff, entry.at + 8)[0]
    return value


def orientation_in(tiff: bytes) -> int | None:
    """Return the orientation in EXIF data, or None; `ValueError` if the data is damaged."""
    return next((value for *_, value in _orientations(tiff, main_directory(tiff))), None)


def _orientations(tiff: bytes, directory: Directory) -> Iterator[tuple[str, int, int]]:
    """Yield the `struct` format, the position and the value of each orientation in a directory.

    A damaged directory has the tag twice, or several values for it. Readers differ in the value that they take.
    """
    (count,) = struct.unpack_from(f"{directory.order}H", tiff, directory.at)
    for entry in range(directory.at + 2, directory.at + 2 + 12 * count, 12):
        tag, kind, length, offset = struct.unpack_from(f"{directory.order}HHII", tiff, entry)
        if tag != ORIENTATION or kind not in INTEGERS:
            continue
        sign = directory.order + INTEGERS[kind]
        nbytes = struct.calcsize(sign) * length
        at = entry + 8 if nbytes <= 4 else offset
        if at + nbytes <= len(tiff):
            for place in range(at, at + nbytes, struct.calcsize(sign)):
                yield sign, place, struct.unpack_from(sign, tiff, place)[0]


def upright(tiff: bytes, orientation: int) -> bytes:
    """Return the EXIF data of an image after it was turned upright from `orientation`, 1 to 8.

    The orientation becomes 1, and width and height are swapped if necessary, in place. The thumbnail is not turned, so
    it keeps its own orientation.
    """
    directory, patched = main_directory(tiff), bytearray(tiff)
    if orientation in SIDES_SWAPPED:
        _swap(patched, directory.entries, WIDTH, LENGTH)
        if pointer := _integer(tiff, directory, EXIF_IFD):
            try:
                inner = _directory(tiff, directory.order, pointer)
            except ValueError:
                inner = Directory(directory.order, pointer, {}, 0)
            _swap(patched, inner.entries, PIXEL_WIDTH, PIXEL_HEIGHT)
    for sign, at, value in _orientations(tiff, directory):
        if value in TURNED:
            struct.pack_into(sign, patched, at, 1)
    return bytes(patched)


def _swap(data: bytearray, entries: dict[int, Entry], first: int, second: int) -> None:
    if first in entries and second in entries:
        one, other = (slice(entries[tag].at + 2, entries[tag].at + 12) for tag in (first, second))
        data[one], data[other] = data[other], data[one]


def without_orientation(tiff: bytes) -> bytes:
    """Return EXIF data without the orientation in its first directory. Later entries move up; nothing else changes.

    A damaged directory may have several orientations: all are removed.
    """
    directory = main_directory(tiff)
    if ORIENTATION not in directory.entries:
        return tiff
    at, patched = directory.entries[ORIENTATION].at, bytearray(tiff)
    count = struct.unpack_from(f"{directory.order}H", tiff, directory.at)[0]
    end = min(directory.at + 2 + 12 * count + 4, len(tiff))
    patched[at:end] = tiff[at + 12 : end] + bytes(12)
    struct.pack_into(f"{directory.order}H", patched, directory.at, count - 1)
    return without_orientation(bytes(patched))


def dpi_of(tiff: bytes) -> tuple[float, float] | None:
    """Return the resolution in EXIF data in pixels per inch; None if it is missing or unreadable."""
    try:
        directory = main_directory(tiff)
        x, y = (_rational(tiff, directory, tag) for tag in (X_RESOLUTION, Y_RESOLUTION))
    except ValueError:
        return None
    unit = _integer(tiff, directory, RESOLUTION_UNIT) or INCH
    if x is None or y is None or unit not in {INCH, CENTIMETRE}:
        return None
    scale = 2.54 if unit == CENTIMETRE else 1.0
    return x * scale, y * scale


def _rational(tiff: bytes, directory: Directory, tag: int) -> float | None:
    entry = directory.entries.get(tag)
    if entry is None or (entry.kind, entry.length) != (RATIONAL, 1):
        return None
    (at,) = struct.unpack_from(f"{directory.order}I", tiff, entry.at + 8)
    if at + 8 > len(tiff):
        return None
    above, below = struct.unpack_from(f"{directory.order}2I", tiff, at)
    return above / below if below else None


def chosen_dpi(dpi: object) -> tuple[float, float] | None:
    """Return a valid resolution, (x, y) in pixels per inch, that is not a default; otherwise None.

    The defaults are the resolutions of screens, 72 and 96.
    """
    if not (isinstance(dpi, tuple) and len(dpi) == 2):
        return None
    x, y = map(float, dpi)
    if not (math.isfinite(x) and math.isfinite(y) and 1 < min(x, y) <= max(x, y) < 1e6):
        return None
    return None if any(abs(x - usual) < 0.5 and abs(y - usual) < 0.5 for usual in DEFAULT_DPI) else (x, y)


def exif_with_dpi(exif: Image.Exif, dpi: tuple[float, float]) -> bytes:
    """Return new EXIF data with a resolution in pixels per inch."""
    for tag, value in ((X_RESOLUTION, dpi[0]), (Y_RESOLUTION, dpi[1])):
        exif[tag] = TiffImagePlugin.IFDRational(round(value * 100), 100)
    exif[RESOLUTION_UNIT] = INCH
    return written(exif)


def written(exif: Image.Exif) -> bytes:
    """Return the tags of EXIF data as bytes; empty bytes without tags."""
    return tiff_of(exif.tobytes()) if exif else b""


def exif_of_tiff_file(image: Image.Image) -> Image.Exif:
    """Return the tags of a TIFF file that describe the image, and not its storage."""
    tags, exif = image.getexif(), Image.Exif()
    for tag in DESCRIPTIVE:
        if tag in tags:
            exif[tag] = tags[tag]
    for pointer in (EXIF_IFD, GPS_IFD):
        if inner := tags.get_ifd(pointer):
            exif[pointer] = dict(inner)
    return exif


def bytes_of_hex(profile: str) -> bytes:
    """Return the bytes of a profile that ImageMagick has stored as hexadecimal text in a PNG file."""
    return bytes.fromhex("".join(profile.split("\n")[3:]))


def can_be_read(tiff: bytes) -> bool:
    """Return whether EXIF data has a valid first directory."""
    try:
        main_directory(tiff)
    except ValueError:
        return False
    return True


def is_empty(tiff: bytes) -> bool:
    """Return whether EXIF data has no tags."""
    directory = main_directory(tiff)
    return not directory.entries and not directory.next
