"""Lossless WebP files with a single VP8L chunk: the segments of alpha and overlays."""

import io

import numpy as np

from sdtrt._arrays import U8Array
from sdtrt.errors import FormatError

MAX_SIDE = 16383  # of a WebP image
OPAQUE = 255
MIN_NBYTES, SIGNATURE = 25, 0x2F
CHUNK_START = 20  # offset of the VP8L chunk's data
METHOD = 4  # of libwebp's 0 to 6; 6 takes fifty times as long and saves 3 %
TRIAL_METHOD, TRIAL_QUALITY = 1, 75  # half the time, 4 % more bytes


def encode_rgb(pixels: U8Array, trial: bool = False) -> bytes:
    """Return the file of opaque pixels.

    Arguments:
        pixels: uint8 (H, W, 3), of at most 16383 a side.
        trial: whether to encode faster, to a larger file.
    """
    return _encode(pixels, trial)


def encode_rgba(pixels: U8Array, trial: bool = False) -> bytes:
    """Return the file of an overlay. An overlay that is opaque everywhere is stored without alpha.

    Arguments:
        pixels: uint8 (H, W, 4), of at most 16383 a side. Alpha is 0 or 255; colours under alpha 0 are lost.
        trial: whether to encode faster, to a larger file.
    """
    is_opaque = pixels[:, :, 3:] == OPAQUE
    return _encode(pixels[:, :, :3] if is_opaque.all() else np.where(is_opaque, pixels, np.uint8(0)), trial)


def decode_rgb(segment: bytes, height: int, width: int, name: str) -> U8Array:
    """Return the pixels of a file without alpha, uint8 (height, width, 3).

    Raises `FormatError`, whose message has the segment's `name`, for any other content.
    """
    return _decode(segment, height, width, name, ("RGB",))


def decode_rgba(segment: bytes, height: int, width: int, name: str) -> U8Array:
    """Return an overlay, uint8 (height, width, 4) with an alpha of 0 or 255, from a file with or without alpha.

    Raises `FormatError`, whose message has the segment's `name`, for any other content.
    """
    pixels = _decode(segment, height, width, name, ("RGB", "RGBA"))
    if pixels.shape[2] == 3:
        return np.dstack([pixels, np.full((height, width), OPAQUE, np.uint8)])
    alpha = pixels[:, :, 3]
    if ((alpha != 0) & (alpha != OPAQUE)).any():
        raise FormatError(f"damaged {name}: it has alpha values other than 0 and {OPAQUE}")
    return pixels


def _encode(pixels: U8Array, trial: bool) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    method, quality = (TRIAL_METHOD, TRIAL_QUALITY) if trial else (METHOD, 100)
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "WEBP", lossless=True, quality=quality, method=method)
    return stream.getvalue()


def _decode(segment: bytes, height: int, width: int, name: str, modes: tuple[str, ...]) -> U8Array:
    from PIL import Image

    if _parse_size(segment, alpha="RGBA" in modes) != (width, height):
        without = "" if "RGBA" in modes else " without alpha"
        raise FormatError(f"damaged {name}: not a lossless WebP file of {width}x{height}{without}")
    try:
        with Image.open(io.BytesIO(segment), formats=["WEBP"]) as image:
            if image.size != (width, height) or image.mode not in modes or getattr(image, "n_frames", 1) != 1:
                expected = f"{' or '.join(modes)} {(width, height)}"
                raise FormatError(f"damaged {name}: {image.mode} {image.size}, expected {expected}")
            return np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FormatError(f"damaged {name}: {error}") from error


def _parse_size(segment: bytes, alpha: bool) -> tuple[int, int] | None:
    """Return width and height in the header of a lossless WebP file, None if the file has another form.

    "WebP Lossless Bitstream Specification", section 3: 14 bits of width - 1, 14 of height - 1, one of alpha, and three
    of the version. The bit of alpha must be 0 unless `alpha` is allowed.
    """
    if len(segment) < MIN_NBYTES or segment[:4] + segment[8:16] != b"RIFFWEBPVP8L" or segment[20] != SIGNATURE:
        return None
    riff_nbytes, chunk_nbytes = (int.from_bytes(segment[at : at + 4], "little") for at in (4, 16))
    if riff_nbytes + 8 != len(segment) or CHUNK_START + chunk_nbytes + (chunk_nbytes & 1) != len(segment):
        return None
    bits = int.from_bytes(segment[21:25], "little")
    return None if bits >> (29 if alpha else 28) else ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
