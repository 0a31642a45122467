"""The codec with PyTorch's networks, for machines without ONNX Runtime or TensorRT on the GPU."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sdtrt
from gpu.check import Check, require
from gpu.codec import calls, parsed_file, pixel_differences, sample_image
from gpu.machine import Gpu
from gpu.networks import PIXEL_RANGE, half_coders, manifest, require_torch
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.export.folder import write_manifest
from sdtrt.kernels import device as cuda
from sdtrt.kernels import reference
from sdtrt.kernels.device import DeviceArray, Stream


class TorchNetwork:
    """A module that reads and writes device memory on a stream of the codec."""

    capturable = False  # PyTorch's allocator does not support graphs that other libraries record
    largest_batch = 8
    dtypes: Mapping[str, np.dtype[Any]] = {name: np.dtype(np.float16) for name in ("pixels", "latents")}

    def __init__(self, module: Any, source: str, machine: Gpu) -> None:
        self._module, self._source, self._machine = module, source, machine

    def bind(self, arrays: Mapping[str, DeviceArray]) -> Callable[[Stream], None]:
        import torch

        tensors = {name: self._machine.tensor(array) for name, array in arrays.items()}
        source = tensors.pop(self._source)
        (target,) = tensors.values()

        def work() -> None:
            with torch.inference_mode():
                target.copy_(self._module(source.contiguous(memory_format=torch.channels_last)))

        return lambda stream: self._machine.queue(work, stream)


class TorchNetworks:
    """PyTorch as a backend of the GPU pipeline."""

    name = "torch"

    def __init__(self, coders: Mapping[str, Any], machine: Gpu) -> None:
        self._coders, self._machine = coders, machine

    def load(self, bundle: Bundle, network: str) -> TorchNetwork:
        source = {"encoder": "pixels", "decoder": "latents"}[network]
        return TorchNetwork(self._coders[network], source, self._machine)


def around_torch(check: Check) -> Iterator[tuple[str, Any]]:
    """Yield the differences of images from those by the reference kernels, and milliseconds."""
    require_torch(check)
    require("onnxruntime")  # `EngineCodec` needs it, although it runs no network here
    coders = half_coders(check)
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(Path(folder), manifest())
        engine_codec = EngineCodec(folder, device="cpu", tile=0)  # its own networks are never opened
        backend = TorchNetworks(coders, check.machine)
        engine_codec.pipeline = GpuPipeline(cuda.CudaDevice(), backend, TiledRunner.of(engine_codec.bundle, tile=0))
        codec = sdtrt.Codec(engine_codec)
        files = [codec.encode(sample_image(*size, n), layers=1) for n, size in enumerate(check.machine.compared)]
        expected = [by_reference(coders["decoder"], data, check) for data in files]
        yield "parity", pixel_differences([np.asarray(codec.decode(data)) for data in files], expected)
        yield from calls(check, engine_codec)


def by_reference(decoder: Any, data: bytes, check: Check) -> NDArray[np.uint8]:
    """Return the pixels of a file by the reference kernels and the network."""
    import torch

    parsed = parsed_file(data)
    header = parsed.header
    latents = parsed.latents.crop((0, parsed.latents.shape[1]), (0, parsed.latents.shape[2])).dequantize()
    with torch.inference_mode():
        half = torch.from_numpy(latents.astype(np.float16))[None].to(check.machine.torch_device)
        planes = decoder(half.contiguous(memory_format=torch.channels_last))
    planes = planes[0].float().cpu().numpy()
    return reference.planes_to_pixels(planes, header.width, header.height, *PIXEL_RANGE)
