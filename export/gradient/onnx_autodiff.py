"""Reverse-mode differentiation of an ONNX graph, for the operators of convolutional decoders."""

import functools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from sdtrt.errors import BundleError
from sdtrt.export.gradient.nodes import Nodes
from sdtrt.export.graphs import onnx_graph

END = -(1 << 31)  # end of a slice with negative steps that includes the first element


class Backprop(Nodes):
    """Adds nodes to a decoder's graph that propagate gradients from its pixels to its latents."""

    def __init__(self, decoder: onnx.ModelProto) -> None:
        super().__init__()
        self._decoder = decoder
        graph = onnx.shape_inference.infer_shapes(decoder).graph
        values = [*graph.input, *graph.value_info, *graph.output]
        self._shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}
        self._shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        self.moving = {"latents"}  # tensors that depend on the latents
        for node in decoder.graph.node:
            if not self.moving.isdisjoint(node.input):
                self.moving.update(node.output)

    def run(self, output: str, seed: str) -> str:
        """Add the nodes of the backward pass, and return the name of the gradient with respect to the latents.

        Arguments:
            output: Name of the decoder's output.
            seed: Name of the loss's gradient with respect to `output`.

        Raises:
            BundleError: An operator that depends on the latents has no rule.
        """
        gradients = defaultdict[str, list[str]](list, {output: [seed]})
        for node in reversed(self._decoder.graph.node):
            if node.output[0] not in self.moving:
                continue
            parts = gradients.pop(node.output[0], [])
            if not parts:
                continue
            gradient = self._sum(parts)
            if node.op_type not in RULES:
                raise BundleError(f"there is no gradient of the operator {node.op_type} between latents and pixels")
            for name in node.input:
                if name in self.moving:
                    gradients[name].append(RULES[node.op_type](self, node, name, gradient))
        return self._sum(gradients["latents"])

    def _sum(self, names: list[str]) -> str:
        return functools.reduce(lambda total, name: self.add("Add", total, name), names)

    def shape_of(self, name: str) -> list[int]:
        """Return the shape of a tensor within the decoder, 0 for dynamic axes."""
        return self._shapes[name]

    def values(self, name: str) -> np.ndarray:
        """Return a small constant of the decoder."""
        for tensor in self._decoder.graph.initializer:
            if tensor.name == name:
                return numpy_helper.to_array(tensor)
        raise BundleError(f"{name}, a parameter of an operator between latents and pixels, is not a constant")


Rule = Callable[[Backprop, onnx.NodeProto, str, str], str]


def _conv(graph: Backprop, node: onnx.NodeProto, _: str, gradient: str) -> str:
    """A convolution with the flipped kernel and swapped channels, which is faster than a transposed convolution."""
    parameters = _convolution(graph, node)
    height, width = parameters["kernel_shape"]
    top, left, bottom, right = parameters["pads"]
    if set(parameters["strides"]) != {1}:
        raise BundleError(f"there is no gradient of the convolution {node.output[0]}, with strides")
    swapped = graph.add("Transpose", node.input[1], perm=[1, 0, 2, 3])
    ends = [graph.constant(np.array(values)) for values in ([-1, -1], [END, END], [2, 3], [-1, -1])]
    flipped = graph.add("Slice", swapped, *ends)
    pads = [height - 1 - top, width - 1 - left, height - 1 - bottom, width - 1 - right]
    return graph.add("Conv", gradient, flipped, kernel_shape=[height, width], pads=pads)


def _conv_transpose(graph: Backprop, node: onnx.NodeProto, _: str, gradient: str) -> str:
    return graph.add("Conv", gradient, node.input[1], **_convolution(graph, node))


def _relu(graph: Backprop, node: onnx.NodeProto, name: str, gradient: str) -> str:
    alpha = np.float32(onnx_graph.attributes(node).get("alpha", 0.01) if node.op_type == "LeakyRelu" else 0)
    positive = graph.add("Greater", name, graph.constant(np.float32(0)))
    slope = graph.add("Where", positive, graph.constant(np.float32(1)), graph.constant(alpha))
    return graph.add("Mul", gradient, slope)


def _add(graph: Backprop, node: onnx.NodeProto, name: str, gradient: str) -> str:
    _require_as_large(graph, node, name)
    return gradient


def _mul(graph: Backprop, node: onnx.NodeProto, name: str, gradient: str) -> str:
    """A product of a plane and a factor that does not depend on latents."""
    _require_as_large(graph, node, name)
    first, second = node.input
    other = second if name == first else first
    if other in graph.moving:
        raise BundleError(f"there is no gradient of {node.output[0]}, whose factors both depend on latents")
    return graph.add("Mul", gradient, other)


