"""Pictures to latents and back on the host: the kernels' references around networks in ONNX Runtime or OpenVINO."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.quantized import latents_of
from sdtrt.engine.coding.stored import StoredLatents
from sdtrt.engine.denoising.denoise import denoised
from sdtrt.engine.format.layout import Span
from sdtrt.engine.layers.stored import Layers
from sdtrt.engine.networks.backends import Backend, Network
from sdtrt.engine.networks.parsed import Parsed
from sdtrt.engine.networks.tiled import Rows, Tiled, rows_of
from sdtrt.errors import BundleError, DeviceError
from sdtrt.kernels import reference

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class HostPipeline:
    """A bundle's networks, each opened at its first use; see `engine.networks.pipeline.Pipeline`."""

    largest_batch = 1

    def __init__(self, backend: Backend, tiled: Tiled) -> None:
        self.name = backend.name
        self._bundle, self._backend, self._tiled = tiled.bundle, backend, tiled
        self._networks: dict[str, Network] = {}

    def analyse(self, pixels: Sequence[Pixels]) -> list[Floats]:
        return [np.concatenate([*self.latents(rows_of(one), *one.shape[:2])], axis=1) for one in pixels]

    def synthesise(self, pictures: Sequence[Parsed]) -> list[Pixels]:
        whole = [((0, one.header.height), (0, one.header.width)) for one in pictures]
        return [np.concatenate([*self.pixels(one, *place)]) for one, place in zip(pictures, whole, strict=True)]

    def latents(self, rows: Rows, height: int, width: int) -> Iterator[Floats]:
        return self._tiled.latents(rows, height, width, self._encoded)

    def pixels(self, picture: Parsed, rows: Span, columns: Span) -> Iterator[Pixels]:
        return self._tiled.pixels(picture, self._decoded, rows, columns)

    def synthesise_into(self, picture: Parsed, layers: Layers, array: Any, stream: Any) -> None:
        raise DeviceError(f"device memory needs a GPU; this codec runs by {self.name}")

    def _encoded(self, pixels: Pixels) -> Floats:
        planes = reference.pixels_to_planes(pixels, self._tiled.scale, *self._bundle.pixel_range)
        return self._run("encoder.onnx", {"pixels": planes[None]})["latents"][0]

    def _decoded(self, picture: Parsed) -> Floats:
        assert not isinstance(picture.contents, StoredLatents)  # a part of those, by now
        latents = latents_of(picture.contents)[None]
        if picture.trajectory:
            latents = denoised(latents, picture.trajectory, self._predict)
        step = {"step": np.array([picture.header.step], np.float32)} if self._bundle.decoder_takes_step else {}
        found = [self._run(f"{name}.onnx", {"latents": latents, **step})["pixels"] for name in picture.decoders]
        if len(found) == 1:
            return found[0][0]
        shares = [np.array([share], np.float32) for share in picture.shares.values()]
        return reference.step(found[0], found[1], *shares)[0]

    def _predict(self, latents: Floats, timestep: Floats) -> Floats:
        return self._run("unet.onnx", {"latents": latents, "timestep": timestep})["prediction"]

    def _run(self, name: str, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        if name not in self._networks:
            self._networks[name] = self._backend.load(self._bundle.file(name))
        outputs = self._networks[name].run(inputs)
        for tensor, values in outputs.items():
            if not np.isfinite(values).all():
                raise BundleError(f"{self._bundle.name}'s {name} gave values in {tensor} that are not finite")
        return outputs
