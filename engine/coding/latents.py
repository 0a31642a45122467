"""Latents to files and back: all between networks and bytes. Needs no model, but those files that refer to one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding import entropy, palette
from sdtrt.engine.coding.coder import WORD
from sdtrt.engine.coding.entropy import DEFAULT_EFFORT
from sdtrt.engine.coding.masking import masking
from sdtrt.engine.coding.priors.adaptive import fit_adaptive
from sdtrt.engine.coding.priors.passes import Inner
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.quantized import latents_of
from sdtrt.engine.coding.rate import Wish
from sdtrt.engine.coding.stored import StoredLatents, deltas, inner_of, levels_of, prior_of
from sdtrt.engine.coding.threads import at_once
from sdtrt.engine.format import container
from sdtrt.engine.format.alpha import encode as encode_alpha
from sdtrt.engine.format.alpha import tiles_of_pixels
from sdtrt.engine.format.container import BUNDLED, INLINE, File, Header
from sdtrt.engine.format.layout import SINGLE, Layout, Span, most_tiles, spans
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.lossless import LARGEST_SIDE
from sdtrt.engine.format.profile import PALETTE, LatentProfile, bytes_in_file
from sdtrt.errors import FormatError
from sdtrt.kernels import reference

Floats = NDArray[np.float32]
Symbols = NDArray[np.int16]
Plane = NDArray[np.uint8]

TILE = 128  # latents: the usual side of a tile; planes of up to one and a half are not divided


class Tile(NamedTuple):
    """What is known of a tile when its symbols are chosen."""

    header: Header
    rows: Span
    columns: Span
    scaled: Floats  # its latents in steps, float32 (C, h, w)
    price: Floats  # by how much dearer than usual bits are at each, float32 (h, w)
    interest: Floats  # by how much errors count at each, float32 (h, w)
    prior: Prior
    inner: Inner


Search = Callable[[Tile], Symbols]  # from a tile to its symbols, int16 (C, h, w)


class TileStream(NamedTuple):
    """A tile's segments, and by how many bytes the first word of its stream is short."""

    segments: list[bytes]
    alignment: int


