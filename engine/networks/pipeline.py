"""Images to latents and back: the choice of where, and by which backend, a bundle's networks run."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.format.arguments import checked_choice, value_text
from sdtrt.engine.format.layout import Span
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.backends import BACKENDS, PRECISIONS, thread_count
from sdtrt.engine.networks.backends.engine_index import networks_of
from sdtrt.engine.networks.backends.gpu import architecture
from sdtrt.engine.networks.backends.openvino import (
    OpenVino,
    best_precision,
    may_have_bfloat16,
    precision_here,
    processor,
    version,
)
from sdtrt.engine.networks.backends.ort import OrtCpu, OrtCuda, has_cuda, import_onnxruntime
from sdtrt.engine.networks.backends.trt import TensorRt, usable_engines
from sdtrt.engine.networks.backends.trt_library import import_tensorrt, installed, remedy
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.cpu_pipeline import CpuPipeline
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiled import Rows, TiledRunner
from sdtrt.errors import BundleError, DeviceError
from sdtrt.kernels.device import CudaDevice, fatbin
from sdtrt.process.install import install_command


class Pipeline(Protocol):
    """A bundle's networks with the kernels around them; may be used from several threads."""

    name: str
    largest_batch: int  # images that are worth handing over at once

    def analyse(self, pixels: Sequence[U8Array]) -> list[F32Array]:
        """Return the latents, float32 (C, h, w), of RGB pixels of one size, uint8 (H, W, 3) each."""

    def synthesise(self, images: Sequence[DecodeRequest]) -> list[U8Array]:
        """Return the RGB pixels of images of one `batch_key`."""

    def analyse_tiled(self, rows: Rows, height: int, width: int) -> Iterator[F32Array]:
        """Yield the latents of an image of so many pixels from top to bottom, float32 (C, n, w); see `TiledRunner`."""

    def synthesise_tiled(self, image: DecodeRequest, rows: Span, columns: Span) -> Iterator[U8Array]:
        """Yield RGB pixels in some rows and columns of an image from top to bottom, uint8 (n, W, 3)."""

    def synthesise_into(self, image: DecodeRequest, layers: LayerReader, array: Any, stream: Any) -> None:
        """Queue the decoding of an image and its layers into a device array, uint8 (height, width, 3), on a stream.

        Nothing waits: what is queued on the stream afterwards finds the pixels there. Nor is it checked, therefore,
        that the network's output is finite. Raises `ValueError` or `TypeError` if array or stream are unfit,
        `DeviceError` if the networks run on the host.
        """


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run networks.

    `obstacle` says why a bundle cannot be run so, on GPU `index` and in a `precision`, or gives an empty text.
    """

    backend: str
    device: str
    runtime: Callable[[], str]  # what runs the networks, with its version
    obstacle: Callable[[Bundle, int, str], str]
    open: Callable[[TiledRunner, int, int | None, str], Pipeline]


def open_pipeline(
    tiled: TiledRunner,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
) -> Pipeline:
    """Return a bundle's pipeline for what the options of these names say: the first way of `WAYS` that works here.

    Raises `ValueError` for unknown names, `DeviceError` where the machine lacks what the choice needs.
    """
    kind, index = parse_device(device)
    checked_choice("backend", backend, BACKENDS)
    checked_choice("precision", precision, PRECISIONS)
    thread_count(threads)  # a wrong number is refused on a device, too, which has no use for it
    obstacles = dict[str, str]()
    for way in WAYS:
        if backend in {"auto", way.backend} and kind in {"auto", way.device}:
            obstacle = way.obstacle(tiled.bundle, index, precision)
            if not obstacle:
                return way.open(tiled, index, threads, precision)
            obstacles[f"{way.backend} on {way.device}"] = obstacle
    if not obstacles:
        raise DeviceError(f"backend {backend} does not run on device {device}; the next step: sdtrt doctor")
    lines = [f"no backend can run model {tiled.bundle.name} here", *map(": ".join, obstacles.items())]
    on_cpu = kind == "cpu" or any(name.endswith(" cpu") for name in obstacles)
    otherwise = "" if on_cpu else ", or the CPU: --device cpu on the command line, device='cpu' in Python"
    raise DeviceError("\n  ".join([*lines, f"the next step: sdtrt doctor{otherwise}"]))


def parse_device(text: str) -> tuple[str, int]:
    """Return the kind of device, `auto`, `cpu` or `cuda`, and its number; `ValueError` if `text` is none of them."""
    expected = "expected auto, cpu, cuda or cuda:N"
    if not isinstance(text, str):
        raise TypeError(f"device is {value_text(text)}, {expected}")
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d{1,3}))?", text)
    if not match or (match[2] and match[1] != "cuda"):
        raise ValueError(f"device {text!r}, {expected}")
    return match[1], int(match[2] or 0)


def _trt_obstacle(bundle: Bundle, index: int, precision: str) -> str:
    if not installed():
        return f"no TensorRT is installed; {remedy()}"
    needed = [name for name in networks_of(bundle) if name != "unet"]
    usable = _gpu_obstacle(index) or _first_fault(lambda: [usable_engines(bundle, name) for name in needed])
    return usable or _precision_obstacle(precision)


def _ort_cuda_obstacle(bundle: Bundle, index: int, precision: str) -> str:
    if not has_cuda():
        return f"this ONNX Runtime is without CUDA; install it with: {install_command('gpu')}"
    return _gpu_obstacle(index) or _precision_obstacle(precision)


def _gpu_obstacle(index: int) -> str:
    return _first_fault(lambda: architecture(index), fatbin)


def _precision_obstacle(precision: str) -> str:
    return "" if precision == "auto" else f"the bundle's networks have their precision, not {precision}"


def _ort_cpu_obstacle(bundle: Bundle, index: int, precision: str) -> str:
    if precision == "bf16":
        return "ONNX Runtime computes in fp32 on the CPU"
    return _first_fault(import_onnxruntime)


def _bfloat16_obstacle(bundle: Bundle, index: int, precision: str) -> str:
    if precision == "fp32":
        return "precision fp32 is asked for"
    return _first_fault(lambda: precision_here("bf16")) if may_have_bfloat16() else "this processor has no bfloat16"


def _openvino_obstacle(bundle: Bundle, index: int, precision: str) -> str:
    return _first_fault(lambda: precision_here(precision))


def _first_fault(*checks: Callable[[], object]) -> str:
    try:
        for check in checks:
            check()
    except (BundleError, DeviceError) as error:
        return str(error)
    return ""


def _open_trt(tiled: TiledRunner, index: int, threads: int | None, precision: str) -> Pipeline:
    device = CudaDevice(index)
    return GpuPipeline(device, TensorRt(device), tiled)


def _open_ort_cuda(tiled: TiledRunner, index: int, threads: int | None, precision: str) -> Pipeline:
    device = CudaDevice(index)
    return GpuPipeline(device, OrtCuda(device, index), tiled)


def _open_ort_cpu(tiled: TiledRunner, index: int, threads: int | None, precision: str) -> Pipeline:
    return CpuPipeline(OrtCpu(threads), tiled)


def _open_openvino(tiled: TiledRunner, index: int, threads: int | None, precision: str) -> Pipeline:
    return CpuPipeline(OpenVino(threads, precision), tiled)


def _tensorrt() -> str:
    return ", ".join(f"{name} {import_tensorrt(name).version}" for name in installed())


def _onnxruntime() -> str:
    return f"ONNX Runtime {import_onnxruntime().__version__}"


def _openvino() -> str:
    here = "bf16" if best_precision() == "bf16" else f"fp32: {processor()} has no bfloat16"
    return f"OpenVINO {version()}, precision {here}"


# The fastest first, including the time to open a codec for one image (`benchmarks/speed.py --backends`). OpenVINO comes
# before ONNX Runtime where it computes in bfloat16, and behind it where it does not.
WAYS = (
    Way("trt", "cuda", _tensorrt, _trt_obstacle, _open_trt),
    Way("ort", "cuda", _onnxruntime, _ort_cuda_obstacle, _open_ort_cuda),
    Way("openvino", "cpu", _openvino, _bfloat16_obstacle, _open_openvino),
    Way("ort", "cpu", _onnxruntime, _ort_cpu_obstacle, _open_ort_cpu),
    Way("openvino", "cpu", _openvino, _openvino_obstacle, _open_openvino),
)
