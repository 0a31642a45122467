"""Backends: libraries that run networks. The protocols of the networks that they load, on the CPU and on a GPU."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sdtrt.engine.format.arguments import checked_integer
from sdtrt.process import threads as process_threads

if TYPE_CHECKING:
    import numpy as np

    from sdtrt._arrays import F32Array
    from sdtrt.engine.networks.bundle import Bundle
    from sdtrt.kernels.device import DeviceArray, Stream

# The names of `pipeline.BACKENDS_BY_SPEED`, here for the command line, which must not import the backends. A test
# compares them. The module imports no NumPy for the same reason.
BACKENDS = ("auto", "trt", "ort", "openvino")
PRECISIONS = ("auto", "fp32", "bf16", "int8")
INT8_DECODER = "decoder.int8.onnx"  # the faithful decoder in eight bits, which reads its weights from `decoder.onnx`
MAX_IMAGES_AT_ONCE = 4  # on the CPU: each needs memory of its own
MAX_THREADS = 1 << 12


def images_at_once(threads: int | None) -> int:
    """Return how many images networks of so many threads decode at once; see `thread_count` for None."""
    return min(threads or process_threads.available_cpus(), MAX_IMAGES_AT_ONCE)


def thread_count(threads: int | None) -> int | None:
    """Return the number of threads of a network on the CPU; None lets the library use all cores.

    Arguments:
        threads: 1 to 4096. None is one thread for each core that the process may use.

    Raises:
        TypeError, ValueError: `threads` is not an integer, or out of range.
    """
    if threads is not None:
        return checked_integer("threads", threads, 1, MAX_THREADS)
    allowed = process_threads.available_cpus()
    return allowed if allowed < (os.cpu_count() or 1) else None


def int8_unavailable_reason(bundle: Bundle) -> str:
    """Return why a bundle cannot be run in eight bits on the CPU; empty if it can."""
    if INT8_DECODER in bundle.files:
        return ""
    command = f"sdtrt calibrate {shlex.quote(bundle.cli_name)} PHOTOS --int8"
    return f"bundle {bundle.name} has no decoder in eight bits; add one: {command}"


class Network(Protocol):
    """A network on the CPU; several threads may run it at once."""

    def run(self, inputs: Mapping[str, F32Array]) -> dict[str, F32Array]:
        """Return all outputs by name for inputs by name.

        Raises:
            BundleError: the network does not take these inputs.
        """


class NetworkLoader(Protocol):
    """An open backend on the CPU.

    Attributes:
        name: the name of the backend.
        int8: whether the faithful decoder runs in eight bits where a file allows it.
    """

    name: str
    int8: bool

    def load(self, path: Path) -> Network:
        """Open the network in an ONNX file.

        Raises:
            BundleError: the backend cannot run the file.
        """

    def for_batches(self) -> tuple[NetworkLoader, int]:
        """Return the loader of networks for several images at once, and how many images."""


class DeviceNetwork(Protocol):
    """A network on a GPU."""

    @property
    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """The types of inputs and outputs, by name."""

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph can record the network's work."""

    @property
    def largest_batch(self) -> int:
        """The largest number of images in one run."""

    def bind(self, arrays: Mapping[str, DeviceArray]) -> Callable[[Stream], None]:
        """Return a function that queues one run of the network on a stream.

        Arguments:
            arrays: the arrays of inputs and outputs, by name. Each run reads and writes them.

        Raises:
            BundleError: the network does not take arrays of these shapes.
        """


class DeviceNetworkLoader(Protocol):
    """An open backend on a GPU."""

    name: str

    def load(self, bundle: Bundle, network: str) -> DeviceNetwork:
        """Open a bundle's `encoder`, `decoder`, `fast` or `unet`.

        Raises:
            BundleError: the backend cannot run the network.
        """
