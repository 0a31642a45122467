"""Parts of images: regions, bands of rows, previews."""

import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from sdtrt._arrays import U8Array
from sdtrt.engine.codec import EngineCodec, assemble_image
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.latent_file import LatentFileWriter, TileCodingOptions
from sdtrt.engine.format import alpha, container, metadata
from sdtrt.engine.format.arguments import checked_integer, checked_items, value_text
from sdtrt.engine.format.container import MAX_SIDE, File, Header
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.metadata import NO_METADATA, Metadata, to_chunks
from sdtrt.engine.image import ImageData, checked_region
from sdtrt.engine.layers.layer_reader import LayerReader, box_downscale
from sdtrt.engine.layers.preview import decode_preview
from sdtrt.engine.networks.decode_request import DEFAULT_DECODE_OPTIONS, DecodeOptions, DecodeRequest
from sdtrt.engine.part_options import MAX_SCALE, Region

Source = bytes | BinaryIO | File  # a stream must be able to `seek`; only the segments that are needed are read
EXPECTED_BANDS = "arrays of rows, uint8 (n, width, 3)"


def parse_lazily(source: Source, limits: Limits) -> File:
    """Return a parsed file whose segments are read when they are needed."""
    if isinstance(source, File):
        return source
    return container.read_from(io.BytesIO(source) if isinstance(source, bytes) else source, limits)


def decode_region(
    codec: EngineCodec,
    source: Source,
    region: Region,
    limits: Limits = DEFAULT_LIMITS,
    options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
) -> ImageData:
    """Decode a region of an image; the pixels are those of the whole image.

    Only the streams that the region needs are decoded.

    Arguments:
        codec: the opened model.
        source: a file.
        region: (left, top, width, height) in pixels.
        limits: bounds of what a file may ask for.
        options: look and denoising.

    Raises:
        ValueError: if the region is not within the image. Other errors are those of `EngineCodec.decode`.
    """
    file = parse_lazily(source, limits)
    reader = codec.read_latents(file, limits)
    left, top, width, height = checked_region(region, file.header.width, file.header.height)
    rows, columns = (top, top + height), (left, left + width)
    request = codec.prepare(reader, options, decode_now=False)
    pixels = np.concatenate([*codec.pipeline.synthesise_tiled(request, rows, columns)])
    return assemble_image(file, pixels, rows, columns, look=request.look)


def decode_rows(
    codec: EngineCodec, source: Source, limits: Limits = DEFAULT_LIMITS, options: DecodeOptions = DEFAULT_DECODE_OPTIONS
) -> tuple[Header, Iterator[U8Array]]:
    """Decode an image in bands of rows.

    Memory is bounded by a row of tiles, but for the latents of an image that is denoised.

    Arguments:
        codec: the opened model.
        source: a file.
        limits: bounds of what a file may ask for.
        options: look and denoising.

    Returns the header of the file, and RGB pixels from top to bottom, uint8 (n, width, 3). Errors are those of
    `EngineCodec.decode`.
    """
    file = parse_lazily(source, limits)
    request = codec.prepare(codec.read_latents(file, limits), options, decode_now=False)
    return file.header, _decode_bands(codec, request, file)


def _decode_bands(codec: EngineCodec, request: DecodeRequest, file: File) -> Iterator[U8Array]:
    """Return bands of RGB pixels, uint8 (n, width, 3), with the layers applied."""
    bands = codec.pipeline.synthesise_tiled(request, (0, file.header.height), (0, file.header.width))
    return apply_layers(bands, LayerReader(file))


def apply_layers(bands: Iterable[U8Array], layers: LayerReader) -> Iterator[U8Array]:
    """Yield bands of the networks' output, from top to bottom, with the layers applied."""
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
    """Encode an image that arrives in bands of rows. The image is never held as a whole, and gets no layers.

    Arguments:
        codec: the opened model.
        rows: RGB pixels from top to bottom, uint8 (n, width, 3).
        width, height: size of the image in pixels.
        options: a quality and an effort.
        grey: whether the image is to be decoded with one channel.
        metadata: EXIF, XMP and text.

    Raises:
        ValueError: if there are too few or too many rows, or another rate target than a quality, which would need the
            image more than once.
    """
    width, height = (checked_integer(name, side, 1, MAX_SIDE) for name, side in (("width", width), ("height", height)))
    buffer = RowBuffer(rows, width, height)
    code = codec.profile.step_code(options.fixed_quality())
    writer = LatentFileWriter(width, height, codec.profile, code, TileCodingOptions(effort=options.effort), grey=grey)
    for latents in codec.pipeline.analyse_tiled(buffer.rows, height, width):
        writer.add(latents)
    buffer.close()
    return container.write(writer.finish(chunks=to_chunks(metadata)))


class RowBuffer:
    """Bands of rows; the last rows of a row of tiles stay, since the next row of tiles overlaps them."""

    def __init__(self, bands: Iterable[U8Array], width: int, height: int) -> None:
        self._bands = checked_items("rows", bands, EXPECTED_BANDS)
        self._width, self._height = width, height
        self._top, self._buffered = 0, np.empty((0, width, 3), np.uint8)

    def rows(self, first: int, last: int) -> U8Array:
        """Return rows `first` to before `last`; the rows before `first` are dropped."""
        if first > self._top:
            self._buffered = self._buffered[first - self._top :].copy()
            self._top = first
        parts, bottom = [self._buffered], self._top + len(self._buffered)
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
        self._buffered = np.concatenate(parts) if len(parts) > 1 else self._buffered
        return self._buffered[first - self._top : last - self._top]

    def close(self) -> None:
        """Raise `ValueError` if there are more rows than the image has."""
        if self._top + len(self._buffered) > self._height or any(len(band) for band in self._bands):
            raise ValueError(f"more than {self._height} rows came")


def preview(codec: EngineCodec, source: Source, scale: int = 8, limits: Limits = DEFAULT_LIMITS) -> ImageData:
    """Decode an image at 1/`scale` of its size.

    If the latent profile has a linear preview and `scale` is a multiple of its downscale, coarse passes are enough and
    no network runs; the pixels are then approximate. Otherwise the whole image is decoded and averaged over blocks; see
    `preview_options` for the decoder.

    Arguments:
        codec: the opened model.
        source: a file.
        scale: 1 to 1024; sides are rounded up.
        limits: bounds of what a file may ask for.

    Errors are those of `EngineCodec.decode`.
    """
    scale = checked_integer("scale", scale, 1, MAX_SCALE)
    file = parse_lazily(source, limits)
    reader, look = codec.read_latents(file, limits), None
    pixels = decode_preview(file, reader, scale)
    if pixels is None:
        request = codec.prepare(reader, preview_options(codec, scale), decode_now=False)
        pixels, look = box_downscale(np.concatenate([*_decode_bands(codec, request, file)]), scale), request.look
    plane = alpha.read_alpha(file)
    plane = None if plane is None else box_downscale(plane, scale)
    return ImageData(pixels, plane, file.header.grey, metadata.read_metadata(file), look)


def preview_options(codec: EngineCodec, scale: int) -> DecodeOptions:
    """Return how networks decode an image for a preview.

    The mean over a block has little of the fast decoder's error. So this decoder is used if `scale` is above 1, and the
    bundle has it and recommends no other look than `faithful`.
    """
    is_fast = scale > 1 and codec.bundle.look == "faithful" and "fast" in codec.bundle.looks
    return DecodeOptions(look="fast" if is_fast else "auto")
