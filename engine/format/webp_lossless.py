"""Lossless WebP files of the simple kind, which alpha and overlays are stored as: a single VP8L chunk, not animated."""

import io

import numpy as np

from sdtrt._arrays import U8Array
from sdtrt.errors import FormatError

MAX_SIDE = 16383  # of a WebP image
OPAQUE = 255
HEAD_NBYTES, SIGNATURE = 25, 0x2F
CHUNK_NBYTES = 20  # before what the chunk holds
METHOD = 4  # of libwebp's 0 to 6; 6 takes fifty times as long and saves 3 %
TRIAL_METHOD, TRIAL_QUALITY = 1, 75  # half the time, 4 % more bytes


def encode_rgb(pixels: U8Array, trial: bool = False) -> bytes:
    """Return the file of opaque pixels, uint8 (H, W, 3) of at most 16383 a side; a larger one, faster, as a trial."""
    return _encode(pixels, trial)


def encode_rgba(pixels: U8Array, trial: bool = False) -> bytes:
    """Return the file of an overlay, uint8 (H, W, 4) of at most 16383 a side, whose alpha is 0 or 255.

    Colours where it is 0 are not kept. One that covers everything is stored without alpha.
    """
    covered = pixels[:, :, 3:] == OPAQUE
    return _encode(pixels[:, :, :3] if covered.all() else np.where(covered, pixels, np.uint8(0)), trial)


def decode_rgb(segment: bytes, height: int, width: int, what: str) -> U8Array:
    """Return the pixels, uint8 (height, width, 3), of a file without alpha.

    Raises `FormatError`, which calls the segment `what`, if it holds anything else.
    """
    return _decode(segment, height, width, what, ("RGB",))


def decode_rgba(segment: bytes, height: int, width: int, what: str) -> U8Array:
    """Return an overlay, uint8 (height, width, 4), whose alpha is 0 or 255, from a file with alpha or without.

    Raises `FormatError`, which calls the segment `what`, if it holds anything else.
    """
    found = _decode(segment, height, width, what, ("RGB", "RGBA"))
    if found.shape[2] == 3:
        return np.dstack([found, np.full((height, width), OPAQUE, np.uint8)])
    alpha = found[:, :, 3]
    if ((alpha != 0) & (alpha != OPAQUE)).any():
        raise FormatError(f"damaged {what}: alpha is neither 0 nor {OPAQUE} everywhere")
    return found


def _encode(pixels: U8Array, trial: bool) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    method, quality = (TRIAL_METHOD, TRIAL_QUALITY) if trial else (METHOD, 100)
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "WEBP", lossless=True, quality=quality, method=method)
    return stream.getvalue()


def _decode(segment: bytes, height: int, width: int, what: str, modes: tuple[str, ...]) -> U8Array:
    from PIL import Image

    if _size_of(segment, alpha="RGBA" in modes) != (width, height):
        without = "" if "RGBA" in modes else " without alpha of its own"
        raise FormatError(f"damaged {what}: not a lossless WebP file of {width}x{height}{without}")
    try:
        with Image.open(io.BytesIO(segment), formats=["WEBP"]) as image:
            if image.size != (width, height) or image.mode not in modes or getattr(image, "n_frames", 1) != 1:
                expected = f"{' or '.join(modes)} {(width, height)}"
                raise FormatError(f"damaged {what}: {image.mode} {image.size}, expected {expected}")
            return np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FormatError(f"damaged {what}: {error}") from error


def _size_of(segment: bytes, alpha: bool) -> tuple[int, int] | None:
    """Return the size that a lossless WebP file of the simple kind gives itself, None if it is none.

    "WebP Lossless Bitstream Specification", section 3: 14 bits each of width - 1 and height - 1, then one of alpha,
    which is 0 unless `alpha` is allowed, and three of the version.
    """
    if len(segment) < HEAD_NBYTES or segment[:4] + segment[8:16] != b"RIFFWEBPVP8L" or segment[20] != SIGNATURE:
        return None
    intact_segments, chunk = (int.from_bytes(segment[at : at + 4], "little") for at in (4, 16))
    if intact_segments + 8 != len(segment) or CHUNK_NBYTES + chunk + (chunk & 1) != len(segment):
        return None
    bits = int.from_bytes(segment[21:25], "little")
    return None if bits >> (29 if alpha else 28) else ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
