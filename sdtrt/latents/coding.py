"""Latents in memory or in a file to the bytes of an `.sdt` file, without networks."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdtrt._arrays import AnyArray
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.encoder import encode_latents
from sdtrt.engine.format.arguments import checked_instance, digits, is_integer, value_text
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits, checked_limits
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.errors import LatentsWarning, LimitError
from sdtrt.latents.arrays import checked_latents, to_numpy
from sdtrt.latents.files import read_latents
from sdtrt.latents.npy import check_size
from sdtrt.latents.spread import warning_of_spread
from sdtrt.process.text import printable

LatentsLike = Any  # a NumPy array, a torch tensor, an object with DLPack or __array__, or the path of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentsEncodeOptions(EncodeOptions):
    """The options of `sdtrt.encode_latents`, except the latent space. `target_psnr` must be None."""

    width: int | None = None  # of the image, in pixels; None: all that the latents cover
    height: int | None = None
    key: str | None = None  # name of the array in a file
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        EncodeOptions.__post_init__(self)
        if self.key is not None:
            checked_instance("key", self.key, str, "the name of an array, or None")
        checked_limits(self.limits)


def latents_to_file(
    latents: LatentsLike, profile: LatentProfile, options: LatentsEncodeOptions, *, stacklevel: int
) -> bytes:
    """Return latents as the bytes of a file; errors as of `sdtrt.encode_latents`.

    `stacklevel` is the number of calls between this one and the user's own call, which warnings name.
    """
    with errors_with_path(latents):
        array = load_array(latents, options.key, options.limits)
        check_size(array.shape, options.limits)
        plane = checked_latents(array, profile)
    height = image_side(options.height, plane.shape[1], profile.downscale, "height")
    width = image_side(options.width, plane.shape[2], profile.downscale, "width")
    if width * height > options.limits.max_pixels:
        raise LimitError(
            f"latents of an image of {width}x{height} pixels; the limit is {options.limits.max_pixels} (--max-pixels)"
        )
    if message := warning_of_spread(plane, profile):
        warnings.warn(message, LatentsWarning, stacklevel=stacklevel + 1)
    return encode_latents(plane, width, height, profile, options)


def load_array(latents: LatentsLike, key: str | None, limits: Limits) -> AnyArray:
    """Return the array, of any shape and dtype, from memory or from a file."""
    if isinstance(latents, str | os.PathLike):
        with Path(os.fsdecode(latents)).open("rb") as stream:
            return read_latents(stream, key, limits)
    if key is not None:
        raise ValueError(f"key is {key!r}, expected None: only arrays in a file have names")
    return to_numpy(latents)


@contextmanager
def errors_with_path(latents: LatentsLike) -> Iterator[None]:
    """Put the path of a file of latents before the message of any error about it."""
    try:
        yield
    except (ValueError, LimitError) as error:
        if not isinstance(latents, str | os.PathLike):
            raise
        kind = LimitError if isinstance(error, LimitError) else ValueError
        raise kind(f"{printable(os.fsdecode(latents))}: {error}") from error


def image_side(pixels: int | None, count: int, downscale: int, name: str) -> int:
    """Return a side of the image in pixels, by default all that its latents cover; `ValueError` if it does not fit."""
    most = count * downscale
    if pixels is None:
        return most
    if not is_integer(pixels):
        raise TypeError(f"{name} is {value_text(pixels)}, expected a whole number of pixels")
    if not most - downscale < pixels <= most:
        axis = "columns" if name == "width" else "rows"
        raise ValueError(
            f"{name} {digits(int(pixels))} for latents of {count} {axis}, "
            f"expected {most - downscale + 1} to {most} pixels; one latent covers {downscale}"
        )
    return int(pixels)