class FileBuilder:
    """A picture's file, made while its latents come, rows of tiles after rows of tiles.

    `effort` is 1 (fast) to 9 (slow); `price`, float32 (h, w), is by how much dearer than usual bits are at each latent;
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
        price: Floats | None = None,
        search: Search | None = None,
    ) -> None:
        self._header = Header(width, height, profile.id, profile.prior, step_code, grey)
        self._profile, self._effort, self._price, self._search = profile, effort, price, search
        _, *sides = profile.grid(width, height)
        self._layout = layout_of(sides[0], sides[1], profile)
        self._rows, self._columns = spans(sides[0], self._layout.rows), spans(sides[1], self._layout.columns)
        self._streams: list[TileStream] = []
        self._waiting: list[Floats] = []
        self._count = 0  # of rows that came

    def add(self, latents: Floats) -> None:
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
        scaled = reference.normalise(together[:, :taken], self._profile.mean, deltas(self._profile, self._header))

        def work(columns: Span) -> TileStream:
            price = None if self._price is None else self._price[slice(*rows), slice(*columns)]
            inner = inner_of(rows, columns, self._rows[-1][1], self._columns[-1][1])
            return self._stream(np.ascontiguousarray(scaled[:, :, slice(*columns)]), price, inner, (rows, columns))

        self._streams += map(work, self._columns)

    def _stream(self, scaled: Floats, price: Floats | None, inner: Inner, place: tuple[Span, Span]) -> TileStream:
        parameters, code = b"", self._header.step_code
        prior = prior_of(self._profile.prior, self._profile)
        if prior is None:
            prior = fit_adaptive(np.rint(scaled).astype(np.int16), inner)
            parameters = prior.parameters.tobytes()
        own = price
        if self._profile.masking and self._effort > 1:
            mask = masking(scaled[: self._profile.masking] * np.float32(self._header.step))
            price = mask if price is None else mask * price
        if self._search:
            even = np.ones(scaled.shape[1:], np.float32)
            masked, interest = even if price is None else price, even if own is None else even / own
            symbols = self._search(Tile(self._header, *place, scaled, masked, interest, prior, inner))
            stream = entropy.encode(symbols, prior, code, inner)
        else:
            stream = entropy.encode_best(scaled, prior, code, self._effort, price, inner)
        first, *rest = [stream.data] if self._layout.levels == 1 else stream.levels()
        return TileStream([parameters + first, *rest], -len(first) % WORD)

    def file(self, alpha: Sequence[bytes] | None = None, chunks: Mapping[int, bytes] | None = None) -> File:
        """Return the file; `alpha` are its segments, see `alpha_segments`. `ValueError` if latents are missing."""
        if len(self._streams) != self._layout.tiles:
            raise ValueError(f"{self._count} rows of latents came, expected {self._rows[-1][1]}")
        segments = [stream.segments[level] for level in range(self._layout.levels) for stream in self._streams]
        header = replace(self._header, alignment=self._streams[0].alignment)
        own = bytes_in_file(self._profile)
        layout = replace(self._layout, alpha=alpha is not None)
        return File(header, [*segments, *(alpha or ())], layout, own, dict(chunks or {}))


def file_of_latents(
    latents: Floats,
    width: int,
    height: int,
    profile: LatentProfile,
    step_code: int,
    *,
    effort: int = DEFAULT_EFFORT,
    grey: bool = False,
    price: Floats | None = None,
    search: Search | None = None,
    alpha: Sequence[bytes] | None = None,
    chunks: Mapping[int, bytes] | None = None,
) -> File:
    """Return the file of a picture's latents, float32 (C, h, w); arguments as of `FileBuilder`.

    Raises `ValueError` if the latents are not finite or their shape is not that of a `width` x `height` picture.
    """
    require_shape(latents, width, height, profile)
    builder = FileBuilder(width, height, profile, step_code, effort=effort, grey=grey, price=price, search=search)
    builder.add(latents)
    return builder.file(alpha, chunks)


def palette_file(
    latents: Floats,
    width: int,
    height: int,
    profile: LatentProfile,
    *,
    grey: bool = False,
    alpha: Sequence[bytes] | None = None,
    chunks: Mapping[int, bytes] | None = None,
) -> File:
    """Return a file by the method of `palette`; errors as in `file_of_latents`, and for other than 4 channels."""
    require_shape(latents, width, height, profile)
    if profile.channels != palette.CHANNELS or profile.id in {INLINE, BUNDLED}:
        raise ValueError(f"method palette is for known latent spaces of 4 channels; {profile.latent_space} is none")
    if not np.isfinite(latents).all():
        raise ValueError("latents hold values that are not finite")
    payload = palette.encode(latents)
    header = Header(width, height, profile.id, PALETTE, 0, grey, -len(payload) % WORD)
    return File(header, [payload, *(alpha or ())], Layout(alpha=alpha is not None), b"", dict(chunks or {}))


def layout_of(height: int, width: int, profile: LatentProfile) -> Layout:
    """Return how a plane of so many latents is divided."""
    side = min(TILE, 2 * LARGEST_SIDE // (3 * profile.downscale))  # so that a tile's alpha is one picture, too
    rows, columns = (min(max(1, -(-(length - side // 2) // side)), most_tiles(length)) for length in (height, width))
    return SINGLE if rows * columns == 1 else Layout(columns, rows, levels_of(profile, profile.prior))


def alpha_segments(plane: Plane | None, profile: LatentProfile, *, divided: bool = True) -> list[bytes] | None:
    """Return the segments of an alpha plane, uint8 (H, W), in the tiles that latents have, or in one; None of None."""
    if plane is None:
        return None
    height, width = plane.shape
    _, rows, columns = profile.grid(width, height)
    layout = layout_of(rows, columns, profile) if divided else SINGLE
    places = tiles_of_pixels(width, height, profile.downscale, layout)
    return at_once(encode_alpha, [plane[slice(*down), slice(*across)] for down, across in places])


def encode_latents_to_file(latents: Floats, width: int, height: int, profile: LatentProfile, wish: Wish) -> bytes:
    """Return the file that is asked for of a picture's latents alone, float32 (C, h, w).

    Raises `ValueError` if there is none so small, or as `file_of_latents` and `palette_file` do.
    """
    if wish.method == "palette":
        return container.write(palette_file(latents, width, height, profile))

    def code_file(quality: float) -> bytes:
        code = profile.step_code(quality)
        return container.write(file_of_latents(latents, width, height, profile, code, effort=wish.effort))

    return wish.file(code_file, width, height, None)


def require_shape(latents: Floats, width: int, height: int, profile: LatentProfile) -> None:
    """Raise `ValueError` if latents do not have the shape of a `width` x `height` picture's."""
    grid = profile.grid(width, height)
    if latents.shape != grid:
        raise ValueError(f"latents of shape {latents.shape}; {width}x{height} in {profile.latent_space} has {grid}")


def latents_of_file(file: File, limits: Limits = DEFAULT_LIMITS, own: LatentProfile | None = None) -> Floats:
    """Return a file's latents, float32 (C, h, w); errors as of `StoredLatents`."""
    return latents_of(StoredLatents(file, limits, own=own).part())


def symbols_of_file(file: File, limits: Limits = DEFAULT_LIMITS, own: LatentProfile | None = None) -> Symbols:
    """Return a file's symbols, int16 (C, h, w); errors as of `StoredLatents`, `FormatError` if it has none."""
    stored = StoredLatents(file, limits, own=own)
    if stored.kind == "latents":
        raise FormatError("the file was made by method palette: it has latents, but no symbols")
    return stored.decoded((0, stored.shape[1]), (0, stored.shape[2])).symbols
