"""What a file has beside its latents, put over pixels on a device."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.layers.stored import Layers
from sdtrt.kernels import launches
from sdtrt.kernels.device import Device, DeviceArray


class DeviceLayers:
    """The memory that layers cross the bus in, kept until the device has done with it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._kept: list[Any] = []
        self._last_use: Any = None

    def queue(self, layers: Layers, pixels: DeviceArray) -> None:
        """Queue that layers are put over a picture's pixels, uint8 (H, W, 3)."""
        if self._last_use is not None:
            self._last_use.sync()
        self._kept.clear()
        width = pixels.shape[1]
        for down, across, values, overlay in layers.parts():
            height, part = down[1] - down[0], pixels.pointer + 3 * (down[0] * width + across[0])
            pictures = launches.Pictures(1, height, across[1] - across[0], 3, 3 * width, 0, multiple=8)
            if values is not None:
                self._device.launch(
                    launches.add_residual(self._sent(values), part, pictures=pictures), self._device.stream
                )
            if overlay is not None:
                self._device.launch(
                    launches.put_overlay(self._sent(overlay), part, pictures=pictures), self._device.stream
                )
        self._last_use = self._device.mark(self._device.stream)

    def _sent(self, values: NDArray[Any]) -> int:
        """Return where on the device values will be."""
        staged = self._device.staging(values.shape, values.dtype)
        np.copyto(staged, values)
        array = self._device.empty(values.shape, values.dtype)
        self._device.upload(array, staged, self._device.stream)
        self._kept += [staged, array]
        return array.pointer
