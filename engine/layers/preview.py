"""Previews without a network: the linear decoder of a latent space, and the overlay."""

from sdtrt._arrays import U8Array
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.coding.quantized_latents import dequantize
from sdtrt.engine.format.container import File
from sdtrt.engine.layers.layer_reader import LayerReader, box_downscale


def decode_preview(file: File, reader: LatentReader, scale: int) -> U8Array | None:
    """Return a preview of a file, RGB pixels, uint8 (ceil(height / scale), ceil(width / scale), 3).

    A pixel is the mean colour of a block of `scale` x `scale` pixels. Only the first level of the latents and the
    overlay are decoded; the residual is ignored.

    Arguments:
        file, reader: the file and the reader of its latents.
        scale: a multiple of the latent space's downscale, usually 8.

    Returns None if `scale` is not such a multiple, or the latent space has no linear decoder. Raises `FormatError` if
    the file is damaged.
    """
    linear_decoder, downscale = reader.profile.preview, reader.profile.downscale
    if linear_decoder is None or reader.offset_kind == "latents" or scale % downscale:
        return None
    latents = dequantize(reader.some(linear_decoder.channels))
    return LayerReader(file).apply_to_preview(box_downscale(linear_decoder.render(latents), scale // downscale), scale)
