"""The latents that a file holds, decoded tile by tile when they are asked for."""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding import entropy, palette
from sdtrt.engine.coding.coder import WORD
from sdtrt.engine.coding.entropy import Decoded, levels_with
from sdtrt.engine.coding.priors.adaptive import AdaptivePrior
from sdtrt.engine.coding.priors.bundled import bundled_prior
from sdtrt.engine.coding.priors.passes import Inner
from sdtrt.engine.coding.priors.prior import Prior, network_prior
from sdtrt.engine.coding.priors.tables import POINTS
from sdtrt.engine.coding.quantized import Contents, Quantized, channels_of, part_of
from sdtrt.engine.format.container import BUNDLED, CHECKSUM_NBYTES, File, Header
from sdtrt.engine.format.layout import SINGLE, Span, meeting, paste, spans
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.profile import ADAPTIVE_PRIOR, PALETTE, PRIOR_NAMES, LatentProfile, Outline, profile_of_file
from sdtrt.errors import FormatError, LimitError

Floats = NDArray[np.float32]

KEPT_ROWS = 3  # of tiles: what is asked for from top to bottom is decoded once


class StoredLatents:
    """A file's latents, (C, h, w), by parts; for one thread at a time.

    `whole` tells which segments of a salvaged file are whole: what is missing is then what the prior expects. `own` is
    the profile of the model at hand, for files that refer to it.

    Raises `FormatError` if the file contradicts itself, or if parts that are asked for are damaged; `BundleError` if
    it refers to another model; `LimitError` if there are more latents than `limits` has pixels: a file's own profile
    may give each pixel 255 of them.
    """

    def __init__(
        self,
        file: File,
        limits: Limits = DEFAULT_LIMITS,
        whole: Sequence[bool] | None = None,
        *,
        own: LatentProfile | None = None,
    ) -> None:
        self.file, self.profile, self._whole = file, profile_of_file(file, own), whole
        self.shape = require_fit(file, self.profile, limits)
        _, height, width = self.shape
        levels = sorted({1, levels_of(self.profile, file.header.prior)})
        if file.layout.levels not in levels:
            expected = " or ".join(map(str, levels))
            raise FormatError(f"malformed file: it has {file.layout.levels} levels, its prior expects {expected}")
        self._down, self._across = spans(height, file.layout.rows), spans(width, file.layout.columns)
        self._places = [*product(self._down, self._across)]
        self.deltas = deltas(self.profile, file.header)
        self._prior = prior_of(file.header.prior, self.profile)
        self._palette = self._of_palette() if file.header.prior == PALETTE else None
        self._tiles: OrderedDict[int, Decoded] = OrderedDict()
        self._in_part: set[int] = set()
        self._missing: set[int] = set()

    @property
    def kind(self) -> str:
        """What is known of where latents lie beside their symbols: `points`, `offset`, or `latents` themselves."""
        if self._palette is not None:
            return "latents"
        return "points" if self._prior is not None and self._prior.has_points else "offset"

    def part(self, rows: Span | None = None, columns: Span | None = None) -> Contents:
        """Return the latents in some rows and columns (None: all), those of method palette as float32 (C, h, w)."""
        rows, columns = rows or (0, self.shape[1]), columns or (0, self.shape[2])
        if self._palette is not None:
            return part_of(self._palette, rows, columns)
        return self._quantized(self.decoded(rows, columns))

    def decoded(self, rows: Span, columns: Span) -> Decoded:
        """Return the symbols in some rows and columns, and what their prior tells of them."""
        down, across = meeting(self._down, rows), meeting(self._across, columns)
        wanted = [self.file.layout.columns * row + column for row in down for column in across]
        fresh = [tile for tile in wanted if tile not in self._tiles]
        self._tiles |= {tile: self._tile(tile) for tile in fresh}
        found = self._together(((tile, self._tiles[tile]) for tile in wanted), rows, columns)
        while len(self._tiles) > KEPT_ROWS * self.file.layout.columns:
            self._tiles.popitem(last=False)
        return found

    def some(self, channels: Collection[int]) -> Quantized:
        """Return the latents of some channels; of levels only the coarsest are read, those that hold them.

        Raises `ValueError` for method palette.
        """
        if self._palette is not None:
            raise ValueError("method palette has no channels of its own")
        _, height, width = self.shape
        rows, columns = (0, height), (0, width)
        prior = self._prior
        levels = 0 if prior is None else levels_with(channels, prior, self.shape[0])
        if prior is None or levels > len(prior.cuts) or prior.centroids is not None:
            return channels_of(self._quantized(self.decoded(rows, columns)), channels)

        def work(tile: int) -> Decoded:
            file, stored = self.file, min(levels, self.file.layout.levels)
            segments = [file.segment(level, tile) for level in range(stored)]
            left, code = self._left(tile, segments), file.header.step_code
            more = any(file.nbytes(level, tile) for level in range(stored, file.layout.levels))
            decoded = entropy.decode_coarse(
                b"".join(segments), self._shape(tile), prior, code, levels, self._inner(tile), left, more=more
            )
            points = None if decoded.points is None else decoded.points[[*channels]]
            return Decoded(decoded.symbols[[*channels]], points)

        tiles = map(work, range(len(self._places)))
        some = np.array([*channels], np.intp)
        found = self._together(enumerate(tiles), rows, columns)
        return quantized(found, self.profile.mean[some], self.deltas[some], self.profile.offset[some])

    def lacking(self) -> str:
        """Return in words what is missing of what has been asked for, nothing if nothing is."""
        if not self._in_part | self._missing:
            return ""
        return f"tiles: {len(self._missing)} of {len(self._places)} missing, {len(self._in_part)} incomplete"

    def _quantized(self, decoded: Decoded) -> Quantized:
        return quantized(decoded, self.profile.mean, self.deltas, self.profile.offset)

    def _together(self, tiles: Iterable[tuple[int, Decoded]], rows: Span, columns: Span) -> Decoded:
        """Return what tiles hold in some rows and columns."""
        found: Decoded | None = None
        for tile, decoded in tiles:
            if found is None:
                shape = len(decoded.symbols), rows[1] - rows[0], columns[1] - columns[0]
                points = None if decoded.points is None else np.empty(shape, np.int32)
                found = Decoded(np.empty(shape, np.int16), points)
            (top, _), (left, _) = self._places[tile]
            paste(found.symbols, decoded.symbols, top - rows[0], left - columns[0])
            if found.points is not None and decoded.points is not None:
                paste(found.points, decoded.points, top - rows[0], left - columns[0])
        assert found is not None  # any rows and columns meet a tile
        return found

    def _tile(self, tile: int) -> Decoded:
        numbers = [self.file.layout.segment(level, tile) for level in range(self.file.layout.levels)]
        segments = [self.file.segments[n] for n in numbers]
        if self._whole is None:
            return self._checked(tile, segments)
        whole = [self._whole[n] for n in numbers]
        if all(whole):
            with suppress(FormatError):
                return self._checked(tile, segments)
            self._in_part.add(tile)  # what is there contradicts itself
        elif self.file.layout == SINGLE and (decoded := self._before_checksum(segments[0])):
            return decoded
        return self._salvaged(tile, segments, whole)

    def _before_checksum(self, data: bytes) -> Decoded | None:
        """Return a single tile if the file's checksum is behind its stream, which alone is whole then."""
        with suppress(FormatError):
            return self._checked(0, [data[:-CHECKSUM_NBYTES]], doubted=True)
        return None

    def _checked(self, tile: int, segments: list[bytes], *, doubted: bool = False) -> Decoded:
        """Return what a tile's segments hold; `FormatError` if they are not exactly a tile's."""
        left, code = self._left(tile, segments), self.file.header.step_code
        prior, stream = self._stream(b"".join(segments))
        return entropy.decode(stream, self._shape(tile), prior, code, self._inner(tile), left, doubted=doubted)

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

    def _salvaged(self, tile: int, segments: list[bytes], whole: list[bool]) -> Decoded:
        """Return what there is of a tile: its levels up to the first that is not whole, and what there is of that."""
        count = next((n for n, is_whole in enumerate(whole) if not is_whole), len(whole))
        alignment = -(len(segments[0]) - self._parameters) % WORD if count else self.file.header.alignment
        if count == 0 and (tile or len(segments[0]) < self._parameters):
            segments = [bytes(self._parameters)]  # what is there starts nobody knows where in a word
        prior, stream = self._stream(b"".join(segments[: count + 1]))
        ends = [0, *(prior.cuts if len(whole) > 1 else ()), len(prior.passes(self.shape[0]))]
        shape, code, inner = self._shape(tile), self.file.header.step_code, self._inner(tile)
        decoded = entropy.salvage(stream, shape, prior, code, alignment, ends[count], inner)
        if decoded.missing:
            (self._in_part if decoded.there else self._missing).add(tile)
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

    def _inner(self, tile: int) -> Inner:
        return inner_of(*self._places[tile], *self.shape[1:])

    def _shape(self, tile: int) -> tuple[int, int, int]:
        (top, bottom), (left, right) = self._places[tile]
        return self.shape[0], bottom - top, right - left

    def _of_palette(self) -> Floats:
        if self.profile.channels != palette.CHANNELS or self.file.layout.levels * self.file.layout.tiles != 1:
            raise FormatError(f"method palette is for 4 channels in one stream, not {self.profile.latent_space}'s")
        if self.file.header.alignment != -len(self.file.segments[0]) % WORD:
            raise FormatError("malformed file: an alignment that its palette has not")
        return palette.decode(self.file.segments[0], self.shape)


