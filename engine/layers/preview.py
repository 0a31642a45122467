"""A file's image at an eighth of its size, or less, by the linear part of its latent space alone: no network."""

from sdtrt._arrays import U8Array
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.coding.quantized_latents import dequantize
from sdtrt.engine.format.container import File
from sdtrt.engine.layers.layer_reader import LayerReader, box_downscale


def decode_preview(file: File, stored: LatentReader, scale: int) -> U8Array | None:
    """Return RGB pixels, uint8 (H, W, 3), at 1/`scale` of the size, each the mean of a block; sides are rounded up.

    Only coarse passes are read, and the overlay, if there is one; residuals are left out. None if there is no such way:
    the profile knows none, or `scale` is no multiple of its downscale. `FormatError` as of `LatentReader`.
    """
    linear_preview, downscale = stored.profile.preview, stored.profile.downscale
    if linear_preview is None or stored.offset_kind == "latents" or scale % downscale:
        return None
    latents = dequantize(stored.some(linear_preview.channels))
    return LayerReader(file).apply_to_preview(box_downscale(linear_preview.render(latents), scale // downscale), scale)
