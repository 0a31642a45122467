"""The latents in a file, decoded tile by tile when they are asked for."""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import product

import numpy as np

from sdtrt._arrays import F32Array, I8Array, I16Array
from sdtrt.engine.coding import palette
from sdtrt.engine.coding.priors.adaptive import AdaptivePrior
from sdtrt.engine.coding.priors.passes import InnerEdges
from sdtrt.engine.coding.priors.prior import Prior, shipped_prior
from sdtrt.engine.coding.priors.prior_file import parse_prior
from sdtrt.engine.coding.priors.tables import OFFSET_UNITS
from sdtrt.engine.coding.quantized_latents import OffsetKind, QuantizedLatents
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.engine.coding.streams.decoded import DecodedStream
from sdtrt.engine.coding.streams.stream_codec import levels_holding
from sdtrt.engine.coding.streams.words import WORD
from sdtrt.engine.format.container import CHECKSUM_NBYTES, File, Header
from sdtrt.engine.format.latent_space import ADAPTIVE_PRIOR, BUNDLED, PALETTE, PRIOR_NAMES, LatentSpaceInfo
from sdtrt.engine.format.layout import SINGLE, Span, overlapping, paste, tile_spans
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.profile import LatentProfile, resolve_profile
from sdtrt.errors import FormatError, LimitError
from sdtrt.kernels import core
from sdtrt.process.threads import parallel_map

CACHED_TILE_ROWS = 3  # so that a caller who goes from top to bottom decodes each tile once


