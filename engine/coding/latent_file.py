"""Latents to files and back: quantization, entropy coding and the container, without networks.

A model is only needed for files that refer to the prior of a model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sdtrt._arrays import F32Array, I16Array, U8Array
from sdtrt.engine.coding import palette
from sdtrt.engine.coding.encode_options import DEFAULT_EFFORT
from sdtrt.engine.coding.latent_reader import LatentReader, channel_steps, inner_edges, load_prior, num_levels
from sdtrt.engine.coding.perceptual_masking import masking_weights
from sdtrt.engine.coding.priors.adaptive_fit import fit_adaptive
from sdtrt.engine.coding.priors.passes import InnerEdges
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.engine.coding.streams.words import WORD
from sdtrt.engine.format.alpha import encode_alpha
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.latent_space import BUNDLED, INLINE, PALETTE
from sdtrt.engine.format.layout import SINGLE, Layout, Span, max_tiles, pixel_tiles, tile_spans
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.profile import LatentProfile, serialize_profile
from sdtrt.engine.format.webp_lossless import MAX_SIDE
from sdtrt.errors import FormatError
from sdtrt.kernels import core, reference
from sdtrt.process.threads import parallel_map

TILE = 128  # latents: the usual side of a tile; planes of up to one and a half tiles are not divided


class TileToQuantize(NamedTuple):
    """The input of a symbol search: a tile and its context.

    Attributes:
        header: the header of the file.
        rows, columns: place of the tile in the plane of latents.
        scaled: float32 (C, h, w), the latents of the tile in quantization steps.
        rate_weight: float32 (h, w), factor of lambda at each position, from ROI and masking.
        error_weight: float32 (h, w), factor of the squared error at each position, from the ROI alone.
        prior: the entropy model.
        edges: which edges of the tile touch another tile.
    """

    header: Header
    rows: Span
    columns: Span
    scaled: F32Array
    rate_weight: F32Array
    error_weight: F32Array
    prior: Prior
    edges: InnerEdges


SymbolSearch = Callable[[TileToQuantize], I16Array]  # from a tile to its symbols, int16 (C, h, w)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCodingOptions:
    """How tiles are quantized.

    Attributes:
        effort: 1 (fast) to 9 (slow); see `stream_codec.quantize_and_encode`.
        rate_weight: float32 (h, w) for all latents of the image, factor of lambda at each position; default 1.
        search: chooses the symbols of a tile; default RDOQ.
    """

    effort: int = DEFAULT_EFFORT
    rate_weight: F32Array | None = None
    search: SymbolSearch | None = None


DEFAULT_TILE_CODING = TileCodingOptions()


class TileStream(NamedTuple):
    """The segments of a tile, and the number of bytes that the first word of its stream lacks to 4."""

    segments: list[bytes]
    alignment: int


class LatentFileWriter:
    """Makes the file of an image while its latents arrive from top to bottom.

    Arguments:
        width, height: size of the image in pixels.
        profile: latent profile of the model.
        step_code: code of the quantization step, 0 to 4095.
        options: how tiles are quantized.
        grey: whether the image is to be decoded with one channel.
    """

    def __init__(
        self,
        width: int,
        height: int,
        profile: LatentProfile,
        step_code: int,
        options: TileCodingOptions = DEFAULT_TILE_CODING,
        *,
        grey: bool = False,
    ) -> None:
        self._header = Header(width, height, profile.id, profile.prior, step_code, grey)
        self._profile, self._options = profile, options
        self._prior = load_prior(profile.prior, profile)
        _, *sides = self._shape = profile.grid(width, height)
        self._layout = choose_layout(sides[0], sides[1], profile)
        self._tile_rows = tile_spans(sides[0], self._layout.rows)
        self._tile_columns = tile_spans(sides[1], self._layout.columns)
        self._streams: list[TileStream] = []
        self._pending: list[F32Array] = []
        self._rows_added = 0

    def add(self, latents: F32Array) -> None:
        """Take the next rows of latents.

        Arguments:
            latents: float32 (C, n, w).

        Raises:
            ValueError: if the latents are not finite, or have another shape.
        """
        channels, height, width = self._shape
        if latents.ndim != 3 or (latents.shape[0], latents.shape[2]) != (channels, width):
            raise ValueError(f"latents of shape {latents.shape}, expected ({channels}, rows, {width})")
        self._pending.append(latents)
        self._rows_added += latents.shape[1]
        if self._rows_added > height:
            raise ValueError(f"{self._rows_added} rows of latents came, expected {height}")
        for rows in self._tile_rows[len(self._streams) // self._layout.columns :]:
            if rows[1] <= self._rows_added:
                self._encode_row_of_tiles(rows)

    def _encode_row_of_tiles(self, rows: Span) -> None:
        latents = np.concatenate(self._pending, axis=1) if len(self._pending) > 1 else self._pending[0]
        count = rows[1] - rows[0]
        self._pending = [latents[:, count:]]
        steps = channel_steps(self._profile, self._header)
        scaled = reference.scale_to_steps(latents[:, :count], self._profile.mean, steps)
        # The networks of a search have threads of their own.
        threads = core.threads_over_tiles() if self._options.search is None else 1

        def encode_tile(columns: Span) -> TileStream:
            return self._encode_tile(np.ascontiguousarray(scaled[:, :, slice(*columns)]), rows, columns)

        self._streams += parallel_map(encode_tile, self._tile_columns, threads)

    def _encode_tile(self, scaled: F32Array, rows: Span, columns: Span) -> TileStream:
        options, code, prior, parameters = self._options, self._header.step_code, self._prior, b""
        edges = inner_edges(rows, columns, *self._shape[1:])
        if prior is None:
            adaptive = fit_adaptive(np.rint(scaled).astype(np.int16), edges)
            prior, parameters = adaptive, adaptive.parameters.tobytes()
        roi_rate_weight = None if options.rate_weight is None else options.rate_weight[slice(*rows), slice(*columns)]
        rate_weight = roi_rate_weight
        if self._profile.masking and options.effort > 1:
            mask = masking_weights(scaled[: self._profile.masking] * np.float32(self._header.quant_step))
            rate_weight = mask if roi_rate_weight is None else mask * roi_rate_weight
        if options.search:
            ones = np.ones(scaled.shape[1:], np.float32)
            error_weight = ones if roi_rate_weight is None else ones / roi_rate_weight
            weight = ones if rate_weight is None else rate_weight
            tile = TileToQuantize(self._header, rows, columns, scaled, weight, error_weight, prior, edges)
            stream = stream_codec.encode_stream(options.search(tile), prior, code, edges)
        else:
            stream = stream_codec.quantize_and_encode(scaled, prior, code, options.effort, rate_weight, edges)
        first, *rest = [stream.data] if self._layout.levels == 1 else stream.levels()
        return TileStream([parameters + first, *rest], -len(first) % WORD)

    def finish(self, alpha: Sequence[bytes] | None = None, chunks: Mapping[int, bytes] | None = None) -> File:
        """Return the file.

        Arguments:
            alpha: segments of the alpha plane, see `alpha_segments`; None without alpha.
            chunks: metadata by chunk type.

        Raises:
            ValueError: if rows of latents are missing.
        """
        if len(self._streams) != self._layout.num_tiles:
            raise ValueError(f"{self._rows_added} rows of latents came, expected {self._shape[1]}")
        segments = [stream.segments[level] for level in range(self._layout.levels) for stream in self._streams]
        header = replace(self._header, alignment=self._streams[0].alignment)
        layout = replace(self._layout, alpha=alpha is not None)
        return File(header, [*segments, *(alpha or ())], layout, serialize_profile(self._profile), dict(chunks or {}))


def encode_latents_to_file(
    latents: F32Array,
    width: int,
    height: int,
    profile: LatentProfile,
    step_code: int,
    options: TileCodingOptions = DEFAULT_TILE_CODING,
    *,
    grey: bool = False,
    alpha: Sequence[bytes] | None = None,
    chunks: Mapping[int, bytes] | None = None,
) -> File:
    """Encode the latents of an image at a quantization step.

    Arguments:
        latents: float32 (C, h, w) at unit scale.
        width, height: size of the image in pixels.
        profile: latent profile of the model.
        step_code: code of the quantization step, 0 to 4095.
        options: how tiles are quantized.
        grey: whether the image is to be decoded with one channel.
        alpha: segments of the alpha plane, see `alpha_segments`; None without alpha.
        chunks: metadata by chunk type.

    Raises:
        ValueError: if the latents are not finite, or do not have the shape of a `width` x `height` image.
    """
    check_latent_shape(latents, width, height, profile)
    writer = LatentFileWriter(width, height, profile, step_code, options, grey=grey)
    writer.add(latents)
    return writer.finish(alpha, chunks)


def encode_palette_file(
    latents: F32Array,
    width: int,
    height: int,
    profile: LatentProfile,
    *,
    grey: bool = False,
    alpha: Sequence[bytes] | None = None,
    chunks: Mapping[int, bytes] | None = None,
) -> File:
    """Encode latents by the method of `palette`.

    The arguments are those of `encode_latents_to_file`.

    Raises:
        ValueError: as in `encode_latents_to_file`, and for latent spaces of other than 4 channels.
    """
    check_latent_shape(latents, width, height, profile)
    if profile.channels != palette.CHANNELS or profile.id in {INLINE, BUNDLED}:
        raise ValueError(f"method palette is for known latent spaces of 4 channels; {profile.latent_space} is none")
    if not np.isfinite(latents).all():
        raise ValueError("latents hold values that are not finite")
    payload = palette.encode_palette(latents)
    header = Header(width, height, profile.id, PALETTE, 0, grey, -len(payload) % WORD)
    return File(header, [payload, *(alpha or ())], Layout(alpha=alpha is not None), b"", dict(chunks or {}))


def choose_layout(height: int, width: int, profile: LatentProfile) -> Layout:
    """Choose the tiles and levels for a plane of `height` x `width` latents."""
    side = min(TILE, 2 * MAX_SIDE // (3 * profile.downscale))  # so that the alpha of a tile fits one WebP image
    rows, columns = (min(max(1, -(-(length - side // 2) // side)), max_tiles(length)) for length in (height, width))
    if rows * columns == 1:
        return SINGLE
    return Layout(columns, rows, num_levels(load_prior(profile.prior, profile)))


def alpha_segments(plane: U8Array | None, profile: LatentProfile, *, divided: bool = True) -> list[bytes] | None:
    """Encode an alpha plane.

    Arguments:
        plane: uint8 (H, W), or None.
        profile: latent profile of the model.
        divided: whether the plane has the tiles of the latents; otherwise it is one tile.

    Returns the segments of the tiles; None without a plane.
    """
    if plane is None:
        return None
    height, width = plane.shape
    _, rows, columns = profile.grid(width, height)
    layout = choose_layout(rows, columns, profile) if divided else SINGLE
    places = pixel_tiles(width, height, profile.downscale, layout)
    return parallel_map(encode_alpha, [plane[slice(*down), slice(*across)] for down, across in places])


def check_latent_shape(latents: F32Array, width: int, height: int, profile: LatentProfile) -> None:
    """Raise `ValueError` unless latents have the shape of those of a `width` x `height` image."""
    grid = profile.grid(width, height)
    if latents.shape != grid:
        raise ValueError(f"latents of shape {latents.shape}; {width}x{height} in {profile.latent_space} has {grid}")


def decode_latents(file: File, limits: Limits = DEFAULT_LIMITS, model_profile: LatentProfile | None = None) -> F32Array:
    """Decode the latents of a file, float32 (C, h, w) at unit scale; arguments and errors of `LatentReader`."""
    return LatentReader(file, limits, model_profile=model_profile).read().dequantize()


def decode_symbols(file: File, limits: Limits = DEFAULT_LIMITS, model_profile: LatentProfile | None = None) -> I16Array:
    """Decode the symbols of a file, int16 (C, h, w), as they were coded.

    Arguments and errors are those of `LatentReader`.

    Raises:
        FormatError: also if the file was made by method palette.
    """
    reader = LatentReader(file, limits, model_profile=model_profile)
    if file.header.prior == PALETTE:
        raise FormatError("the file was made by method palette: it has latents, but no symbols")
    return reader.decode_symbols((0, reader.shape[1]), (0, reader.shape[2])).symbols