def _require_as_large(graph: Backprop, node: onnx.NodeProto, name: str) -> None:
    """Raise `BundleError` if a sum or product broadcasts the channels of a tensor that depends on latents."""
    if graph.shape_of(name)[1:2] != graph.shape_of(node.output[0])[1:2]:
        raise BundleError(f"there is no gradient of {node.output[0]}, which broadcasts channels")


def _depth_to_space(graph: Backprop, node: onnx.NodeProto, _: str, gradient: str) -> str:
    attributes = onnx_graph.attributes(node)
    side = attributes["blocksize"]
    shuffled = graph.add("SpaceToDepth", gradient, blocksize=side)
    if attributes.get("mode", b"DCR") == b"DCR":
        return shuffled
    count = graph.shape_of(node.input[0])[1]
    order = np.arange(count).reshape(side * side, count // side**2).T.ravel()
    return graph.add("Gather", shuffled, graph.constant(order), axis=1)


def _pad(graph: Backprop, node: onnx.NodeProto, _: str, gradient: str) -> str:
    """Padding by one row or column that repeats the edge; its gradient is added to the edge's."""
    if onnx_graph.attributes(node).get("mode") != b"edge" or [*graph.values(node.input[1])] != [0, 0, 1, 1, 0, 0, 1, 1]:
        raise BundleError(f"there is no gradient of {node.output[0]}: expected padding by one repeated row or column")
    return _edges_added(graph, gradient)


def _edges_added(graph: Backprop, gradient: str) -> str:
    """Remove the outermost rows and columns of a plane, and add them to their neighbours."""
    for axis in (2, 3):
        first, beside, inner, before, last = (
            graph.add("Slice", gradient, *(graph.constant(np.array([n])) for n in (start, stop, axis)))
            for start, stop in ((0, 1), (1, 2), (2, -2), (-2, -1), (-1, -END - 1))
        )
        ends = graph.add("Add", first, beside), graph.add("Add", before, last)
        gradient = graph.add("Concat", ends[0], inner, ends[1], axis=axis)
    return gradient


def _resize(graph: Backprop, node: onnx.NodeProto, _: str, gradient: str) -> str:
    """Bilinear enlargement: a strided convolution with a triangle, and padding of one repeated row or column."""
    attributes, scales = onnx_graph.attributes(node), [*graph.values(node.input[2])]
    factor = int(scales[-1])
    modes = attributes.get("mode"), attributes.get("coordinate_transformation_mode", b"half_pixel")
    if modes != (b"linear", b"half_pixel") or scales != [1, 1, factor, factor] or factor < 2:
        raise BundleError(f"there is no gradient of {node.output[0]}: expected bilinear resizing by an integer factor")
    length = 2 * factor - factor % 2
    triangle = 1 - np.abs(np.arange(length) - (length - 1) / 2) / factor
    count = graph.shape_of(node.output[0])[1]
    kernel = np.tile(np.outer(triangle, triangle).astype(np.float32), (count, 1, 1, 1))
    pads, strides = [(3 * factor - factor % 2) // 2] * 4, [factor] * 2
    small = graph.add(
        "Conv", gradient, graph.constant(kernel), group=count, kernel_shape=[length] * 2, pads=pads, strides=strides
    )
    return _edges_added(graph, small)


RULES: dict[str, Rule] = {
    "Add": _add,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Identity": lambda graph, node, name, gradient: gradient,
    "LeakyRelu": _relu,
    "Mul": _mul,
    "Pad": _pad,
    "Relu": _relu,
    "Resize": _resize,
}


def _convolution(graph: Backprop, node: onnx.NodeProto) -> dict[str, Any]:
    """Return kernel shape, strides and pads of a convolution; `BundleError` if it has dilations or groups."""
    attributes = onnx_graph.attributes(node)
    if set(attributes.get("dilations", (1,))) | {attributes.get("group", 1)} != {1}:
        raise BundleError(f"there is no gradient of the convolution {node.output[0]}, with dilations or groups")
    sides, strides = graph.shape_of(node.input[1])[2:], list(attributes.get("strides", (1, 1)))
    pads, automatic = list(attributes.get("pads", (0,) * 4)), attributes.get("auto_pad", b"NOTSET")
    if automatic in {b"SAME_UPPER", b"SAME_LOWER"}:
        if set(strides) != {1} or not all(side % 2 for side in sides):
            raise BundleError(f"there is no gradient of the convolution {node.output[0]}: its padding is not explicit")
        pads = [side // 2 for side in sides] * 2
    return {"kernel_shape": sides, "strides": strides, "pads": pads}
