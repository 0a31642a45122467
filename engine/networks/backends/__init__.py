"""Ways to run networks: the protocols that they keep to, on the host and on a device."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.format.arguments import checked_integer
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.kernels.device import DeviceArray, Stream
from sdtrt.process import threads as process_threads

BACKENDS = ("auto", "trt", "ort", "openvino")
PRECISIONS = ("auto", "fp32", "bf16")
MAX_THREADS = 1 << 12


def thread_count(threads: int | None) -> int | None:
    """Return how many threads a network on the CPU uses; None leaves it to the library, which takes all cores.

    A process that may not use all cores of the machine gets one thread for each that it may use.
    """
    if threads is not None:
        return checked_integer("threads", threads, 1, MAX_THREADS)
    allowed = process_threads.available_cpus()
    return allowed if allowed < (os.cpu_count() or 1) else None


class Network(Protocol):
    """A network on the host; safe to run from several threads."""

    def run(self, inputs: Mapping[str, F32Array]) -> dict[str, F32Array]:
        """Return all outputs by name for inputs by name."""


class Backend(Protocol):
    """A way to run networks on the host."""

    name: str

    def load(self, path: Path) -> Network:
        """Open the network in an ONNX file; `BundleError` if it cannot be run."""


class DeviceNetwork(Protocol):
    """A network on a device."""

    @property
    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """The types of inputs and outputs, by name."""

    @property
    def capturable(self) -> bool:
        """Whether its work can be recorded in a graph."""

    @property
    def largest_batch(self) -> int:
        """How many images it takes at once."""

    def bind(self, arrays: Mapping[str, DeviceArray]) -> Callable[[Stream], None]:
        """Return what queues the network's work on these arrays, inputs and outputs by name, whenever it is called.

        Raises `BundleError` if the network does not take such shapes.
        """


class DeviceBackend(Protocol):
    """A way to run networks on a device."""

    name: str

    def load(self, bundle: Bundle, network: str) -> DeviceNetwork:
        """Open a bundle's `encoder`, `decoder`, `vivid` or `unet`; `BundleError` if it cannot be run."""
