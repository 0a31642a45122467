"""Images to latents and back on the CPU: NumPy kernels, and networks by ONNX Runtime or OpenVINO."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.coding.quantized_latents import FloatLatents, QuantizedLatents
from sdtrt.engine.denoising.denoise import run_ddim
from sdtrt.engine.format.layout import Span
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.backends import INT8_DECODER, Network, NetworkLoader
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.engine.networks.open_networks import OpenNetworks
from sdtrt.engine.networks.tiling import ReadRows, TiledRunner, rows_of
from sdtrt.errors import BundleError, DeviceError
from sdtrt.kernels import reference

MAX_NBYTES_AT_ONCE = 1 << 25  # of a bundle: larger networks need too much memory for several images at once


class CpuPipeline:
    """The networks of a bundle on the CPU, each loaded at its first use; see `engine.networks.pipeline.Pipeline`."""

    largest_batch = 1

    def __init__(self, loader: NetworkLoader, tiled: TiledRunner) -> None:
        self.name = f"{loader.name} on the CPU"
        self._bundle, self._loader, self._tiled = tiled.bundle, loader, tiled
        self._networks = OpenNetworks(self._load)
        self._for_batches: dict[str, tuple[CpuPipeline, int]] = {}  # one entry at most; `setdefault` is atomic

    def analyse(self, pixels: Sequence[U8Array]) -> list[F32Array]:
        return [np.concatenate([*self.analyse_tiled(rows_of(image), *image.shape[:2])], axis=1) for image in pixels]

    def for_batches(self) -> tuple["CpuPipeline", int]:
        if not self._for_batches:
            loader, count = self._loader, 1
            # All files count, since weights may lie in a file of their own beside their network.
            nbytes = sum((self._bundle.folder / name).stat().st_size for name in self._bundle.files)
            if nbytes <= MAX_NBYTES_AT_ONCE:
                loader, count = loader.for_batches()
            pipeline = self if loader is self._loader else CpuPipeline(loader, self._tiled)
            self._for_batches.setdefault("", (pipeline, count))
        return self._for_batches[""]

    def analyse_tiled(self, rows: ReadRows, height: int, width: int) -> Iterator[F32Array]:
        return self._tiled.analyse_tiled(rows, height, width, self._encode)

    def synthesise(self, images: Sequence[DecodeRequest]) -> list[U8Array]:
        return [self._tiled.synthesise(image, self._decode) for image in images]

    def synthesise_tiled(self, image: DecodeRequest, rows: Span, columns: Span) -> Iterator[U8Array]:
        return self._tiled.synthesise_tiled(image, self._decode, rows, columns)

    def synthesise_into(self, image: DecodeRequest, layers: LayerReader, array: Any, stream: Any) -> None:
        raise DeviceError(f"device memory needs a GPU; this codec runs by {self.name}")

    def _encode(self, pixels: U8Array) -> F32Array:
        downscale = self._bundle.latent_profile.downscale
        planes = reference.pixels_to_planes(pixels, downscale, *self._bundle.pixel_range)
        return self._run("encoder.onnx", {"pixels": planes[None]})["latents"][0]

    def _decode(self, image: DecodeRequest) -> F32Array:
        """Return the planes of an image or a tile, float32 (3, H, W)."""
        assert isinstance(image.latents, QuantizedLatents | FloatLatents)  # a crop of a tile
        inputs = {"latents": image.latents.dequantize()[None]}
        if image.trajectory:
            inputs["latents"] = run_ddim(inputs["latents"], image.trajectory, self._predict)
        if self._bundle.decoder_takes_step:
            inputs["step"] = np.array([image.header.quant_step], np.float32)
        return self._run(self._decoder_file(image), inputs)["pixels"][0]

    def _decoder_file(self, image: DecodeRequest) -> str:
        """Return the file of the decoder: that in eight bits if backend and image allow it."""
        is_int8 = self._loader.int8 and not image.single_precision and image.decoder == "decoder"
        return INT8_DECODER if is_int8 else f"{image.decoder}.onnx"

    def _load(self, name: str) -> Network:
        if name == INT8_DECODER:
            self._bundle.file("decoder.onnx")  # checks the hash of the weights
        return self._loader.load(self._bundle.file(name))

    def _predict(self, latents: F32Array, timestep: F32Array) -> F32Array:
        return self._run("unet.onnx", {"latents": latents, "timestep": timestep})["prediction"]

    def _run(self, name: str, inputs: Mapping[str, F32Array]) -> dict[str, F32Array]:
        outputs = self._networks.get(name).run(inputs)
        for tensor, values in outputs.items():
            if not np.isfinite(values).all():
                raise BundleError(f"the output {tensor} of {self._bundle.name}'s {name} is not finite")
        return outputs
