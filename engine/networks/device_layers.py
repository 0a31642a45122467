"""What a file has beside its latents, put over pixels on a device."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from sdtrt._arrays import AnyArray
from sdtrt.engine.layers.layer_reader import TileCoefficients
from sdtrt.kernels import launches
from sdtrt.kernels.device import ALIGNMENT, Device, DeviceArray
from sdtrt.kernels.launches import Launch


class DeviceLayers:
    """One block of page-locked memory and one of device memory, in which the layers of an image cross the bus.

    Both grow to the largest image so far and are used again for the next one.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._staging: AnyArray = np.empty(0, np.uint8)
        self._block: DeviceArray | None = None
        self._last_use: Any = None  # an event, after which the staging memory may be filled again

    def send(self, tiles: Sequence[TileCoefficients], pixels: DeviceArray) -> list[Launch]:
        """Queue the upload of layers; return the launches that put them over an image, uint8 (H, W, 3), in order.

        Nothing is written into the image here.
        """
        arrays = [array for *_, residual, overlay in tiles for array in (residual, overlay) if array is not None]
        ends = [0, *accumulate(-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays)]
        if not arrays:
            return []
        self._upload(arrays, ends)
        assert self._block is not None  # since there are layers
        pointers = iter([self._block.pointer + start for start in ends[:-1]])
        width, found = pixels.shape[1], []
        for down, across, residual, overlay in tiles:
            height, part = down[1] - down[0], pixels.pointer + 3 * (down[0] * width + across[0])
            images = launches.ImageBatch(1, height, across[1] - across[0], 3, 3 * width, 0, pad_multiple=8)
            if residual is not None:
                found.append(launches.add_residual(next(pointers), part, images=images))
            if overlay is not None:
                found.append(launches.apply_overlay(next(pointers), part, images=images))
        return found

    def _upload(self, arrays: Sequence[AnyArray], ends: Sequence[int]) -> None:
        """Queue the upload of arrays to the starts of the block that `ends` names."""
        device, nbytes = self._device, ends[-1]
        if self._last_use is not None:
            self._last_use.sync()
        if self._block is None or self._block.nbytes < nbytes:
            device.record_event(device.stream).sync()  # kernels may still read the block that is given up here
            self._block, self._staging = None, np.empty(0, np.uint8)
            staging = device.pinned((nbytes,), np.uint8)
            self._block, self._staging = device.empty((nbytes,), np.uint8), staging
        for array, start in zip(arrays, ends, strict=False):
            place = self._staging[start : start + array.nbytes].view(array.dtype)
            np.copyto(place.reshape(array.shape), array)
        device.upload(self._block, self._staging[:nbytes], device.stream)
        self._last_use = device.record_event(device.stream)
