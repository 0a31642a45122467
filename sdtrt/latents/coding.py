"""From latents as users have them to files, without networks."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdtrt._arrays import AnyArray
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.encoder import encode_latents
from sdtrt.engine.format.arguments import checked_instance, digits, is_integer, value_text
from sdtrt.engine.format.limits import Limits, checked_limits
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.errors import LatentsWarning, LimitError
from sdtrt.latents.arrays import array_of, checked_latents
from sdtrt.latents.files import read_latents
from sdtrt.latents.npy import check_size
from sdtrt.latents.spread import warning_of_spread
from sdtrt.process.text import printable

LatentsLike = Any  # a NumPy array, a torch tensor, an object with DLPack or __array__, or the path of a file


def file_of(
    latents: LatentsLike,
    profile: LatentProfile,
    options: EncodeOptions,
    *,
    size: tuple[int | None, int | None],
    key: str | None,
    limits: Limits,
    stacklevel: int,
) -> bytes:
    """Return latents as a file; arguments and errors as of `Codec.encode_latents`.

    `size` is (width, height) of the image; `stacklevel` is how many calls above this one the user's own call is.
    """
    checked_limits(limits)
    if key is not None:
        checked_instance("key", key, str, "the name of an array, or None")
    with named(latents):
        array = loaded(latents, key, limits)
        check_size(array.shape, limits)
        plane = checked_latents(array, profile)
    height = side(size[1], plane.shape[1], profile.downscale, "height")
    width = side(size[0], plane.shape[2], profile.downscale, "width")
    if width * height > limits.max_pixels:
        raise LimitError(
            f"latents of an image of {width}x{height} pixels; the limit is {limits.max_pixels} (--max-pixels)"
        )
    if message := warning_of_spread(plane, profile):
        warnings.warn(message, LatentsWarning, stacklevel=stacklevel + 1)
    return encode_latents(plane, width, height, profile, options)


def loaded(latents: LatentsLike, key: str | None, limits: Limits) -> AnyArray:
    """Return the array in memory or in a file, of any shape and dtype."""
    if isinstance(latents, str | os.PathLike):
        with Path(os.fsdecode(latents)).open("rb") as stream:
            return read_latents(stream, key, limits)
    if key is not None:
        raise ValueError(f"key {key!r} is for the path of a file with several arrays; latents in memory have no names")
    return array_of(latents)


@contextmanager
def named(latents: LatentsLike) -> Iterator[None]:
    """Put the path of a file of latents, if they are one, before what is wrong with it."""
    try:
        yield
    except (ValueError, LimitError) as error:
        if not isinstance(latents, str | os.PathLike):
            raise
        kind = LimitError if isinstance(error, LimitError) else ValueError
        raise kind(f"{printable(os.fsdecode(latents))}: {error}") from error


def side(pixels: int | None, count: int, downscale: int, name: str) -> int:
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
