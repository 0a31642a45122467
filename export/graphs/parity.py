"""Comparison of ONNX with torch: differences for the manifest, and a search for the first tensor that differs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sdtrt.engine.networks.backends.ort import import_onnxruntime
from sdtrt.errors import BundleError
from sdtrt.export.graphs.onnx_run import run

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest allowed differences, relative to the reference's root mean square."""

    mean: float
    largest: float


SINGLE = Tolerance(mean=1e-4, largest=1e-2)
HALF = Tolerance(mean=1e-2, largest=0.25)


@dataclass(frozen=True, slots=True)
class Parity:
    """The result of one comparison: shape of the input, such as 2x4x16x24, and differences as in `Tolerance`."""

    input: str
    mean: float
    largest: float

    def within(self, tolerance: Tolerance) -> bool:
        return self.mean <= tolerance.mean and self.largest <= tolerance.largest  # False for NaN


def expected(network: nn.Module, inputs: Sequence[Inputs]) -> list[np.ndarray]:
    """Return torch's outputs in single precision, the references; call it before `network` is converted to half."""
    with torch.inference_mode():
        return [network(*some.values()).numpy() for some in inputs]


def require_parity(
    path: Path, inputs: Sequence[Inputs], references: Sequence[np.ndarray], tolerance: Tolerance, program: Any
) -> list[dict[str, Any]]:
    """Return the differences between an ONNX file and torch, as dictionaries for the manifest.

    Arguments:
        path: The ONNX file.
        inputs: Several sets of inputs.
        references: Torch's output for each of them.
        tolerance: The largest allowed differences.
        program: The exported program in single precision.

    Raises:
        BundleError: A difference exceeds `tolerance`. The message names the first tensor that differs from `program`.
    """
    session = import_onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])
    dtypes = {value.name: np.float16 if "16" in value.type else np.float32 for value in session.get_inputs()}
    figures = []
    for some, reference in zip(inputs, references, strict=True):
        arrays = {name: tensor.numpy().astype(dtypes[name]) for name, tensor in some.items()}
        parity = compare(session.run(None, arrays)[0], reference, next(iter(arrays.values())).shape)
        if not parity.within(tolerance):
            raise BundleError(
                f"{path.name} differs from torch by {parity.mean:.2g} on average and {parity.largest:.2g} at most, "
                f"relative to its root mean square; {first_difference(path, program, some, arrays, tolerance)}"
            )
        figures.append(asdict(parity))
    return figures


def compare(actual: np.ndarray, reference: np.ndarray, shape: tuple[int, ...] = ()) -> Parity:
    text = "x".join(map(str, shape))
    if actual.shape != reference.shape:
        return Parity(text, float("inf"), float("inf"))
    difference = np.abs(actual.astype(np.float64) - reference)
    rms = float(np.sqrt(np.mean(np.square(reference, dtype=np.float64)))) or 1.0
    return Parity(text, *(float(f"{value / rms:.3g}") for value in (difference.mean(), difference.max())))


def first_difference(
    path: Path, program: Any, inputs: Inputs, arrays: Mapping[str, np.ndarray], tolerance: Tolerance
) -> str:
    """Return a message about the first tensor of an ONNX file that differs from `program`, found by bisection."""
    for tensor in program.state_dict.values():
        tensor.data = tensor.data.float()  # the network, which shares them, may have been converted to half since
    model = onnx.load(path)
    ours = {name for node in model.graph.node for name in node.output}
    names = [node.name for node in program.graph.nodes if node.op == "call_function" and node.name in ours]

    def differs(name: str) -> bool:
        actual, reference = run(model, arrays, [name])[name], _Observer(program, name).observe(inputs)
        return not compare(actual, reference).within(tolerance)

    low, high = -1, len(names)  # names[low] agrees, names[high] differs
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if differs(names[middle]) else (middle, high)
    if high == len(names):
        return "no inner tensor differs by more than that; the last operations do"
    node = next(node for node in model.graph.node if names[high] in node.output)
    return f"the first tensor that differs is {names[high]!r}, of {node.op_type} (number {high + 1} of {len(names)})"


class _Observer(torch.fx.Interpreter):  # type: ignore[misc]
    """Runs a program and stores one of its tensors."""

    def __init__(self, program: Any, name: str) -> None:
        super().__init__(program.module())
        self.name = name
        self.value: np.ndarray | None = None

    def observe(self, inputs: Inputs) -> np.ndarray:
        with torch.inference_mode():
            self.run(*inputs.values())
        assert self.value is not None
        return self.value

    def run_node(self, node: torch.fx.Node) -> Any:
        value = super().run_node(node)
        if node.name == self.name:
            self.value = value.numpy()
        return value
