"""Stages of the GPU pipeline: the denoiser, and the layers over the decoder's pixels.

`DenoiserStage` belongs to an execution plan, so to one shape. For each batch `fill` writes its inputs into staging
memory on the host; `queue` queues its work.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from sdtrt._arrays import AnyArray
from sdtrt.engine.denoising.schedule import Trajectory
from sdtrt.engine.layers.dct import block_grid
from sdtrt.engine.layers.layer_reader import TileCoefficients
from sdtrt.engine.networks.backends import DeviceNetwork
from sdtrt.engine.networks.tiling import round_up
from sdtrt.errors import BundleError
from sdtrt.kernels import launches
from sdtrt.kernels.device import ALIGNMENT, Device, DeviceArray, Stream
from sdtrt.kernels.launches import Launch
from sdtrt.kernels.reference import BLOCK


class DenoiserStage:
    """The UNet and its DDIM steps, which denoise a batch of latents in place.

    Arguments:
        network: the UNet.
        latents: (N, C, h, w), of the UNet's type.
        steps: DDIM steps of every image in the batch; each image has its own timesteps.

    Raises:
        BundleError: the types of UNet and decoder differ.
    """

    def __init__(self, device: Device, network: DeviceNetwork, latents: DeviceArray, steps: int) -> None:
        dtypes, count = network.dtypes, latents.shape[0]
        if {dtypes["latents"], dtypes["prediction"]} != {latents.dtype}:
            raise BundleError(f"the UNet takes {dtypes['latents']}, the decoder {latents.dtype}; export both alike")
        self.capturable = network.capturable
        self._device, self._latents, self._steps = device, latents, steps
        # The first row of each array has the scale of the latents, the others have the DDIM steps.
        row_dtypes = {"timestep": dtypes["timestep"], "a": np.dtype(np.float32), "b": np.dtype(np.float32)}
        self._staged_rows = {name: device.pinned((steps + 1, count), dtype) for name, dtype in row_dtypes.items()}
        self._row = {name: device.empty((count,), dtype) for name, dtype in row_dtypes.items()}
        self._prediction = device.empty(latents.shape, latents.dtype)
        self._run_unet = network.bind(
            {"latents": latents, "timestep": self._row["timestep"], "prediction": self._prediction}
        )

    def fill(self, trajectories: Sequence[Trajectory]) -> None:
        """Write the trajectory of each image into staging memory."""
        for n, trajectory in enumerate(trajectories):
            self._staged_rows["timestep"][:, n] = [0, *(step.timestep for step in trajectory.steps)]
            self._staged_rows["a"][:, n] = [trajectory.input_scale, *(step.a for step in trajectory.steps)]
            self._staged_rows["b"][:, n] = [0, *(step.b for step in trajectory.steps)]

    def queue(self, stream: Stream) -> None:
        """Queue the scaling of the latents, then each run of the UNet and its DDIM step."""
        self._queue_ddim_step(0, self._latents, stream)
        for n in range(1, self._steps + 1):
            self._device.upload(self._row["timestep"], self._staged_rows["timestep"][n], stream)
            self._run_unet(stream)
            self._queue_ddim_step(n, self._prediction, stream)

    def _queue_ddim_step(self, n: int, output: DeviceArray, stream: Stream) -> None:
        for name in ("a", "b"):
            self._device.upload(self._row[name], self._staged_rows[name][n], stream)
        latents = self._latents
        arrays = [array.pointer for array in (latents, output, latents, self._row["a"], self._row["b"])]
        self._device.launch(launches.ddim_step(*arrays, shape=latents.shape, dtype=latents.dtype), stream)


class LayerStage:
    """The layers of an image: one block of page-locked memory and one of device memory, through which they pass.

    Both blocks grow to the size that the largest image so far may need, with both layers. So further images of a size
    allocate nothing.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._staging: AnyArray = np.empty(0, np.uint8)
        self._block: DeviceArray | None = None
        self._last_use: Any = None  # an event; the staging memory may be written after it

    def send(self, tiles: Sequence[TileCoefficients], pixels: DeviceArray) -> list[Launch]:
        """Queue the upload of layers, and return the launches that apply them to an image, in order.

        Arguments:
            tiles: the coefficients of residual and overlay in each tile.
            pixels: the image, uint8 (H, W, 3). Only the launches write into it.
        """
        arrays = [array for *_, residual, overlay in tiles for array in (residual, overlay) if array is not None]
        if not arrays:
            return []
        ends = [0, *accumulate(round_up(array.nbytes, ALIGNMENT) for array in arrays)]
        block = self._upload(arrays, ends, largest_nbytes(tiles))
        addresses = iter([block.pointer + start for start in ends[:-1]])
        width, work = pixels.shape[1], []
        for down, across, residual, overlay in tiles:
            target = pixels.pointer + 3 * (down[0] * width + across[0])
            images = launches.ImageBatch(1, down[1] - down[0], across[1] - across[0], 3, 3 * width, 0, pad_multiple=8)
            if residual is not None:
                work.append(launches.add_residual(next(addresses), target, images=images))
            if overlay is not None:
                work.append(launches.apply_overlay(next(addresses), target, images=images))
        return work

    def _upload(self, arrays: Sequence[AnyArray], ends: Sequence[int], reserved: int) -> DeviceArray:
        """Queue the upload of arrays into one block, and return the block.

        Arguments:
            arrays: the arrays.
            ends: their offsets, and the end of the last one.
            reserved: bytes of a new block.
        """
        device, nbytes = self._device, ends[-1]
        if self._last_use is not None:
            self._last_use.sync()
        if self._block is None or self._block.nbytes < nbytes:
            device.record_event(device.stream).sync()  # kernels may still read the old block
            self._block, self._staging = None, np.empty(0, np.uint8)
            staging = device.pinned((reserved,), np.uint8)
            self._block, self._staging = device.empty((reserved,), np.uint8), staging
        for array, start in zip(arrays, ends, strict=False):
            slot = self._staging[start : start + array.nbytes].view(array.dtype)
            np.copyto(slot.reshape(array.shape), array)
        device.upload(self._block, self._staging[:nbytes], device.stream)
        self._last_use = device.record_event(device.stream)
        return self._block


def largest_nbytes(tiles: Sequence[TileCoefficients]) -> int:
    """Return the bytes of both layers of an image, whether the tiles have them or not."""
    nbytes = 0
    for (top, bottom), (left, right), *_ in tiles:
        height, width = bottom - top, right - left
        coefficients = 3 * 4 * math.prod(block_grid(height, width)) * BLOCK**2  # int32
        nbytes += sum(round_up(size, ALIGNMENT) for size in (coefficients, 4 * height * width))
    return nbytes
