"""Pictures in parts: regions, bands of rows, previews, and what there is of a damaged file."""

import io
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from sdtrt.engine.codec import PictureCodec, picture_of_file
from sdtrt.engine.coding.latents import FileBuilder
from sdtrt.engine.coding.rate import Wish
from sdtrt.engine.format import alpha, container, metadata
from sdtrt.engine.format.arguments import checked_integer, checked_items, value_text
from sdtrt.engine.format.container import LARGEST_SIDE, File, Header
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.metadata import NOTHING, Metadata, chunks_of
from sdtrt.engine.layers.preview import preview_of_file
from sdtrt.engine.layers.stored import Layers, reduced
from sdtrt.engine.networks.parsed import Parsed
from sdtrt.engine.networks.view import RECOMMENDED, View
from sdtrt.engine.picture import Picture, Pixels, Region, checked_region
from sdtrt.errors import FormatError, PictureWarning

Source = bytes | BinaryIO  # a file's bytes, or a stream that can `seek`, of which only what is needed is read
LARGEST_SCALE = 1024
EXPECTED_BANDS = "arrays of rows, uint8 (n, width, 3)"


def decode_region(
    codec: PictureCodec,
    source: Source,
    region: Region,
    limits: Limits = DEFAULT_LIMITS,
    view: View = RECOMMENDED,
) -> Picture:
    """Return a region of the picture in a file, the same as if it were cropped from the whole.

    Only the streams are decoded that the region touches, or that the networks look at for it. Raises `ValueError` if
    the region is not within the picture.
    """
    file = codec.checked(container.read_from(stream_of(source), limits))
    left, top, width, height = checked_region(region, file.header.width, file.header.height)
    rows, columns = (top, top + height), (left, left + width)
    stored = codec.stored(file, limits)
    parsed = codec.parsed(stored, view, now=False)
    pixels = codec.pipeline.pixels(parsed, rows, columns)
    return picture_of_file(file, np.concatenate([*pixels]), rows, columns, look=parsed.look)


def decode_rows(
    codec: PictureCodec, source: Source, limits: Limits = DEFAULT_LIMITS, view: View = RECOMMENDED
) -> tuple[Header, Iterator[Pixels]]:
    """Return the header of a file, and its RGB pixels in bands of rows, uint8 (n, width, 3), from top to bottom.

    The picture is never held whole: memory is bounded by a row of tiles, but for the latents of one that is denoised.
    """
    file = codec.checked(container.read_from(stream_of(source), limits))
    return file.header, bands_of(codec, codec.parsed(codec.stored(file, limits), view, now=False), file)


def bands_of(codec: PictureCodec, parsed: Parsed, file: File) -> Iterator[Pixels]:
    """Return the RGB pixels of a file in bands of rows, with layers over them."""
    bands = codec.pipeline.pixels(parsed, (0, file.header.height), (0, file.header.width))
    return layered(bands, Layers(file))


def layered(bands: Iterable[Pixels], layers: Layers) -> Iterator[Pixels]:
    """Yield bands of rows of the networks' pixels, from top to bottom, with layers over them."""
    top = 0
    for band in bands:
        yield layers.put(band, (top, top + len(band)))
        top += len(band)


def encode_rows(
    codec: PictureCodec,
    rows: Iterable[Pixels],
    width: int,
    height: int,
    wish: Wish,
    *,
    grey: bool = False,
    metadata: Metadata = NOTHING,
) -> bytes:
    """Return the file of a picture that comes in bands of rows, uint8 (n, width, 3), and is never held whole.

    Raises `ValueError` if they are too few or too many, or if a size or a PSNR is asked for, which takes more than one
    look at the picture.
    """
    width, height = (
        checked_integer(name, side, 1, LARGEST_SIDE) for name, side in (("width", width), ("height", height))
    )
    given = RowBuffer(rows, width, height)
    code = codec.profile.step_code(wish.known_quality())
    builder = FileBuilder(width, height, codec.profile, code, effort=wish.effort, grey=grey)
    for latents in codec.pipeline.latents(given.rows, height, width):
        builder.add(latents)
    given.close()
    return container.write(builder.file(chunks=chunks_of(metadata)))


