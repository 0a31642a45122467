"""The gradient of a decoder as an ONNX network: squared error and structural loss, and their gradient."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from sdtrt.export.gradient.nodes import Nodes
from sdtrt.export.gradient.onnx_autodiff import Backprop
from sdtrt.export.gradient.structure import structure
from sdtrt.export.graphs.onnx_graph import require_inline_weights, write_sharing_weights


def gradient_of(decoder: onnx.ModelProto, downscale: int, pixel_range: tuple[float, float]) -> onnx.ModelProto:
    """Return a network that computes the gradient of a decoder's distortion with respect to the latents.

    The network contains the decoder and refers to its weights by the same names. Its inputs are those of the decoder
    and:

    - `wanted`, float32 (N, 3, H, W): the original pixels, in the decoder's range.
    - `weights`, float32 (N, 1, H, W): the weight of each pixel's squared error.
    - `structure`, float32 (N, 1, h, w): the weight of the structural loss at each latent.

    Its outputs are:

    - `errors`, float32 (N, 1, h, w): the weighted squared error of each latent's pixels.
    - `lost`, float32 (N, 1, h, w): the structural loss at each latent, not weighted.
    - `gradient`, float32 (N, C, h, w): the gradient of the weighted sum of both.

    Arguments:
        decoder: The decoder. If it pads edges, height and width must be at least two latents at run time.
        downscale: Pixels for each latent along a side.
        pixel_range: The range of the decoder's pixels.

    Raises:
        BundleError: The decoder has an operator between latents and pixels for which there is no rule.
    """
    graph = Backprop(decoder)
    (decoded,) = (value.name for value in decoder.graph.output)
    difference = graph.add("Sub", decoded, "wanted")
    weighted = graph.add("Mul", difference, "weights")
    squares = graph.add("Mul", difference, weighted)
    total = graph.add("ReduceSum", squares, graph.constant(np.array([1])), keepdims=1)
    side: dict[str, Any] = {"kernel_shape": [downscale] * 2, "strides": [downscale] * 2}
    mean = graph.add("AveragePool", total, **side)
    graph.add("Mul", mean, graph.constant(np.float32(downscale**2)), to="errors")
    lost, gradient = structure(graph, decoded, "wanted", "structure", downscale, pixel_range)
    graph.add("Identity", lost, to="lost")
    seed = graph.add("Add", graph.add("Mul", weighted, graph.constant(np.float32(2))), gradient)
    graph.add("Identity", graph.run(decoded, seed), to="gradient")
    return _model(decoder, graph, downscale)


def write_gradient(decoder: Path, path: Path, downscale: int, pixel_range: tuple[float, float]) -> None:
    """Write the gradient network of a decoder into the same folder.

    Its weights refer to the decoder's file as ONNX external data, at the offsets where that file stores them.

    Arguments:
        decoder: The decoder's ONNX file.
        path: The new file.
        downscale: Pixels for each latent along a side.
        pixel_range: The range of the decoder's pixels.

    Raises:
        BundleError: See `gradient_of`; also if the decoder's weights are in a file of their own.
    """
    require_inline_weights(decoder, "a gradient")
    write_sharing_weights(gradient_of(onnx.load(decoder), downscale, pixel_range), path, decoder)
    onnx.checker.check_model(path, full_check=True)


def _model(decoder: onnx.ModelProto, added: Nodes, downscale: int) -> onnx.ModelProto:
    """Return a decoder's graph with the added nodes, inputs and outputs."""
    planes = {"height": f"height*{downscale}", "width": f"width*{downscale}"}
    latents = decoder.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    new_inputs = {"wanted": (3, *planes.values()), "weights": (1, *planes.values()), "structure": (1, *planes)}
    new_outputs = {"errors": (1, *planes), "lost": (1, *planes), "gradient": (latents, *planes)}
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()]
        for shapes in (new_inputs, new_outputs)
    )
    graph = helper.make_graph(
        [*decoder.graph.node, *added.nodes],
        "gradient",
        [*decoder.graph.input, *inputs],
        outputs,
        [*decoder.graph.initializer, *added.constants],
    )
    return helper.make_model(graph, opset_imports=decoder.opset_import, ir_version=decoder.ir_version)
