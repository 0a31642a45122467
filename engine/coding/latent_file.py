"""Latents to files and back: all between networks and bytes. Needs no model, but those files that refer to one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sdtrt._arrays import F32Array, I16Array, U8Array
from sdtrt.engine.coding import palette, stream_codec
from sdtrt.engine.coding.ans import WORD
from sdtrt.engine.coding.latent_reader import LatentReader, channel_steps, inner_edges, load_prior, num_levels
from sdtrt.engine.coding.perceptual_masking import masking_weights
from sdtrt.engine.coding.priors.adaptive import fit_adaptive
from sdtrt.engine.coding.priors.passes import InnerEdges
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.quantized_latents import dequantize
from sdtrt.engine.coding.rate_control import EncodeOptions
from sdtrt.engine.coding.stream_codec import DEFAULT_EFFORT
from sdtrt.engine.coding.threads import parallel_map
from sdtrt.engine.format import container
from sdtrt.engine.format.alpha import encode_alpha
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import SINGLE, Layout, Span, max_tiles, pixel_tiles, tile_spans
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.profile import BUNDLED, INLINE, PALETTE, LatentProfile, serialize_profile
from sdtrt.engine.format.webp_lossless import MAX_SIDE
from sdtrt.errors import FormatError
from sdtrt.kernels import reference

TILE = 128  # latents: the usual side of a tile; planes of up to one and a half are not divided


class TileToQuantize(NamedTuple):
    """What is known of a tile when its symbols are chosen."""

    header: Header
    rows: Span
    columns: Span
    scaled: F32Array  # its latents in steps, float32 (C, h, w)
    rate_weight: F32Array  # by how much dearer than usual bits are at each, float32 (h, w)
    roi: F32Array  # by how much errors count at each, float32 (h, w)
    prior: Prior
    inner: InnerEdges


SymbolSearch = Callable[[TileToQuantize], I16Array]  # from a tile to its symbols, int16 (C, h, w)


class TileStream(NamedTuple):
    """A tile's segments, and by how many bytes the first word of its stream is short."""

    segments: list[bytes]
    alignment: int


