"""The latents that a file holds, decoded tile by tile when they are asked for."""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import product

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.coding import palette, stream_codec
from sdtrt.engine.coding.ans import WORD
from sdtrt.engine.coding.priors.adaptive import AdaptivePrior
from sdtrt.engine.coding.priors.passes import InnerEdges
from sdtrt.engine.coding.priors.prior import Prior, shipped_prior
from sdtrt.engine.coding.priors.prior_file import parse_prior
from sdtrt.engine.coding.priors.tables import OFFSET_UNITS
from sdtrt.engine.coding.quantized_latents import Contents, QuantizedLatents, crop, select_channels
from sdtrt.engine.coding.stream_codec import DecodedStream, levels_holding
from sdtrt.engine.format.container import CHECKSUM_NBYTES, File, Header
from sdtrt.engine.format.layout import SINGLE, Span, overlapping, paste, tile_spans
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.model_profile import resolve_profile
from sdtrt.engine.format.profile import (
    ADAPTIVE_PRIOR,
    BUNDLED,
    PALETTE,
    PRIOR_NAMES,
    LatentProfile,
    LatentSpaceInfo,
)
from sdtrt.errors import FormatError, LimitError

KEPT_ROWS = 3  # of tiles: what is asked for from top to bottom is decoded once


class LatentReader:
    """A file's latents, (C, h, w), by parts; for one thread at a time.

    `intact_segments` tells which segments of a salvaged file are whole: what is missing is then what the prior expects. `model_profile` is
    the profile of the model at hand, for files that refer to it.

    Raises `FormatError` if the file contradicts itself, or if parts that are asked for are damaged; `BundleError` if
    it refers to another model; `LimitError` if there are more latents than `limits` has pixels: a file's own profile
    may give each pixel 255 of them.
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
        levels = sorted({1, num_levels(self.profile, file.header.prior)})
        if file.layout.levels not in levels:
            expected = " or ".join(map(str, levels))
            raise FormatError(f"malformed file: it has {file.layout.levels} levels, its prior expects {expected}")
        self._down, self._across = tile_spans(height, file.layout.rows), tile_spans(width, file.layout.columns)
        self._places = [*product(self._down, self._across)]
        self.channel_steps = channel_steps(self.profile, file.header)
        self._prior = load_prior(file.header.prior, self.profile)
        self._palette = self._of_palette() if file.header.prior == PALETTE else None
        self._tiles: OrderedDict[int, DecodedStream] = OrderedDict()
        self._in_part: set[int] = set()
        self._missing: set[int] = set()

    @property
    def offset_kind(self) -> str:
        """What is known of where latents lie beside their symbols: `recon_offsets`, `offset`, or `latents` themselves."""
        if self._palette is not None:
            return "latents"
        return "points" if self._prior is not None and self._prior.has_recon_offsets else "offset"

    def read(self, rows: Span | None = None, columns: Span | None = None) -> Contents:
        """Return the latents in some rows and columns (None: all), those of method palette as float32 (C, h, w)."""
        rows, columns = rows or (0, self.shape[1]), columns or (0, self.shape[2])
        if self._palette is not None:
            return crop(self._palette, rows, columns)
        return self._quantized(self.decoded(rows, columns))

    def decoded(self, rows: Span, columns: Span) -> DecodedStream:
        """Return the symbols in some rows and columns, and what their prior tells of them."""
        down, across = overlapping(self._down, rows), overlapping(self._across, columns)
        wanted = [self.file.layout.columns * row + column for row in down for column in across]
        fresh = [tile for tile in wanted if tile not in self._tiles]
        self._tiles |= {tile: self._tile(tile) for tile in fresh}
        found = self._together(((tile, self._tiles[tile]) for tile in wanted), rows, columns)
        while len(self._tiles) > KEPT_ROWS * self.file.layout.columns:
            self._tiles.popitem(last=False)
        return found

    def some(self, channels: Collection[int]) -> QuantizedLatents:
        """Return the latents of some channels; of levels only the coarsest are read, those that hold them.

        Raises `ValueError` for method palette.
        """
        if self._palette is not None:
            raise ValueError("method palette has no channels of its own")
        _, height, width = self.shape
        rows, columns = (0, height), (0, width)
        prior = self._prior
        levels = 0 if prior is None else levels_holding(channels, prior, self.shape[0])
        if prior is None or levels > len(prior.cuts) or prior.centroids is not None:
            return select_channels(self._quantized(self.decoded(rows, columns)), channels)

        def work(tile: int) -> DecodedStream:
            file, stored = self.file, min(levels, self.file.layout.levels)
            segments = [file.segment(level, tile) for level in range(stored)]
            words_remaining, code = self._left(tile, segments), file.header.step_code
            more = any(file.nbytes(level, tile) for level in range(stored, file.layout.levels))
            decoded = stream_codec.decode_levels(
                b"".join(segments),
                self._shape(tile),
                prior,
                code,
                levels,
                self._inner(tile),
                words_remaining,
                more=more,
            )
            points = None if decoded.recon_offsets is None else decoded.recon_offsets[[*channels]]
            return DecodedStream(decoded.symbols[[*channels]], points)

        tiles = map(work, range(len(self._places)))
        some = np.array([*channels], np.intp)
        found = self._together(enumerate(tiles), rows, columns)
        return attach_recon_offsets(
            found, self.profile.mean[some], self.channel_steps[some], self.profile.recon_offset[some]
        )

    def missing_report(self) -> str:
        """Return in words what is missing of what has been asked for, nothing if nothing is."""
        if not self._in_part | self._missing:
            return ""
        return f"tiles: {len(self._missing)} of {len(self._places)} missing, {len(self._in_part)} incomplete"

    def _quantized(self, decoded: DecodedStream) -> QuantizedLatents:
        return attach_recon_offsets(decoded, self.profile.mean, self.channel_steps, self.profile.recon_offset)

    def _together(self, tiles: Iterable[tuple[int, DecodedStream]], rows: Span, columns: Span) -> DecodedStream:
        """Return what tiles hold in some rows and columns."""
        found: DecodedStream | None = None
        for tile, decoded in tiles:
            if found is None:
                shape = len(decoded.symbols), rows[1] - rows[0], columns[1] - columns[0]
                points = None if decoded.recon_offsets is None else np.empty(shape, np.int32)
                found = DecodedStream(np.empty(shape, np.int16), points)
            (top, _), (words_remaining, _) = self._places[tile]
            paste(found.symbols, decoded.symbols, top - rows[0], words_remaining - columns[0])
            if found.recon_offsets is not None and decoded.recon_offsets is not None:
                paste(found.recon_offsets, decoded.recon_offsets, top - rows[0], words_remaining - columns[0])
        assert found is not None  # any rows and columns meet a tile
        return found

    def _tile(self, tile: int) -> DecodedStream:
        numbers = [self.file.layout.segment_index(level, tile) for level in range(self.file.layout.levels)]
        segments = [self.file.segments[n] for n in numbers]
        if self._intact_segments is None:
            return self._checked(tile, segments)
        intact_segments = [self._intact_segments[n] for n in numbers]
        if all(intact_segments):
            with suppress(FormatError):
                return self._checked(tile, segments)
            self._in_part.add(tile)  # what is there contradicts itself
        elif self.file.layout == SINGLE and (decoded := self._before_checksum(segments[0])):
            return decoded
        return self._salvaged(tile, segments, intact_segments)

    def _before_checksum(self, data: bytes) -> DecodedStream | None:
        """Return a single tile if the file's checksum is behind its stream, which alone is whole then."""
        with suppress(FormatError):
            return self._checked(0, [data[:-CHECKSUM_NBYTES]], maybe_truncated=True)
        return None

    def _checked(self, tile: int, segments: list[bytes], *, maybe_truncated: bool = False) -> DecodedStream:
        """Return what a tile's segments hold; `FormatError` if they are not exactly a tile's."""
        words_remaining, code = self._left(tile, segments), self.file.header.step_code
        prior, stream = self._stream(b"".join(segments))
        return stream_codec.decode_stream(
            stream, self._shape(tile), prior, code, self._inner(tile), words_remaining, maybe_truncated=maybe_truncated
        )

    def _left(self, tile: int, segments: list[bytes]) -> list[int]:
        """Return how many words are left behind each of a tile's segments, of which the first may be all.

        `FormatError` if they have no whole words.
        """
        alignment, expected = self.file.header.alignment, -(len(segments[0]) - self._parameters) % WORD
        if tile == 0 and alignment != expected:
            raise FormatError(
                f"malformed file: alignment {alignment}, the length of its first stream asks for {expected}"
            )
        if any(len(segment) % WORD for segment in segments[1:]):
            raise FormatError(f"malformed file: the length of a level is no multiple of {WORD} bytes")
        if self.file.layout.levels == 1:
            return []
        return [sum(map(len, segments[n:])) // WORD for n in range(1, len(segments) + 1)]

    def _salvaged(self, tile: int, segments: list[bytes], intact_segments: list[bool]) -> DecodedStream:
        """Return what there is of a tile: its levels up to the first that is not whole, and what there is of that."""
        count = next((n for n, is_whole in enumerate(intact_segments) if not is_whole), len(intact_segments))
        alignment = -(len(segments[0]) - self._parameters) % WORD if count else self.file.header.alignment
        if count == 0 and (tile or len(segments[0]) < self._parameters):
            segments = [bytes(self._parameters)]  # what is there starts nobody knows where in a word
        prior, stream = self._stream(b"".join(segments[: count + 1]))
        ends = [0, *(prior.cuts if len(intact_segments) > 1 else ()), len(prior.passes(self.shape[0]))]
        shape, code, inner = self._shape(tile), self.file.header.step_code, self._inner(tile)
        decoded = stream_codec.salvage_stream(stream, shape, prior, code, alignment, ends[count], inner)
        if decoded.passes_missing:
            (self._in_part if decoded.passes_read else self._missing).add(tile)
        return decoded

    def _stream(self, data: bytes) -> tuple[Prior, bytes]:
        """Return the prior of a tile's stream, and the stream without its parameters."""
        if self._prior is not None:
            return self._prior, data
        if len(data) < self._parameters:
            raise FormatError(f"stream of {len(data)} bytes, the prior's parameters alone take {self._parameters}")
        parameters = np.frombuffer(data, np.uint8, self._parameters).reshape(self.shape[0], -1)
        return AdaptivePrior(parameters), data[self._parameters :]

    @property
    def _parameters(self) -> int:
        """How many bytes of parameters there are before each stream."""
        return 0 if self._prior is not None else AdaptivePrior.PARAMETERS * self.shape[0]

    def _inner(self, tile: int) -> InnerEdges:
        return inner_edges(*self._places[tile], *self.shape[1:])

    def _shape(self, tile: int) -> tuple[int, int, int]:
        (top, bottom), (words_remaining, right) = self._places[tile]
        return self.shape[0], bottom - top, right - words_remaining

    def _of_palette(self) -> F32Array:
        if self.profile.channels != palette.CHANNELS or self.file.layout.levels * self.file.layout.num_tiles != 1:
            raise FormatError(f"method palette is for 4 channels in one stream, not {self.profile.latent_space}'s")
        if self.file.header.alignment != -len(self.file.segments[0]) % WORD:
            raise FormatError("malformed file: an alignment that its palette has not")
        return palette.decode_palette(self.file.segments[0], self.shape)


def attach_recon_offsets(decoded: DecodedStream, mean: F32Array, delta: F32Array, offset: F32Array) -> QuantizedLatents:
    """Return what is decoded with what turns it into latents; `offset` serves where the prior tells no points.

    Points may be many steps, and kernels take them as int8: then symbols are those that are nearest.
    """
    if decoded.recon_offsets is None:
        return QuantizedLatents(decoded.symbols, mean, delta, offset)
    fine = OFFSET_UNITS * decoded.symbols.astype(np.int32) + decoded.recon_offsets
    symbols = np.clip((fine + OFFSET_UNITS // 2) >> 6, -(1 << 15), (1 << 15) - 1)  # POINTS is 2**6
    return QuantizedLatents(symbols.astype(np.int16), mean, delta, (fine - OFFSET_UNITS * symbols).astype(np.int8))


def inner_edges(rows: Span, columns: Span, height: int, width: int) -> InnerEdges:
    """Return which edges of a tile lie within an image of so many latents."""
    return InnerEdges(rows[0] > 0, rows[1] < height, columns[0] > 0, columns[1] < width)


def check_latent_size(file: File, space: LatentSpaceInfo, limits: Limits) -> tuple[int, int, int]:
    """Return the shape of a file's latents, (C, h, w).

    Raises `LimitError` if there are more of them than `limits` has pixels, `FormatError` if there are more tiles.
    """
    shape = space.grid(file.header.width, file.header.height)
    if math.prod(shape) > limits.max_pixels:
        raise LimitError(f"latents of shape {shape}, {math.prod(shape)} values; the limit is {limits.max_pixels}")
    if not file.layout.fits(*shape[1:]):
        raise FormatError(f"malformed file: {file.layout.columns}x{file.layout.rows} tiles of {shape[2]}x{shape[1]}")
    return shape


def channel_steps(profile: LatentProfile, header: Header) -> F32Array:
    """Return the quantizer's step of each channel in units of its latents, float32 (C,)."""
    return profile.std * profile.step_weight * np.float32(header.quant_step)


def load_prior(identifier: int, profile: LatentProfile) -> Prior | None:
    """Return the prior that a file names, None if each stream brings its own; `FormatError` if it is not to be had."""
    if identifier in {ADAPTIVE_PRIOR, PALETTE}:
        return None
    if identifier == BUNDLED and profile.prior_file is not None:
        prior = parse_prior(profile.prior_file)
    elif identifier in PRIOR_NAMES:
        prior = shipped_prior(PRIOR_NAMES[identifier])
    else:
        raise FormatError(f"prior {identifier} is unknown; a later sdtrt may read this file")
    prior.order(profile.channels)
    return prior


def num_levels(profile: LatentProfile, identifier: int) -> int:
    """Return into how many levels a prior cuts streams; errors as of `load_prior`."""
    prior = load_prior(identifier, profile)
    return len(AdaptivePrior.cuts if prior is None else prior.cuts) + 1
