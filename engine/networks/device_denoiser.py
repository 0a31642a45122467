"""Denoising within a device's plan: the UNet and the steps between its runs, for one shape and number of steps."""

from collections.abc import Sequence

import numpy as np

from sdtrt.engine.denoising.schedule import Trajectory
from sdtrt.engine.networks.backends import DeviceNetwork
from sdtrt.errors import BundleError
from sdtrt.kernels import launches
from sdtrt.kernels.device import Device, DeviceArray, Stream


class DeviceDenoiser:
    """Denoises `latents`, (N, C, h, w), in place; `fill` says by which steps, each image by its own."""

    def __init__(self, device: Device, network: DeviceNetwork, latents: DeviceArray, steps: int) -> None:
        kinds, count = network.dtypes, latents.shape[0]
        if {kinds["latents"], kinds["prediction"]} != {latents.dtype}:
            raise BundleError(f"the UNet takes {kinds['latents']}, the decoder {latents.dtype}; export both alike")
        self.capturable = network.capturable
        self._device, self._latents, self._steps = device, latents, steps
        # One row each step, the first for the scale; the networks see one row at a time.
        kind_of_row = {"timestep": kinds["timestep"], "a": np.dtype(np.float32), "b": np.dtype(np.float32)}
        self._rows = {name: device.pinned((steps + 1, count), kind) for name, kind in kind_of_row.items()}
        self._row = {name: device.empty((count,), kind) for name, kind in kind_of_row.items()}
        self._prediction = device.empty(latents.shape, latents.dtype)
        self._network = network.bind(
            {"latents": latents, "timestep": self._row["timestep"], "prediction": self._prediction}
        )

    def fill(self, trajectories: Sequence[Trajectory]) -> None:
        """Write the steps of each image into staging memory."""
        for n, trajectory in enumerate(trajectories):
            self._rows["timestep"][:, n] = [0, *(step.timestep for step in trajectory.steps)]
            self._rows["a"][:, n] = [trajectory.input_scale, *(step.a for step in trajectory.steps)]
            self._rows["b"][:, n] = [0, *(step.b for step in trajectory.steps)]

    def queue(self, stream: Stream) -> None:
        """Queue the work."""
        self._step(0, self._latents, stream)
        for n in range(1, self._steps + 1):
            self._device.upload(self._row["timestep"], self._rows["timestep"][n], stream)
            self._network(stream)
            self._step(n, self._prediction, stream)

    def _step(self, n: int, output: DeviceArray, stream: Stream) -> None:
        for name in ("a", "b"):
            self._device.upload(self._row[name], self._rows[name][n], stream)
        latents = self._latents
        arrays = [array.pointer for array in (latents, output, latents, self._row["a"], self._row["b"])]
        self._device.launch(launches.ddim_step(*arrays, shape=latents.shape, dtype=latents.dtype), stream)
