"""Ways to run networks: the protocols that they keep to, on the host and on a device."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.networks.bundle import Bundle
from sdtrt.kernels.device import DeviceArray, Stream

Floats = NDArray[np.float32]

BACKENDS = ("auto", "trt", "ort", "openvino")
PRECISIONS = ("auto", "fp32", "bf16")


class Network(Protocol):
    """A network on the host; safe to run from several threads."""

    def run(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
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
        """How many pictures it takes at once."""

    def bind(self, arrays: Mapping[str, DeviceArray]) -> Callable[[Stream], None]:
        """Return what queues the network's work on these arrays, inputs and outputs by name, whenever it is called.

        Raises `BundleError` if the network does not take such shapes.
        """


class DeviceBackend(Protocol):
    """A way to run networks on a device."""

    name: str

    def load(self, bundle: Bundle, network: str) -> DeviceNetwork:
        """Open a bundle's `encoder`, `decoder`, `vivid` or `unet`; `BundleError` if it cannot be run."""
