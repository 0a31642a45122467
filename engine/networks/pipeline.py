"""The protocol of pipelines, the protocol of backends, and the choice of a backend."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.format.arguments import checked_choice, value_text
from sdtrt.engine.format.layout import Span
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.backend_timings import by_speed, load_timings
from sdtrt.engine.networks.backends import BACKENDS, PRECISIONS, thread_count
from sdtrt.engine.networks.backends.openvino import OpenVino, OpenVinoBf16
from sdtrt.engine.networks.backends.ort import OrtCpu, OrtCuda
from sdtrt.engine.networks.backends.trt import TensorRt
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.engine.networks.tiling import ReadRows, TiledRunner
from sdtrt.errors import DeviceError


class Pipeline(Protocol):
    """The networks of a bundle and the kernels around them. Several threads may use a pipeline.

    Attributes:
        name: the backend and the device.
        largest_batch: the number of images for which one call is faster than several.
    """

    name: str
    largest_batch: int

    def analyse(self, pixels: Sequence[U8Array]) -> list[F32Array]:
        """Return the latents of images, float32 (C, h, w); `pixels` are RGB images of one size, uint8 (H, W, 3)."""

    def synthesise(self, images: Sequence[DecodeRequest]) -> list[U8Array]:
        """Return the RGB pixels of images of one `batch_key`, uint8 (H, W, 3)."""

    def for_batches(self) -> tuple["Pipeline", int | None]:
        """Return the pipeline for many images, and how many images threads should work on at once.

        The number is None on a device, which does the work of the networks beside the processor.
        """

    def analyse_tiled(self, rows: ReadRows, height: int, width: int) -> Iterator[F32Array]:
        """Yield the latents of an image from top to bottom, float32 (C, n, w); see `TiledRunner`."""

    def synthesise_tiled(self, image: DecodeRequest, rows: Span, columns: Span) -> Iterator[U8Array]:
        """Yield RGB pixels in some rows and columns of an image from top to bottom, uint8 (n, W, 3)."""

    def synthesise_into(self, image: DecodeRequest, layers: LayerReader, array: Any, stream: Any) -> None:
        """Queue the decoding of an image and its layers into a device array, and return at once.

        Work that the caller queues on the stream afterwards sees the pixels. Since nothing waits for the network, a
        result that is not finite is not noticed.

        Arguments:
            array: a device array, uint8 (height, width, 3).
            stream: a stream other than the default stream.

        Raises:
            TypeError, ValueError: the array or the stream is not usable.
            FormatError: a layer is damaged.
            DeviceError: the networks run on the CPU.
        """


class Backend(Protocol):
    """A library that runs networks on a kind of device.

    To add a backend, write a class like this in `backends/`, and add it to `BACKENDS_BY_SPEED`.

    Attributes:
        name: the value of the option `backend`, one of `BACKENDS`.
        device: "cpu" or "cuda".
    """

    name: str
    device: str

    @staticmethod
    def unavailable_reason(bundle: Bundle, index: int, precision: str) -> str:
        """Return why the backend cannot run a bundle here; empty if it can.

        Arguments:
            index: the number of the GPU; a backend on the CPU ignores it.
            precision: one of `PRECISIONS`.
        """

    @classmethod
    def open(cls, tiled: TiledRunner, index: int, threads: int | None, precision: str) -> Pipeline:
        """Return a pipeline of the backend, which must be available.

        Arguments:
            threads: threads of each network; a backend on a GPU ignores it.
        """

    @staticmethod
    def version() -> str:
        """Return the name and the version of the library, which must be installed."""


# The order of "auto" on a machine that `sdtrt doctor --measure` has not measured. OpenVINO has two entries: it comes
# before ONNX Runtime on processors with bfloat16, and after ONNX Runtime on others.
BACKENDS_BY_SPEED: tuple[type[Backend], ...] = (TensorRt, OrtCuda, OpenVinoBf16, OrtCpu, OpenVino)
# The last entry of a name is the backend without conditions.
_ON_CPU = {backend.name: backend for backend in BACKENDS_BY_SPEED if backend.device == "cpu"}


def open_pipeline(
    tiled: TiledRunner,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    *,
    single_call: bool = False,
) -> Pipeline:
    """Return the pipeline of the fastest backend that is available here.

    Arguments:
        tiled: the bundle and its tiling.
        backend: one of `BACKENDS`; "auto" allows all of them.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: threads of each network on the CPU; None is one for each core that the process may use.
        precision: one of `PRECISIONS`.
        single_call: whether the process will decode one image only, so that the start of a library counts.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument has a wrong value.
        DeviceError: no backend that the arguments allow is available; the message has the reason for each.
    """
    kind, index = parse_device(device)
    checked_choice("backend", backend, BACKENDS)
    checked_choice("precision", precision, PRECISIONS)
    thread_count(threads)  # backends on a GPU would not check it
    reasons = dict[str, str]()
    for candidate, candidate_precision in candidates(precision, single_call=single_call):
        if backend in {"auto", candidate.name} and kind in {"auto", candidate.device}:
            reason = candidate.unavailable_reason(tiled.bundle, index, candidate_precision)
            if not reason:
                return candidate.open(tiled, index, threads, candidate_precision)
            reasons[f"{candidate.name} on {candidate.device}"] = reason
    if not reasons:
        raise DeviceError(f"backend {backend} does not run on device {device}; the next step: sdtrt doctor")
    lines = [f"no backend can run model {tiled.bundle.name} here", *map(": ".join, reasons.items())]
    on_cpu = kind == "cpu" or any(name.endswith(" cpu") for name in reasons)
    otherwise = "" if on_cpu else ", or the CPU: --device cpu on the command line, device='cpu' in Python"
    raise DeviceError("\n  ".join([*lines, f"the next step: sdtrt doctor{otherwise}"]))


def candidates(precision: str, *, single_call: bool) -> Iterator[tuple[type[Backend], str]]:
    """Yield backends with the precision that each is to have, the fastest first.

    GPUs come first. On the CPU the measured backends come first, and then all backends in the order of
    `BACKENDS_BY_SPEED`, since a measured one may be unavailable for a bundle.

    Arguments:
        precision: one of `PRECISIONS`.
        single_call: see `open_pipeline`.
    """
    yield from ((backend, precision) for backend in BACKENDS_BY_SPEED if backend.device == "cuda")
    for timing in by_speed(load_timings(), single_call=single_call):
        if timing.backend in _ON_CPU and precision in {"auto", timing.precision}:
            # In `auto` OpenVINO takes bf16 where the processor has it, but fp32 for a network that bf16 breaks.
            yield _ON_CPU[timing.backend], precision if timing.precision == "bf16" else timing.precision
    yield from ((backend, precision) for backend in BACKENDS_BY_SPEED if backend.device == "cpu")


def available_on_cpu(bundle: Bundle) -> list[tuple[str, str]]:
    """Return the names and the precisions of the backends that can run a bundle on the CPU of this machine."""
    return [
        (name, precision)
        for name, backend in _ON_CPU.items()
        for precision in PRECISIONS
        if precision != "auto" and not backend.unavailable_reason(bundle, 0, precision)
    ]


def parse_device(text: str) -> tuple[str, int]:
    """Return the kind of device, "auto", "cpu" or "cuda", and the number of the GPU, 0 by default.

    Raises:
        TypeError: `text` is not a string.
        ValueError: `text` names no device.
    """
    expected = "expected auto, cpu, cuda or cuda:N"
    if not isinstance(text, str):
        raise TypeError(f"device is {value_text(text)}, {expected}")
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d{1,3}))?", text)
    if not match or (match[2] and match[1] != "cuda"):
        raise ValueError(f"device {text!r}, {expected}")
    return match[1], int(match[2] or 0)