class RowBuffer:
    """Bands of rows, of which some are wanted again by the next row of tiles."""

    def __init__(self, bands: Iterable[Pixels], width: int, height: int) -> None:
        self._bands = checked_items("rows", bands, EXPECTED_BANDS)
        self._width, self._height = width, height
        self._top, self._kept = 0, np.empty((0, width, 3), np.uint8)

    def rows(self, first: int, last: int) -> Pixels:
        """Return rows `first` to before `last`; those before `first` are forgotten."""
        if first > self._top:
            self._kept = self._kept[first - self._top :].copy()
            self._top = first
        parts, bottom = [self._kept], self._top + len(self._kept)
        while bottom < last:
            band = next(self._bands, None)
            if band is None:
                raise ValueError(f"{bottom} rows came, expected {self._height}")
            if not isinstance(band, np.ndarray):
                raise TypeError(f"rows has {value_text(band)}, expected {EXPECTED_BANDS}")
            if band.dtype != np.uint8 or band.shape[1:] != (self._width, 3):
                raise ValueError(f"rows of {band.dtype} {band.shape}, expected uint8 (n, {self._width}, 3)")
            parts.append(band)
            bottom += len(band)
        self._kept = np.concatenate(parts) if len(parts) > 1 else self._kept
        return self._kept[first - self._top : last - self._top]

    def close(self) -> None:
        """Raise `ValueError` if there are more rows than the picture has."""
        if self._top + len(self._kept) > self._height or any(len(band) for band in self._bands):
            raise ValueError(f"more than {self._height} rows came")


def preview(codec: PictureCodec, source: Source, scale: int = 8, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Return a file's picture at 1/`scale` of its size, sides rounded up, each pixel the mean of a block.

    Where the latent space's profile knows how, and `scale` is a multiple of its downscale, by coarse passes alone and
    without a network, which is not quite the same; else from the whole picture.
    """
    scale = checked_integer("scale", scale, 1, LARGEST_SCALE)
    file = codec.checked(container.read_from(stream_of(source), limits))
    stored, look = codec.stored(file, limits), None
    pixels = preview_of_file(file, stored, scale)
    if pixels is None:
        parsed = codec.parsed(stored, now=False)
        pixels, look = reduced(np.concatenate([*bands_of(codec, parsed, file)]), scale), parsed.look
    plane = alpha.alpha_of_file(file)
    plane = None if plane is None else reduced(plane, scale)
    return Picture(pixels, plane, file.header.grey, metadata.metadata_of_file(file), look)


def salvage(codec: PictureCodec, data: bytes, limits: Limits = DEFAULT_LIMITS, view: View = RECOMMENDED) -> Picture:
    """Return what can be seen of a file that is cut short or damaged; a `PictureWarning`, too, tells what is missing.

    Where fine passes are missing the picture is coarse, where all are it is what the prior expects, a flat grey or so.
    Alpha that is missing is opaque. Raises `FormatError` if not even the head is there, or if the picture is by method
    palette, whose stream is whole or nothing.
    """
    file, whole, intact = container.salvage(data, limits)
    stored = codec.stored(codec.checked(file), limits, whole)
    parsed = codec.parsed(stored, replace(view, denoise=0))
    pixels = codec.pipeline.synthesise([parsed])[0]
    layers = Layers(file, whole)
    layers.put(pixels)
    told, kept = [stored.lacking(), layers.lacking(), alpha.lacking(file.layout, whole)], metadata.NOTHING
    try:
        kept = metadata.metadata_of_file(file)
    except FormatError as error:
        told.append(f"metadata is left out: {error}")
    if not (intact or any(told)):
        told = ["the checksum does not match: metadata is left out, and what is shown may be wrong"]
    missing = "; ".join(filter(None, told))
    if missing:
        warnings.warn(missing, PictureWarning, stacklevel=3)
    plane = alpha.alpha_of_file(file, whole=whole)
    return Picture(pixels, plane, file.header.grey, kept, parsed.look, missing)


def stream_of(source: Source) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source
