"""Quantization of a network to eight bits, for processors that multiply integers faster than floating-point numbers.

Pairs of QuantizeLinear and DequantizeLinear stand around each large convolution: at its input, its weights and its
output. Runtimes replace such groups by integer convolutions. Everything else stays in single precision.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sdtrt.errors import BundleError
from sdtrt.export.graphs.onnx_run import run

MIN_CHANNELS = 48  # inputs of a convolution; smaller ones gain little
# Of 127. Processors with AVX2 but without VNNI add two products of 8 bits in 16 bits, which must not overflow.
WEIGHT_LIMIT = 63
OUTLIERS = 1e-4  # share of activations beyond each end of the range, which are clamped
ACTIVATION_LEVELS = 255

MAX_SHARE = 0.1  # of the squared error; convolutions with more stay in single precision

Range = tuple[float, float]
Inputs = Mapping[str, np.ndarray]


def quantize(model: onnx.ModelProto, samples: Sequence[Inputs]) -> tuple[onnx.ModelProto, list[str]]:
    """Return a network with its large convolutions in eight bits, and the names of those that stay as they are.

    These are the convolutions that contribute most to the error, for example the last ones.

    Arguments:
        model: The network, in single precision, with one output.
        samples: Its inputs, by name, for some images.

    Raises:
        BundleError: No convolution can be in eight bits.
    """
    convolutions = large_convolutions(model)
    if not convolutions:
        raise BundleError(f"the network has no convolution of {MIN_CHANNELS} channels and more for eight bits")
    ranges = activation_ranges(model, convolutions, samples)
    exact = [_output(model, inputs) for inputs in samples]

    def squared_error(node: onnx.NodeProto) -> float:
        changed = to_int8(model, [node], ranges)
        return sum(
            float(np.square(_output(changed, inputs) - values).mean())
            for inputs, values in zip(samples, exact, strict=True)
        )

    errors = [squared_error(node) for node in convolutions]
    kept = [error > MAX_SHARE * sum(errors) for error in errors]
    chosen = [node for node, is_kept in zip(convolutions, kept, strict=True) if not is_kept]
    names = [node.input[1] for node, is_kept in zip(convolutions, kept, strict=True) if is_kept]
    if not chosen:
        raise BundleError(f"all large convolutions need single precision: {', '.join(names)}")
    return to_int8(model, chosen, ranges), names


def _output(model: onnx.ModelProto, inputs: Inputs) -> np.ndarray:
    (name,) = (value.name for value in model.graph.output)
    return run(model, inputs, [name])[name]


def large_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the convolutions that have constant weights for at least `MIN_CHANNELS` inputs."""
    weights = constants(model)
    found = (node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in weights)
    return [node for node in found if is_large(weights[node.input[1]].shape)]


def is_large(shape: tuple[int, ...]) -> bool:
    """Return whether weights are those of a two-dimensional convolution with at least `MIN_CHANNELS` inputs."""
    return len(shape) == 4 and shape[1] >= MIN_CHANNELS


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the constant tensors of a model by name: its initializers, and those that a Cast converts to float32."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in found]
    return found | {node.output[0]: found[node.input[0]].astype(np.float32) for node in casts}


def activation_ranges(
    model: onnx.ModelProto, convolutions: Sequence[onnx.NodeProto], samples: Iterable[Inputs]
) -> dict[str, Range]:
    """Return the range of each input and output of convolutions, by name; it includes 0."""
    names = sorted({name for node in convolutions for name in (node.input[0], node.output[0])})
    ranges: dict[str, Range] = dict.fromkeys(names, (0.0, 0.0))
    for inputs in samples:
        for name, values in run(model, inputs, names).items():
            low, high = np.quantile(values, [OUTLIERS, 1 - OUTLIERS])
            ranges[name] = min(ranges[name][0], float(low)), max(ranges[name][1], float(high))
    return ranges


def to_int8(
    model: onnx.ModelProto, convolutions: Sequence[onnx.NodeProto], ranges: Mapping[str, Range]
) -> onnx.ModelProto:
    """Return a network with some convolutions in eight bits.

    Its weights keep their names and types, so that it can share the file of the other network. Their 8-bit values are
    computed when a runtime loads the network.

    Arguments:
        model: The network, in single precision.
        convolutions: Nodes of the network.
        ranges: The range of each of their inputs and outputs, by name.
    """
    quantizer = _Quantizer(ranges)
    weights, outputs = constants(model), {node.output[0] for node in convolutions}
    for node in model.graph.node:
        if not outputs & {*node.output}:
            quantizer.nodes.append(node)
            continue
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        source, kernel, target = node.input[0], node.input[1], node.output[0]
        changed.input[0] = source if source in outputs else quantizer.activation(source, f"{source}.int8")
        changed.input[1] = quantizer.weights(kernel, weights[kernel])
        changed.output[0] = f"{target}.exact"
        quantizer.nodes.append(changed)
        quantizer.activation(f"{target}.exact", target, target)
    graph = helper.make_graph(
        quantizer.nodes,
        model.graph.name,
        model.graph.input,
        model.graph.output,
        [*model.graph.initializer, *quantizer.initializers],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


class _Quantizer:
    """The nodes and initializers of the new graph."""

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        self._ranges = ranges
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._done = set[str]()

    def activation(self, source: str, target: str, ranged: str | None = None) -> str:
        """Add the pair for an activation, once, and return the name of the result.

        Arguments:
            source: Name of the tensor.
            target: Name of the result.
            ranged: Name of the tensor whose range is used; `source` by default.
        """
        if target not in self._done:
            low, high = self._ranges[ranged or source]
            scale = max(high - low, 1e-6) / ACTIVATION_LEVELS
            zero = np.clip(np.rint(-low / scale), 0, ACTIVATION_LEVELS).astype(np.uint8)
            self._add_pair(source, target, np.array(scale, np.float32), np.array(zero))
        return target

    def weights(self, name: str, values: np.ndarray) -> str:
        """Add the pair for weights, with a scale for each output channel, and return the name of the result."""
        scales = np.maximum(np.abs(values).max(axis=(1, 2, 3)), 1e-9) / WEIGHT_LIMIT
        target = f"{name}.int8"
        if target not in self._done:
            self._add_pair(name, target, scales.astype(np.float32), np.zeros(len(scales), np.int8), axis=0)
        return target

    def _add_pair(self, source: str, target: str, scale: np.ndarray, zero: np.ndarray, **attributes: int) -> None:
        self._done.add(target)
        names = f"{target}.scale", f"{target}.zero"
        for name, values in zip(names, (scale, zero), strict=True):
            self.initializers.append(numpy_helper.from_array(values, name))
        levels = f"{target}.levels"
        self.nodes.append(helper.make_node("QuantizeLinear", [source, *names], [levels], **attributes))
        self.nodes.append(helper.make_node("DequantizeLinear", [levels, *names], [target], **attributes))
