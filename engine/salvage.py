"""Decoding of damaged files."""

import warnings
from dataclasses import replace

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.format import alpha, container, metadata
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.image import ImageData
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.decode_request import DEFAULT_DECODE_OPTIONS, DecodeOptions
from sdtrt.errors import FormatError, ImageWarning


def salvage(
    codec: EngineCodec, data: bytes, limits: Limits = DEFAULT_LIMITS, options: DecodeOptions = DEFAULT_DECODE_OPTIONS
) -> ImageData:
    """Decode the readable part of a truncated or damaged file.

    Without its fine passes the image is coarse. Without any pass it has the values that the prior predicts, about a
    flat grey. Missing alpha is opaque. An `ImageWarning`, and the `missing` field of the result, say what is missing.

    Arguments:
        codec: the opened model.
        data: the bytes of the file.
        limits: bounds of what a file may ask for.
        options: the look; the image is not denoised.

    Raises:
        FormatError: if the head of the file is damaged, or a file of method palette is, which has a single stream.
        LimitError: if the file exceeds the limits.
        BundleError: if the file is in another latent space, or the bundle lacks a decoder for the look.
    """
    file, intact_segments, checksum_ok = container.salvage(data, limits)
    reader = codec.read_latents(file, limits, intact_segments)
    request = codec.prepare(reader, replace(options, denoise=0))
    pixels = codec.pipeline.synthesise([request])[0]
    layers = LayerReader(file, intact_segments)
    layers.apply(pixels)
    reports = [reader.missing_report(), layers.missing_report(), alpha.missing_report(file.layout, intact_segments)]
    kept = metadata.NO_METADATA
    try:
        kept = metadata.read_metadata(file)
    except FormatError as error:
        reports.append(f"metadata is left out: {error}")
    if not (checksum_ok or any(reports)):
        reports = ["the checksum does not match: metadata is left out, and the image may be wrong"]
    missing = "; ".join(filter(None, reports))
    if missing:
        warnings.warn(missing, ImageWarning, stacklevel=4)
    plane = alpha.read_alpha(file, intact_segments=intact_segments)
    return ImageData(pixels, plane, file.header.grey, kept, request.look, missing)
