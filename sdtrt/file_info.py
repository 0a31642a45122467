"""The facts of a file (`info`) and a check of it (`verify`), without a model. `info` needs neither NumPy nor Pillow."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sdtrt.engine.coding.encode_options import Method
from sdtrt.engine.coding.quality_scale import allows_fast, quality_of
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File
from sdtrt.engine.format.latent_space import BUNDLED, PALETTE, PROFILE_NBYTES
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.errors import BundleError
from sdtrt.images.sources import Source, bytes_of, opened


@dataclass(frozen=True, slots=True)
class Info:
    """The facts of a file.

    Attributes:
        width: the width of the image in pixels.
        height: the height of the image in pixels.
        channels: 1 to 4, the channels of the image.
        nbytes: the size of the file in bytes.
        bits_per_pixel: the size in bits per pixel of the image.
        method: "latents" or "palette".
        quality: the quality that has the file's quantization step; None for method "palette".
        step: the quantization step of the latents; None for method "palette".
        latent_space: the name of the latent space.
        latent_shape: channels, rows and columns of the latents.
        profile: the number of the profile, as in docs/format.md.
        prior: the number of the prior, as in docs/format.md.
        model_prior: the digest of the prior of a model that the file needs; None if it needs none.
        tiles: the number of tiles across and down.
        allows_fast: whether the look "fast" has its own decoder. Beside a fine residual the faithful decoder is used.
        bytes_by_section: the bytes of each section: `latents` (with several tiles one number for each level, from the
            coarsest), `overlay`, `residual`, `alpha`, `metadata`, and `head` for all else.
    """

    width: int
    height: int
    channels: int
    nbytes: int
    bits_per_pixel: float
    method: Method
    quality: float | None
    step: float | None
    latent_space: str
    latent_shape: tuple[int, int, int]
    profile: int
    prior: int
    model_prior: str | None
    tiles: tuple[int, int]
    allows_fast: bool
    bytes_by_section: dict[str, int]


class Size(NamedTuple):
    """The size of a file's image in pixels, and its channels, 1 to 4."""

    width: int
    height: int
    channels: int


def size_of(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> Size:
    """Return the size of the image in a file. Only the head of a large file is read and checked."""
    with opened(source) as content:
        file = container.read(content, limits) if isinstance(content, bytes) else container.read_from(content, limits)
    return Size(file.header.width, file.header.height, (1 if file.header.grey else 3) + file.layout.alpha)


def info(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> Info:
    """Return the facts of an `.sdt` file. The checksum is checked, streams are not decoded. No model is needed.

    Arguments:
        source: the file's bytes, its path, or a binary stream.
        limits: a `Limits`: how many pixels and bytes the file may ask for. Default `Limits()`.

    Raises:
        FormatError: the file is damaged.
        LimitError: the file exceeds `limits`.

    Examples:
        >>> sdtrt.info("photo.sdt").quality
        50.0
    """
    data = bytes_of(source)
    file = container.read(data, limits)
    header, space = file.header, file.space
    palette = header.prior == PALETTE
    return Info(
        width=header.width,
        height=header.height,
        channels=(1 if header.grey else 3) + file.layout.alpha,
        nbytes=len(data),
        bits_per_pixel=8 * len(data) / (header.width * header.height),
        method="palette" if palette else "latents",
        quality=None if palette else round(quality_of(space, header.step_code, file.layout.residual_step), 1),
        step=None if palette else header.quant_step,
        latent_space=space.latent_space,
        latent_shape=space.grid(header.width, header.height),
        profile=header.profile,
        prior=header.prior,
        model_prior=file.profile[PROFILE_NBYTES:].hex() if header.prior == BUNDLED else None,
        allows_fast=allows_fast(file.layout.residual_step),
        tiles=(file.layout.columns, file.layout.rows),
        bytes_by_section=bytes_by_section(file, len(data)),
    )


def bytes_by_section(file: File, nbytes: int) -> dict[str, int]:
    """Return the bytes of each section of a file of `nbytes` bytes."""
    layout = file.layout
    sections: dict[str, Any] = {
        name: sum(len(file.segment(kind, tile)) for tile in range(layout.num_tiles))
        for kind, name in enumerate(layout.kinds)
    }
    sections["metadata"] = sum(map(len, file.chunks.values()))
    return sections | {"head": nbytes - sum(sections.values())}


def verify(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """Check every part of a file except the pixels: structure, checksum, latents, layers, alpha, metadata.

    No model is needed, unless the file refers to the prior of a model. Without that model the latents are not checked.

    Arguments:
        source: the file's bytes, its path, or a binary stream.
        limits: a `Limits`: how many pixels and bytes the file may ask for. Default `Limits()`.

    Returns:
        A text that names the parts that were not checked; "" if all were checked.

    Raises:
        FormatError: the file is damaged.
        LimitError: the file exceeds `limits`.

    Examples:
        >>> sdtrt.verify("photo.sdt")
        ''
    """
    from sdtrt.engine.coding.latent_file import decode_latents
    from sdtrt.engine.coding.latent_reader import check_latent_size
    from sdtrt.engine.format.alpha import read_alpha
    from sdtrt.engine.format.metadata import read_metadata
    from sdtrt.engine.layers.layer_reader import LayerReader
    from sdtrt.engine.networks.bundle import model_profile_for

    file = container.read(bytes_of(source), limits)
    check_latent_size(file, file.space, limits)
    unchecked = ""
    try:
        decode_latents(file, limits, model_profile_for(file))
    except BundleError as error:
        unchecked = f"latents not checked: {error}"
    LayerReader(file).verify()
    read_alpha(file)
    read_metadata(file)
    return unchecked