class LatentFileWriter:
    """An image's file, made while its latents come, rows of tiles after rows of tiles.

    `effort` is 1 (fast) to 9 (slow); `rate_weight`, float32 (h, w), is by how much dearer than usual bits are at each latent;
    `search`, if given, chooses the symbols.
    """

    def __init__(
        self,
        width: int,
        height: int,
        profile: LatentProfile,
        step_code: int,
        *,
        effort: int = DEFAULT_EFFORT,
        grey: bool = False,
        rate_weight: F32Array | None = None,
        search: SymbolSearch | None = None,
    ) -> None:
        self._header = Header(width, height, profile.id, profile.prior, step_code, grey)
        self._profile, self._effort, self._rate_weight, self._search = profile, effort, rate_weight, search
        _, *sides = profile.grid(width, height)
        self._layout = choose_layout(sides[0], sides[1], profile)
        self._rows, self._columns = tile_spans(sides[0], self._layout.rows), tile_spans(sides[1], self._layout.columns)
        self._streams: list[TileStream] = []
        self._waiting: list[F32Array] = []
        self._count = 0  # of rows that came

    def add(self, latents: F32Array) -> None:
        """Take the next rows of latents, float32 (C, n, w); `ValueError` if they are not finite or do not fit."""
        channels, _, width = self._profile.grid(self._header.width, self._header.height)
        if latents.ndim != 3 or (latents.shape[0], latents.shape[2]) != (channels, width):
            raise ValueError(f"latents of shape {latents.shape}, expected ({channels}, rows, {width})")
        self._waiting.append(latents)
        self._count += latents.shape[1]
        if self._count > self._rows[-1][1]:
            raise ValueError(f"{self._count} rows of latents came, expected {self._rows[-1][1]}")
        for rows in self._rows[len(self._streams) // self._layout.columns :]:
            if rows[1] <= self._count:
                self._code_row(rows)

    def _code_row(self, rows: Span) -> None:
        together = np.concatenate(self._waiting, axis=1) if len(self._waiting) > 1 else self._waiting[0]
        taken = rows[1] - rows[0]
        self._waiting = [together[:, taken:]]
        scaled = reference.scale_to_steps(
            together[:, :taken], self._profile.mean, channel_steps(self._profile, self._header)
        )

        def work(columns: Span) -> TileStream:
            rate_weight = None if self._rate_weight is None else self._rate_weight[slice(*rows), slice(*columns)]
            inner = inner_edges(rows, columns, self._rows[-1][1], self._columns[-1][1])
            return self._stream(
                np.ascontiguousarray(scaled[:, :, slice(*columns)]), rate_weight, inner, (rows, columns)
            )

        self._streams += map(work, self._columns)

    def _stream(
        self, scaled: F32Array, rate_weight: F32Array | None, inner: InnerEdges, place: tuple[Span, Span]
    ) -> TileStream:
        parameters, code = b"", self._header.step_code
        prior = load_prior(self._profile.prior, self._profile)
        if prior is None:
            prior = fit_adaptive(np.rint(scaled).astype(np.int16), inner)
            parameters = prior.parameters.tobytes()
        roi_weight = rate_weight
        if self._profile.masking and self._effort > 1:
            mask = masking_weights(scaled[: self._profile.masking] * np.float32(self._header.quant_step))
            rate_weight = mask if rate_weight is None else mask * rate_weight
        if self._search:
            even = np.ones(scaled.shape[1:], np.float32)
            masked, roi = (
                even if rate_weight is None else rate_weight,
                even if roi_weight is None else even / roi_weight,
            )
            symbols = self._search(TileToQuantize(self._header, *place, scaled, masked, roi, prior, inner))
            stream = stream_codec.encode_stream(symbols, prior, code, inner)
        else:
            stream = stream_codec.quantize_and_encode(scaled, prior, code, self._effort, rate_weight, inner)
        first, *rest = [stream.data] if self._layout.levels == 1 else stream.levels()
        return TileStream([parameters + first, *rest], -len(first) % WORD)

    def file(self, alpha: Sequence[bytes] | None = None, chunks: Mapping[int, bytes] | None = None) -> File:
        """Return the file; `alpha` are its segments, see `alpha_segments`. `ValueError` if latents are missing."""
        if len(self._streams) != self._layout.num_tiles:
            raise ValueError(f"{self._count} rows of latents came, expected {self._rows[-1][1]}")
        segments = [stream.segments[level] for level in range(self._layout.levels) for stream in self._streams]
        header = replace(self._header, alignment=self._streams[0].alignment)
        own_profile = serialize_profile(self._profile)
        layout = replace(self._layout, alpha=alpha is not None)
        return File(header, [*segments, *(alpha or ())], layout, own_profile, dict(chunks or {}))


def encode_latents_to_file(
    latents: F32Array,
    width: int,
    height: int,
    profile: LatentProfile,
    step_code: int,
    *,
    effort: int = DEFAULT_EFFORT,
    grey: bool = False,
    rate_weight: F32Array | None = None,
    search: SymbolSearch | None = None,
    alpha: Sequence[bytes] | None = None,
    chunks: Mapping[int, bytes] | None = None,
) -> File:
    """Return the file of an image's latents, float32 (C, h, w); arguments as of `LatentFileWriter`.

    Raises `ValueError` if the latents are not finite or their shape is not that of a `width` x `height` image.
    """
    check_latent_shape(latents, width, height, profile)
    builder = LatentFileWriter(
        width, height, profile, step_code, effort=effort, grey=grey, rate_weight=rate_weight, search=search
    )
    builder.add(latents)
    return builder.file(alpha, chunks)


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
    """Return a file by the method of `palette`; errors as in `encode_latents_to_file`, and for other than 4 channels."""
    check_latent_shape(latents, width, height, profile)
    if profile.channels != palette.CHANNELS or profile.id in {INLINE, BUNDLED}:
        raise ValueError(f"method palette is for known latent spaces of 4 channels; {profile.latent_space} is none")
    if not np.isfinite(latents).all():
        raise ValueError("latents hold values that are not finite")
    payload = palette.encode_palette(latents)
    header = Header(width, height, profile.id, PALETTE, 0, grey, -len(payload) % WORD)
    return File(header, [payload, *(alpha or ())], Layout(alpha=alpha is not None), b"", dict(chunks or {}))


def choose_layout(height: int, width: int, profile: LatentProfile) -> Layout:
    """Return how a plane of so many latents is divided."""
    side = min(TILE, 2 * MAX_SIDE // (3 * profile.downscale))  # so that a tile's alpha is one image, too
    rows, columns = (min(max(1, -(-(length - side // 2) // side)), max_tiles(length)) for length in (height, width))
    return SINGLE if rows * columns == 1 else Layout(columns, rows, num_levels(profile, profile.prior))


def alpha_segments(plane: U8Array | None, profile: LatentProfile, *, divided: bool = True) -> list[bytes] | None:
    """Return the segments of an alpha plane, uint8 (H, W), in the tiles that latents have, or in one; None of None."""
    if plane is None:
        return None
    height, width = plane.shape
    _, rows, columns = profile.grid(width, height)
    layout = choose_layout(rows, columns, profile) if divided else SINGLE
    places = pixel_tiles(width, height, profile.downscale, layout)
    return parallel_map(encode_alpha, [plane[slice(*down), slice(*across)] for down, across in places])


def encode_latents_to_bytes(
    latents: F32Array, width: int, height: int, profile: LatentProfile, options: EncodeOptions
) -> bytes:
    """Return the file that is asked for of an image's latents alone, float32 (C, h, w).

    Raises `ValueError` if there is none so small, or as `encode_latents_to_file` and `encode_palette_file` do.
    """
    if options.method == "palette":
        return container.write(encode_palette_file(latents, width, height, profile))

    def code_file(quality: float) -> bytes:
        code = profile.step_code(quality)
        return container.write(encode_latents_to_file(latents, width, height, profile, code, effort=options.effort))

    return options.file(code_file, width, height, None)


def check_latent_shape(latents: F32Array, width: int, height: int, profile: LatentProfile) -> None:
    """Raise `ValueError` if latents do not have the shape of a `width` x `height` image's."""
    grid = profile.grid(width, height)
    if latents.shape != grid:
        raise ValueError(f"latents of shape {latents.shape}; {width}x{height} in {profile.latent_space} has {grid}")


def decode_latents(file: File, limits: Limits = DEFAULT_LIMITS, model_profile: LatentProfile | None = None) -> F32Array:
    """Return a file's latents, float32 (C, h, w); errors as of `LatentReader`."""
    return dequantize(LatentReader(file, limits, model_profile=model_profile).read())


def decode_symbols(file: File, limits: Limits = DEFAULT_LIMITS, model_profile: LatentProfile | None = None) -> I16Array:
    """Return a file's symbols, int16 (C, h, w); errors as of `LatentReader`, `FormatError` if it has none."""
    stored = LatentReader(file, limits, model_profile=model_profile)
    if stored.offset_kind == "latents":
        raise FormatError("the file was made by method palette: it has latents, but no symbols")
    return stored.decoded((0, stored.shape[1]), (0, stored.shape[2])).symbols