def quantized(decoded: Decoded, mean: Floats, delta: Floats, offset: Floats) -> Quantized:
    """Return what is decoded with what turns it into latents; `offset` serves where the prior tells no points.

    Points may be many steps, and kernels take them as int8: then symbols are those that are nearest.
    """
    if decoded.points is None:
        return Quantized(decoded.symbols, mean, delta, offset)
    fine = POINTS * decoded.symbols.astype(np.int32) + decoded.points
    symbols = np.clip((fine + POINTS // 2) >> 6, -(1 << 15), (1 << 15) - 1)  # POINTS is 2**6
    return Quantized(symbols.astype(np.int16), mean, delta, (fine - POINTS * symbols).astype(np.int8))


def inner_of(rows: Span, columns: Span, height: int, width: int) -> Inner:
    """Return which edges of a tile lie within a picture of so many latents."""
    return Inner(rows[0] > 0, rows[1] < height, columns[0] > 0, columns[1] < width)


def require_fit(file: File, outline: Outline, limits: Limits) -> tuple[int, int, int]:
    """Return the shape of a file's latents, (C, h, w).

    Raises `LimitError` if there are more of them than `limits` has pixels, `FormatError` if there are more tiles.
    """
    shape = outline.grid(file.header.width, file.header.height)
    if math.prod(shape) > limits.max_pixels:
        raise LimitError(f"latents of shape {shape}, {math.prod(shape)} values; the limit is {limits.max_pixels}")
    if not file.layout.fits(*shape[1:]):
        raise FormatError(f"malformed file: {file.layout.columns}x{file.layout.rows} tiles of {shape[2]}x{shape[1]}")
    return shape


def deltas(profile: LatentProfile, header: Header) -> Floats:
    """Return the quantizer's step of each channel in units of its latents, float32 (C,)."""
    return profile.spread * profile.weight * np.float32(header.step)


def prior_of(identifier: int, profile: LatentProfile) -> Prior | None:
    """Return the prior that a file names, None if each stream brings its own; `FormatError` if it is not to be had."""
    if identifier in {ADAPTIVE_PRIOR, PALETTE}:
        return None
    if identifier == BUNDLED and profile.trained is not None:
        prior = bundled_prior(profile.trained)
    elif identifier in PRIOR_NAMES:
        prior = network_prior(PRIOR_NAMES[identifier])
    else:
        raise FormatError(f"prior {identifier} is unknown; a later sdtrt may read this file")
    prior.order(profile.channels)
    return prior


def levels_of(profile: LatentProfile, identifier: int) -> int:
    """Return into how many levels a prior cuts streams; errors as of `prior_of`."""
    prior = prior_of(identifier, profile)
    return len(AdaptivePrior.cuts if prior is None else prior.cuts) + 1
