"""Trial runs of imported graphs, because their declared shapes may be symbolic, missing or too narrow."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from sdtrt._arrays import F32Array
from sdtrt.errors import BundleError
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.graphs.onnx_graph import Tensor
from sdtrt.export.graphs.onnx_run import run
from sdtrt.export.graphs.onnx_single import to_single

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


@dataclass(frozen=True, slots=True)
class Graph:
    """An imported graph with one input.

    Attributes:
        path: Its file.
        model: The model, with dynamic shapes and in single precision.
        source: Its input as declared in the file.
        notes: Messages about changes.
    """

    path: Path
    model: onnx.ModelProto
    source: Tensor
    notes: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, channels: int | None) -> "Graph":
        """Read a graph.

        Arguments:
            path: The ONNX file.
            channels: Number of channels of its input; None if unknown.

        Raises:
            BundleError: The graph does not have exactly one input, or it is not a batch of planes, (N, C, H, W).
        """
        model = onnx_graph.read(path)
        inputs = onnx_graph.inputs(model)
        if len(inputs) != 1:
            names = ", ".join(map(str, inputs)) or "no inputs"
            raise BundleError(f"{path} has inputs {names}; expected one input: the image or its latents")
        source = inputs[0]
        notes = [f"{path.name}: half precision was converted to single"] if to_single(model) else []
        if onnx_graph.inputs(model)[0].dtype != np.float32:
            raise BundleError(f"{path}: input {source} is {source.dtype}, expected float32 or float16")
        _require_planes(source, path, channels)
        sizes = (source.shape or (None,))[:1] + source.shape[2:]
        if any(size is not None for size in sizes):
            notes.append(f"{path.name}: input {source} declares fixed sizes, but accepts other sizes")
        _free(model)
        return cls(path, model, source, tuple(notes))

    @property
    def channels(self) -> int | None:
        """The declared number of channels of the input, None if it is not declared."""
        return self.source.shape[1] if self.source.shape else None

    def run(self, planes: F32Array) -> dict[str, F32Array]:
        """Return all outputs for a batch of planes.

        Raises:
            BundleError: The graph does not accept them; the message names the expected layout or sizes.
        """
        names = [output.name for output in onnx_graph.outputs(self.model)]
        if not names:
            raise BundleError(f"{self.path} has no output")
        try:
            return run(self.model, {self.source.name: planes}, names)
        except Exception as error:  # ONNX Runtime's exceptions have no other common base class
            raise self._fault(planes, names, error) from error

    def draws(self, value: F32Array) -> bool:
        """Return whether an output is a random sample: it differs within a batch of equal images."""
        random = not RANDOM.isdisjoint(node.op_type for node in self.model.graph.node)
        return random and not np.array_equal(value[0], value[-1])

    def _fault(self, planes: F32Array, names: list[str], error: Exception) -> BundleError:
        text = " ".join(str(error).split())
        fixed = [n for n in ((self.source.shape or (None,))[0], *self.source.shape[2:]) if n is not None]
        if fixed:
            return BundleError(
                f"{self.path}: input {self.source} has fixed sizes and fails with other sizes ({text}); export it with "
                "dynamic batch, height and width"
            )
        try:
            run(self.model, {self.source.name: planes.transpose(0, 2, 3, 1).copy()}, names)
        except Exception:  # as above
            return BundleError(f"{self.path} fails on {self.source.name!r} of shape {planes.shape}: {text}")
        return channels_last(self.path, f"input {self.source}")


def channels_last(path: Path, tensor: str) -> BundleError:
    """Return the error for a tensor (N, H, W, C)."""
    return BundleError(
        f"{path}: {tensor} has its channels last (N, H, W, C), expected (N, C, H, W); export it with channels first "
        "(in tf2onnx: --inputs-as-nchw and --outputs-as-nchw)"
    )


def require_channels_first(path: Path, name: str, shape: tuple[int, ...], height: int, width: int) -> None:
    """Raise `BundleError` if an output is (N, h, w, C) for planes of this height and width."""
    if len(shape) == 4 and not _divides(shape[2:], height, width) and _divides(shape[1:3], height, width):
        raise channels_last(path, f"output {name!r} of shape {shape}")


def described(values: Mapping[str, F32Array]) -> str:
    """Return the names, types and shapes of outputs, for a message."""
    return ", ".join(f"{name!r} ({value.dtype}, {' x '.join(map(str, value.shape))})" for name, value in values.items())


def _divides(sides: tuple[int, ...], height: int, width: int) -> bool:
    """Return whether sides equal `height` and `width`, both multiplied or both divided by the same integer."""
    if not all(sides):
        return False
    down, up = height // sides[0], sides[0] // height
    return (down * sides[0], down * sides[1]) == (height, width) or (up * height, up * width) == sides


def _require_planes(source: Tensor, path: Path, channels: int | None) -> None:
    shape = source.shape
    if len(shape) not in {0, 4}:  # 0: not declared
        raise BundleError(f"{path}: input {source} has {len(shape)} axes, expected (N, C, H, W)")
    if shape and channels and shape[1] not in {None, channels}:
        if shape[3] == channels:
            raise channels_last(path, f"input {source}")
        raise BundleError(f"{path}: input {source} has {shape[1]} channels, expected {channels}: N C H W")
    if shape and channels and shape[1] is None and shape[3] == channels and shape[2] is None:
        raise channels_last(path, f"input {source}")


def _free(model: onnx.ModelProto) -> None:
    """Remove the declared shapes of a model's inputs and outputs, in place."""
    for value in (*model.graph.input, *model.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
