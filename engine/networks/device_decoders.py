"""Decoding within a device's plan: the networks that have a share in the pixels, for one shape."""

from collections.abc import Mapping, Sequence

import numpy as np

from sdtrt.engine.networks.backends import DeviceNetwork
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.errors import BundleError
from sdtrt.kernels import launches
from sdtrt.kernels.device import Device, DeviceArray, Stream


class DeviceDecoders:
    """One decoder, or two whose pixels are mixed; `fill` says how, each image by its own shares.

    `arrays` are inputs and `pixels`, (N, 3, H, W), by name.
    """

    def __init__(self, device: Device, networks: Sequence[DeviceNetwork], arrays: Mapping[str, DeviceArray]) -> None:
        pixels, kinds = arrays["pixels"], networks[0].dtypes
        if any(network.dtypes != kinds for network in networks):
            raise BundleError("the decoders of the two looks do not take and give the same types; export both alike")
        self.capturable = all(network.capturable for network in networks)
        self._device = device
        planes = [pixels, *(device.empty(pixels.shape, pixels.dtype) for _ in networks[1:])]
        self._networks = [
            network.bind({name: arrays[name] for name in kinds} | {"pixels": into})
            for network, into in zip(networks, planes, strict=True)
        ]
        self._planes = planes
        count = pixels.shape[0]
        self._shares = [device.pinned((count,), np.float32) for _ in networks]
        self._sent = [device.empty((count,), np.float32) for _ in networks]

    def fill(self, images: Sequence[DecodeRequest]) -> None:
        """Write the shares of each image's decoders into staging memory."""
        for n, image in enumerate(images):
            for staged, share in zip(self._shares, image.decoder_weights.values(), strict=True):
                staged[n] = share

    def queue(self, stream: Stream) -> None:
        """Queue the work."""
        for network in self._networks:
            network(stream)
        if len(self._networks) == 1:
            return
        for sent, staged in zip(self._sent, self._shares, strict=True):
            self._device.upload(sent, staged, stream)
        pixels, other = self._planes
        shares = [sent.pointer for sent in self._sent]
        step = launches.ddim_step(
            pixels.pointer, other.pointer, pixels.pointer, *shares, shape=pixels.shape, dtype=pixels.dtype
        )
        self._device.launch(step, stream)
