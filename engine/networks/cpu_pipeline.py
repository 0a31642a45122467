"""Images to latents and back on the host: the kernels' references around networks in ONNX Runtime or OpenVINO."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.coding.quantized_latents import dequantize
from sdtrt.engine.denoising.denoise import run_ddim
from sdtrt.engine.format.layout import Span
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.backends import Network, NetworkLoader
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.engine.networks.tiled import Rows, TiledRunner, rows_of
from sdtrt.errors import BundleError, DeviceError
from sdtrt.kernels import reference


class CpuPipeline:
    """A bundle's networks, each opened at its first use; see `engine.networks.pipeline.Pipeline`."""

    largest_batch = 1

    def __init__(self, backend: NetworkLoader, tiled: TiledRunner) -> None:
        self.name = f"{backend.name} on the CPU"
        self._bundle, self._backend, self._tiled = tiled.bundle, backend, tiled
        self._networks: dict[str, Network] = {}

    def analyse(self, pixels: Sequence[U8Array]) -> list[F32Array]:
        return [np.concatenate([*self.analyse_tiled(rows_of(one), *one.shape[:2])], axis=1) for one in pixels]

    def synthesise(self, images: Sequence[DecodeRequest]) -> list[U8Array]:
        whole = [((0, one.header.height), (0, one.header.width)) for one in images]
        return [np.concatenate([*self.synthesise_tiled(one, *place)]) for one, place in zip(images, whole, strict=True)]

    def analyse_tiled(self, rows: Rows, height: int, width: int) -> Iterator[F32Array]:
        return self._tiled.analyse_tiled(rows, height, width, self._encoded)

    def synthesise_tiled(self, image: DecodeRequest, rows: Span, columns: Span) -> Iterator[U8Array]:
        return self._tiled.synthesise_tiled(image, self._decoded, rows, columns)

    def synthesise_into(self, image: DecodeRequest, layers: LayerReader, array: Any, stream: Any) -> None:
        raise DeviceError(f"device memory needs a GPU; this codec runs by {self.name}")

    def _encoded(self, pixels: U8Array) -> F32Array:
        planes = reference.pixels_to_planes(pixels, self._tiled.scale, *self._bundle.pixel_range)
        return self._run("encoder.onnx", {"pixels": planes[None]})["latents"][0]

    def _decoded(self, image: DecodeRequest) -> F32Array:
        assert not isinstance(image.contents, LatentReader)  # a part of those, by now
        latents = dequantize(image.contents)[None]
        if image.trajectory:
            latents = run_ddim(latents, image.trajectory, self._predict)
        step = {"step": np.array([image.header.step], np.float32)} if self._bundle.decoder_takes_step else {}
        found = [self._run(f"{name}.onnx", {"latents": latents, **step})["pixels"] for name in image.decoders]
        if len(found) == 1:
            return found[0][0]
        shares = [np.array([share], np.float32) for share in image.decoder_weights.values()]
        return reference.ddim_step(found[0], found[1], *shares)[0]

    def _predict(self, latents: F32Array, timestep: F32Array) -> F32Array:
        return self._run("unet.onnx", {"latents": latents, "timestep": timestep})["prediction"]

    def _run(self, name: str, inputs: Mapping[str, F32Array]) -> dict[str, F32Array]:
        if name not in self._networks:
            self._networks[name] = self._backend.load(self._bundle.file(name))
        outputs = self._networks[name].run(inputs)
        for tensor, values in outputs.items():
            if not np.isfinite(values).all():
                raise BundleError(f"{self._bundle.name}'s {name} gave values in {tensor} that are not finite")
        return outputs