class LatentReader:
    """The latents in a file; for one thread at a time.

    Arguments:
        file: the parsed file.
        limits: `max_pixels` also limits the number of latents, since a file's own profile may have 255 per pixel.
        intact_segments: of a salvaged file, which segments are intact. Missing symbols get the values that the prior
            predicts.
        model_profile: the profile of the model at hand, for files that refer to a model's profile.

    Attributes:
        file: the parsed file.
        profile: the latent profile of the file.
        shape: (C, h, w) of all latents.
        channel_steps: float32 (C,), the quantization step of each channel in latents at unit scale.

    Raises:
        FormatError: if the file contradicts itself, or a part that is read is damaged.
        BundleError: if the file refers to another model.
        LimitError: if the file has more latents than `limits` allows.
    """

    def __init__(
        self,
        file: File,
        limits: Limits = DEFAULT_LIMITS,
        intact_segments: Sequence[bool] | None = None,
        *,
        model_profile: LatentProfile | None = None,
    ) -> None:
        self.file, self.profile, self._intact_segments = file, resolve_profile(file, model_profile), intact_segments
        self.shape = check_latent_size(file, self.profile, limits)
        _, height, width = self.shape
        self._prior = load_prior(file.header.prior, self.profile)
        # Bytes of an adaptive prior's parameters before each stream.
        self._parameters_nbytes = 0 if self._prior is not None else AdaptivePrior.PARAMETERS * self.shape[0]
        levels = sorted({1, num_levels(self._prior)})
        if file.layout.levels not in levels:
            expected = " or ".join(map(str, levels))
            raise FormatError(f"malformed file: {file.layout.levels} levels, expected {expected} with this prior")
        self._tile_rows, self._tile_columns = (
            tile_spans(height, file.layout.rows),
            tile_spans(width, file.layout.columns),
        )
        self._places = [*product(self._tile_rows, self._tile_columns)]
        self.channel_steps = channel_steps(self.profile, file.header)
        self._palette = self._decode_palette() if file.header.prior == PALETTE else None
        self._tiles: OrderedDict[int, DecodedStream] = OrderedDict()
        self._incomplete_tiles: set[int] = set()
        self._missing_tiles: set[int] = set()

    @property
    def offset_kind(self) -> OffsetKind:
        has_offsets = self._palette is not None or (self._prior is not None and self._prior.has_recon_offsets)
        return OffsetKind.PER_SYMBOL if has_offsets else OffsetKind.PER_CHANNEL

    def read(self) -> QuantizedLatents:
        """Decode all latents."""
        return self.crop((0, self.shape[1]), (0, self.shape[2]))

    def crop(self, rows: Span, columns: Span) -> QuantizedLatents:
        """Decode the latents in some rows and columns, each from a first one to before a last one."""
        if self._palette is not None:
            return self._palette.crop(rows, columns)
        decoded = self.decode_symbols(rows, columns)
        return attach_recon_offsets(decoded, self.profile.mean, self.channel_steps, self.profile.recon_offset)

    def decode_symbols(self, rows: Span, columns: Span) -> DecodedStream:
        """Decode the symbols, and their reconstruction offsets, in some rows and columns."""
        layout = self.file.layout
        tiles = [
            layout.columns * row + column
            for row in overlapping(self._tile_rows, rows)
            for column in overlapping(self._tile_columns, columns)
        ]
        missing = [tile for tile in tiles if tile not in self._tiles]
        decoded_tiles = parallel_map(self._decode_or_salvage_tile, missing, core.threads_over_tiles())
        self._tiles |= zip(missing, decoded_tiles, strict=True)
        decoded = self._assemble(((tile, self._tiles[tile]) for tile in tiles), rows, columns)
        while len(self._tiles) > CACHED_TILE_ROWS * layout.columns:
            self._tiles.popitem(last=False)
        return decoded

    def read_channels(self, channels: Collection[int]) -> QuantizedLatents:
        """Decode some channels, from as few levels as hold them.

        Raises:
            ValueError: if the file was made by method palette, whose channels are not coded separately.
        """
        if self._palette is not None:
            raise ValueError("method palette has no channels that could be decoded alone")
        prior, layout = self._prior, self.file.layout
        levels = 0 if prior is None else levels_holding(channels, prior, self.shape[0])
        if prior is None or levels > len(prior.cuts) or prior.centroids is not None:
            return self.read().select_channels(channels)
        chosen = np.array([*channels], np.intp)

        def decode_tile(tile: int) -> DecodedStream:
            file, in_file = self.file, min(levels, layout.levels)
            segments = [file.segment(level, tile) for level in range(in_file)]
            shape, edges = self._tile_geometry(tile)
            decoded = stream_codec.decode_levels(
                b"".join(segments),
                shape,
                prior,
                file.header.step_code,
                levels,
                edges,
                self._words_after_levels(tile, segments),
                more=any(file.nbytes(level, tile) for level in range(in_file, layout.levels)),
            )
            offsets = None if decoded.recon_offsets is None else decoded.recon_offsets[chosen]
            return DecodedStream(decoded.symbols[chosen], offsets)

        tiles = enumerate(parallel_map(decode_tile, range(len(self._places)), core.threads_over_tiles()))
        decoded = self._assemble(tiles, (0, self.shape[1]), (0, self.shape[2]))
        steps, profile = self.channel_steps[chosen], self.profile
        return attach_recon_offsets(decoded, profile.mean[chosen], steps, profile.recon_offset[chosen])

    def missing_report(self) -> str:
        """Say which tiles that were read are missing or incomplete; an empty string if all are complete."""
        if not self._incomplete_tiles | self._missing_tiles:
            return ""
        missing, incomplete = len(self._missing_tiles), len(self._incomplete_tiles)
        return f"tiles: {missing} of {len(self._places)} missing, {incomplete} incomplete"

    def _assemble(self, tiles: Iterable[tuple[int, DecodedStream]], rows: Span, columns: Span) -> DecodedStream:
        """Put tiles together in some rows and columns."""
        whole: DecodedStream | None = None
        for tile, decoded in tiles:
            if whole is None:
                shape = len(decoded.symbols), rows[1] - rows[0], columns[1] - columns[0]
                offsets = None if decoded.recon_offsets is None else np.empty(shape, np.int32)
                whole = DecodedStream(np.empty(shape, np.int16), offsets)
            (top, _), (left, _) = self._places[tile]
            paste(whole.symbols, decoded.symbols, top - rows[0], left - columns[0])
            if whole.recon_offsets is not None and decoded.recon_offsets is not None:
                paste(whole.recon_offsets, decoded.recon_offsets, top - rows[0], left - columns[0])
        assert whole is not None  # any rows and columns overlap a tile
        return whole

    def _decode_or_salvage_tile(self, tile: int) -> DecodedStream:
        numbers = [self.file.layout.segment_index(level, tile) for level in range(self.file.layout.levels)]
        segments = [self.file.segments[n] for n in numbers]
        if self._intact_segments is None:
            return self._decode_tile(tile, segments)
        intact = [self._intact_segments[n] for n in numbers]
        if all(intact):
            with suppress(FormatError):
                return self._decode_tile(tile, segments)
            self._incomplete_tiles.add(tile)  # its segments contradict each other
        elif self.file.layout == SINGLE:
            # If the file's checksum follows the stream, the stream alone may still be complete.
            with suppress(FormatError):
                return self._decode_tile(0, [segments[0][:-CHECKSUM_NBYTES]], maybe_truncated=True)
        return self._salvage_tile(tile, segments, intact)

    def _decode_tile(self, tile: int, segments: list[bytes], *, maybe_truncated: bool = False) -> DecodedStream:
        """Decode the segments of a tile; `FormatError` if they are anything but one complete tile."""
        words = self._words_after_levels(tile, segments)
        prior, stream = self._tile_prior(b"".join(segments))
        (shape, edges), code = self._tile_geometry(tile), self.file.header.step_code
        return stream_codec.decode_stream(stream, shape, prior, code, edges, words, maybe_truncated=maybe_truncated)

    def _words_after_levels(self, tile: int, segments: list[bytes]) -> list[int]:
        """Count the words after each segment of a tile; empty if the stream is not cut into levels.

        Raises `FormatError` if the segments have no whole words.
        """
        alignment, expected = self.file.header.alignment, -(len(segments[0]) - self._parameters_nbytes) % WORD
        if tile == 0 and alignment != expected:
            raise FormatError(
                f"malformed file: alignment {alignment}, expected {expected} from the length of the first stream"
            )
        if any(len(segment) % WORD for segment in segments[1:]):
            raise FormatError(f"malformed file: the length of a level is no multiple of {WORD} bytes")
        if self.file.layout.levels == 1:
            return []
        return [sum(map(len, segments[n:])) // WORD for n in range(1, len(segments) + 1)]

    def _salvage_tile(self, tile: int, segments: list[bytes], intact: list[bool]) -> DecodedStream:
        """Decode a damaged tile: all levels before the first incomplete one, and the readable part of that one."""
        count = next((n for n, is_intact in enumerate(intact) if not is_intact), len(intact))
        alignment = -(len(segments[0]) - self._parameters_nbytes) % WORD if count else self.file.header.alignment
        if count == 0 and (tile or len(segments[0]) < self._parameters_nbytes):
            segments = [bytes(self._parameters_nbytes)]  # the alignment of the remaining bytes is unknown
        prior, stream = self._tile_prior(b"".join(segments[: count + 1]))
        ends = [0, *(prior.cuts if len(intact) > 1 else ()), len(prior.passes(self.shape[0]))]
        (shape, edges), code = self._tile_geometry(tile), self.file.header.step_code
        decoded = stream_codec.salvage_stream(stream, shape, prior, code, alignment, ends[count], edges)
        if decoded.passes_missing:
            (self._incomplete_tiles if decoded.passes_read else self._missing_tiles).add(tile)
        return decoded

    def _tile_prior(self, data: bytes) -> tuple[Prior, bytes]:
        """Return the prior of a tile, and its stream; the parameters of an adaptive prior precede the stream."""
        if self._prior is not None:
            return self._prior, data
        nbytes = self._parameters_nbytes
        if len(data) < nbytes:
            raise FormatError(f"truncated stream: {len(data)} bytes, the parameters of its prior alone have {nbytes}")
        parameters = np.frombuffer(data, np.uint8, nbytes).reshape(self.shape[0], AdaptivePrior.PARAMETERS)
        return AdaptivePrior(parameters), data[nbytes:]

    def _tile_geometry(self, tile: int) -> tuple[tuple[int, int, int], InnerEdges]:
        """Return the shape of a tile's latents, and which of its edges touch another tile."""
        rows, columns = self._places[tile]
        shape = self.shape[0], rows[1] - rows[0], columns[1] - columns[0]
        return shape, inner_edges(rows, columns, *self.shape[1:])

    def _decode_palette(self) -> QuantizedLatents:
        if self.profile.channels != palette.CHANNELS or self.file.layout.levels * self.file.layout.num_tiles != 1:
            raise FormatError(f"method palette is for 4 channels in one stream, not {self.profile.latent_space}'s")
        if self.file.header.alignment != -len(self.file.segments[0]) % WORD:
            raise FormatError("malformed file: the alignment does not fit the length of the palette's stream")
        return palette.decode_palette(self.file.segments[0], self.shape)


def attach_recon_offsets(
    decoded: DecodedStream, mean: F32Array, steps: F32Array, channel_offsets: F32Array
) -> QuantizedLatents:
    """Combine symbols with their reconstruction offsets.

    Offsets may be many quantization steps, but kernels take them as int8. The symbols are then moved to the nearest
    ones.

    Arguments:
        decoded: symbols and, if the prior has any, their reconstruction offsets.
        mean, steps: float32 (C,), see `QuantizedLatents`.
        channel_offsets: float32 (C,), used if the prior has no offsets for single symbols.
    """
    if decoded.recon_offsets is None:
        return QuantizedLatents(decoded.symbols, mean, steps, channel_offsets)
    fine = OFFSET_UNITS * decoded.symbols.astype(np.int32) + decoded.recon_offsets
    nearest = np.clip((fine + OFFSET_UNITS // 2) >> 6, -(1 << 15), (1 << 15) - 1)  # OFFSET_UNITS is 2**6
    symbols: I16Array = nearest.astype(np.int16)
    offsets: I8Array = (fine - OFFSET_UNITS * nearest).astype(np.int8)
    return QuantizedLatents(symbols, mean, steps, offsets)


def inner_edges(rows: Span, columns: Span, height: int, width: int) -> InnerEdges:
    """Return which edges of a tile touch another tile, in a plane of `height` x `width` latents."""
    return InnerEdges(rows[0] > 0, rows[1] < height, columns[0] > 0, columns[1] < width)


def check_latent_size(file: File, space: LatentSpaceInfo, limits: Limits) -> tuple[int, int, int]:
    """Return the shape of a file's latents, (C, h, w).

    Raises:
        LimitError: if the file has more latents than `limits` has pixels.
        FormatError: if the file has more tiles than its size allows.
    """
    shape = space.grid(file.header.width, file.header.height)
    if math.prod(shape) > limits.max_pixels:
        raise LimitError(f"latents of shape {shape}, {math.prod(shape)} values; the limit is {limits.max_pixels}")
    if not file.layout.fits(*shape[1:]):
        raise FormatError(f"malformed file: {file.layout.columns}x{file.layout.rows} tiles of {shape[2]}x{shape[1]}")
    return shape


def channel_steps(profile: LatentProfile, header: Header) -> F32Array:
    """Compute the quantization step of each channel in latents at unit scale, float32 (C,)."""
    return profile.std * profile.step_weight * np.float32(header.quant_step)


def load_prior(identifier: int, profile: LatentProfile) -> Prior | None:
    """Return the prior with an id of the format; None for the adaptive prior and for method palette.

    Raises:
        FormatError: if the id is unknown, or the prior is for another number of channels.
        BundleError: if the prior is malformed.
    """
    if identifier in {ADAPTIVE_PRIOR, PALETTE}:
        return None
    if identifier == BUNDLED and profile.prior_file is not None:
        prior = parse_prior(profile.prior_file)
    elif identifier in PRIOR_NAMES:
        prior = shipped_prior(PRIOR_NAMES[identifier])
    else:
        raise FormatError(f"prior {identifier} is unknown; a later sdtrt may read this file")
    prior.order(profile.channels)  # raises for another number of channels
    return prior


def num_levels(prior: Prior | None) -> int:
    """Count the levels into which a prior cuts streams; None stands for the adaptive prior."""
    return len(AdaptivePrior.cuts if prior is None else prior.cuts) + 1
