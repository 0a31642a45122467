"""Previews by the linear part of a latent space, without a network: images at 1/8 of their size, or less."""

from sdtrt._arrays import U8Array
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.format.container import File
from sdtrt.engine.format.latent_space import PALETTE
from sdtrt.engine.layers.layer_reader import LayerReader, box_downscale


def decode_preview(file: File, reader: LatentReader, scale: int) -> U8Array | None:
    """Decode an image at 1/`scale` of its size, from coarse passes and the overlay, without the residual.

    Arguments:
        file: the parsed file.
        reader: its latents.
        scale: 1 or more; sides are rounded up.

    Returns RGB pixels, uint8 (H, W, 3); None if the profile has no linear preview, `scale` is no multiple of its
    downscale, or the file was made by method palette.

    Raises:
        FormatError: if a segment that is needed is damaged.
    """
    linear_preview, downscale = reader.profile.preview, reader.profile.downscale
    if linear_preview is None or file.header.prior == PALETTE or scale % downscale:
        return None
    latents = reader.read_channels(linear_preview.channels).dequantize()
    return LayerReader(file).apply_to_preview(box_downscale(linear_preview.render(latents), scale // downscale), scale)
