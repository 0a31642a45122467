"""A file's picture at an eighth of its size, or less, by the linear part of its latent space alone: no network."""

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.quantized import latents_of
from sdtrt.engine.coding.stored import StoredLatents
from sdtrt.engine.format.container import File
from sdtrt.engine.layers.stored import Layers, reduced

Pixels = NDArray[np.uint8]


def preview_of_file(file: File, stored: StoredLatents, scale: int) -> Pixels | None:
    """Return RGB pixels, uint8 (H, W, 3), at 1/`scale` of the size, each the mean of a block; sides are rounded up.

    Only coarse passes are read, and the overlay, if there is one; residuals are left out. None if there is no such way:
    the profile knows none, or `scale` is no multiple of its downscale. `FormatError` as of `StoredLatents`.
    """
    way, downscale = stored.profile.preview, stored.profile.downscale
    if way is None or stored.kind == "latents" or scale % downscale:
        return None
    latents = latents_of(stored.some(way.channels))
    return Layers(file).put_reduced(reduced(way.picture(latents), scale // downscale), scale)
