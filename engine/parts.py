"""Images in parts: regions, bands of rows, previews, and what there is of a damaged file."""

import io
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from sdtrt._arrays import U8Array
from sdtrt.engine.codec import EngineCodec, assemble_image
from sdtrt.engine.coding.latent_file import LatentFileWriter
from sdtrt.engine.coding.rate_control import EncodeOptions
from sdtrt.engine.format import alpha, container, metadata
from sdtrt.engine.format.arguments import checked_integer, checked_items, value_text
from sdtrt.engine.format.container import MAX_SIDE, File, Header
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.metadata import NO_METADATA, Metadata, to_chunks
from sdtrt.engine.image import ImageData, Region, checked_region
from sdtrt.engine.layers.layer_reader import LayerReader, box_downscale
from sdtrt.engine.layers.preview import decode_preview
from sdtrt.engine.networks.decode_options import DEFAULT_DECODE_OPTIONS, DecodeOptions
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.errors import FormatError, ImageWarning

Source = bytes | BinaryIO  # a file's bytes, or a stream that can `seek`, of which only what is needed is read
MAX_SCALE = 1024
EXPECTED_BANDS = "arrays of rows, uint8 (n, width, 3)"


def decode_region(
    codec: EngineCodec,
    source: Source,
    region: Region,
    limits: Limits = DEFAULT_LIMITS,
    options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
) -> ImageData:
    """Return a region of the image in a file, the same as if it were cropped from the whole.

    Only the streams are decoded that the region touches, or that the networks look at for it. Raises `ValueError` if
    the region is not within the image.
    """
    file = codec.require_same_space(container.read_from(stream_of(source), limits))
    left, top, width, height = checked_region(region, file.header.width, file.header.height)
    rows, columns = (top, top + height), (left, left + width)
    stored = codec.stored(file, limits)
    parsed = codec.prepare(stored, options, now=False)
    pixels = codec.pipeline.synthesise_tiled(parsed, rows, columns)
    return assemble_image(file, np.concatenate([*pixels]), rows, columns, look=parsed.look)


def decode_rows(
    codec: EngineCodec, source: Source, limits: Limits = DEFAULT_LIMITS, options: DecodeOptions = DEFAULT_DECODE_OPTIONS
) -> tuple[Header, Iterator[U8Array]]:
    """Return the header of a file, and its RGB pixels in bands of rows, uint8 (n, width, 3), from top to bottom.

    The image is never held whole: memory is bounded by a row of tiles, but for the latents of one that is denoised.
    """
    file = codec.require_same_space(container.read_from(stream_of(source), limits))
    return file.header, bands_of(codec, codec.prepare(codec.stored(file, limits), options, now=False), file)


def bands_of(codec: EngineCodec, parsed: DecodeRequest, file: File) -> Iterator[U8Array]:
    """Return the RGB pixels of a file in bands of rows, with layers over them."""
    bands = codec.pipeline.synthesise_tiled(parsed, (0, file.header.height), (0, file.header.width))
    return apply_layers(bands, LayerReader(file))


def apply_layers(bands: Iterable[U8Array], layers: LayerReader) -> Iterator[U8Array]:
    """Yield bands of rows of the networks' pixels, from top to bottom, with layers over them."""
    top = 0
    for band in bands:
        yield layers.apply(band, (top, top + len(band)))
        top += len(band)


def encode_rows(
    codec: EngineCodec,
    rows: Iterable[U8Array],
    width: int,
    height: int,
    options: EncodeOptions,
    *,
    grey: bool = False,
    metadata: Metadata = NO_METADATA,
) -> bytes:
    """Return the file of an image that comes in bands of rows, uint8 (n, width, 3), and is never held whole.

    Raises `ValueError` if they are too few or too many, or if a size or a PSNR is asked for, which takes more than one
    look at the image.
    """
    width, height = (checked_integer(name, side, 1, MAX_SIDE) for name, side in (("width", width), ("height", height)))
    given = RowBuffer(rows, width, height)
    code = codec.profile.step_code(options.known_quality())
    builder = LatentFileWriter(width, height, codec.profile, code, effort=options.effort, grey=grey)
    for latents in codec.pipeline.analyse_tiled(given.rows, height, width):
        builder.add(latents)
    given.close()
    return container.write(builder.file(chunks=to_chunks(metadata)))


class RowBuffer:
    """Bands of rows, of which some are wanted again by the next row of tiles."""

    def __init__(self, bands: Iterable[U8Array], width: int, height: int) -> None:
        self._bands = checked_items("rows", bands, EXPECTED_BANDS)
        self._width, self._height = width, height
        self._top, self._kept = 0, np.empty((0, width, 3), np.uint8)

    def rows(self, first: int, last: int) -> U8Array:
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
        """Raise `ValueError` if there are more rows than the image has."""
        if self._top + len(self._kept) > self._height or any(len(band) for band in self._bands):
            raise ValueError(f"more than {self._height} rows came")


def preview(codec: EngineCodec, source: Source, scale: int = 8, limits: Limits = DEFAULT_LIMITS) -> ImageData:
    """Return a file's image at 1/`scale` of its size, sides rounded up, each pixel the mean of a block.

    Where the latent space's profile knows how, and `scale` is a multiple of its downscale, by coarse passes alone and
    without a network, which is not quite the same; else from the whole image.
    """
    scale = checked_integer("scale", scale, 1, MAX_SCALE)
    file = codec.require_same_space(container.read_from(stream_of(source), limits))
    stored, look = codec.stored(file, limits), None
    pixels = decode_preview(file, stored, scale)
    if pixels is None:
        parsed = codec.prepare(stored, now=False)
        pixels, look = box_downscale(np.concatenate([*bands_of(codec, parsed, file)]), scale), parsed.look
    plane = alpha.read_alpha(file)
    plane = None if plane is None else box_downscale(plane, scale)
    return ImageData(pixels, plane, file.header.grey, metadata.read_metadata(file), look)


def salvage(
    codec: EngineCodec, data: bytes, limits: Limits = DEFAULT_LIMITS, options: DecodeOptions = DEFAULT_DECODE_OPTIONS
) -> ImageData:
    """Return what can be seen of a file that is cut short or damaged; an `ImageWarning`, too, tells what is missing.

    Where fine passes are missing the image is coarse, where all are it is what the prior expects, a flat grey or so.
    Alpha that is missing is opaque. Raises `FormatError` if not even the head is there, or if the image is by method
    palette, whose stream is whole or nothing.
    """
    file, intact_segments, intact = container.salvage(data, limits)
    stored = codec.stored(codec.require_same_space(file), limits, intact_segments)
    parsed = codec.prepare(stored, replace(options, denoise=0))
    pixels = codec.pipeline.synthesise([parsed])[0]
    layers = LayerReader(file, intact_segments)
    layers.apply(pixels)
    told, kept = (
        [stored.missing_report(), layers.missing_report(), alpha.missing_report(file.layout, intact_segments)],
        metadata.NO_METADATA,
    )
    try:
        kept = metadata.read_metadata(file)
    except FormatError as error:
        told.append(f"metadata is left out: {error}")
    if not (intact or any(told)):
        told = ["the checksum does not match: metadata is left out, and what is shown may be wrong"]
    missing = "; ".join(filter(None, told))
    if missing:
        warnings.warn(missing, ImageWarning, stacklevel=4)
    plane = alpha.read_alpha(file, intact_segments=intact_segments)
    return ImageData(pixels, plane, file.header.grey, kept, parsed.look, missing)


def stream_of(source: Source) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source
