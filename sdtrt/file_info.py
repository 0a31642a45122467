"""What files say of themselves, without a model: `info`, `verify`."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sdtrt.engine.coding.encode_options import Method
from sdtrt.engine.coding.latent_file import decode_latents
from sdtrt.engine.coding.latent_reader import check_latent_size
from sdtrt.engine.coding.quality_scale import quality_of, vivid_weight
from sdtrt.engine.format import container
from sdtrt.engine.format.alpha import read_alpha
from sdtrt.engine.format.container import File
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.metadata import read_metadata
from sdtrt.engine.format.profile import BUNDLED, PALETTE, PROFILE_NBYTES
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.bundle import model_profile_for
from sdtrt.errors import BundleError
from sdtrt.sources import Source, bytes_of, opened


@dataclass(frozen=True, slots=True)
class Info:
    """What a file says of itself.

    `channels` 1 to 4 are those of the image; `quality` is that of the nearest step, None by method "palette". `tiles`
    are those across and down; `vivid_weight`, 1 to 0, is how much the file's residual leaves of the vivid look that a
    model may have; `model_prior` is the digest of the model's prior that a file refers to, None if it needs none;
    `spent` tells where the bytes go: `latents`, of several tiles level by level from the coarsest,
    `overlay`, `residual`, `alpha`, `metadata`, and `head`, all else.
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
    vivid_weight: float
    spent: dict[str, int]


class Size(NamedTuple):
    """The size of a file's image in pixels, and its channels, 1 to 4."""

    width: int
    height: int
    channels: int


def size_of(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> Size:
    """Return the size of the image in a file; of large ones no more is read, and checked, than the head."""
    with opened(source) as found:
        file = container.read(found, limits) if isinstance(found, bytes) else container.read_from(found, limits)
    return Size(file.header.width, file.header.height, (1 if file.header.grey else 3) + file.layout.alpha)


def info(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> Info:
    """Return what a file says of itself; the checksum is checked, streams are not decoded. Needs no model."""
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
        vivid_weight=round(vivid_weight(file.layout.residual_step), 3),
        tiles=(file.layout.columns, file.layout.rows),
        spent=spent(file, len(data)),
    )


def spent(file: File, nbytes: int) -> dict[str, int]:
    """Return how many bytes of a file go where."""
    layout = file.layout
    found: dict[str, Any] = {
        name: sum(len(file.segment(kind, tile)) for tile in range(layout.num_tiles))
        for kind, name in enumerate(layout.kinds)
    }
    found["metadata"] = sum(map(len, file.chunks.values()))
    return found | {"head": nbytes - sum(found.values())}


def verify(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """Check a file completely, all but the pixels: structure, checksum, every latent, layers, alpha, metadata.

    Needs no model, but for the latents of files that refer to the prior of one. If that is not to be had, all else is
    checked; returns in words what could not be, "" if nothing is left. Raises `FormatError` or `LimitError`, as
    `decode` would.
    """
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
