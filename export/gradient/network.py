"""The gradient of a decoder as a network: squared errors and lost structure, and how each latent could mend them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper

from sdtrt.errors import BundleError
from sdtrt.export.gradient.nodes import Nodes
from sdtrt.export.gradient.onnx_autodiff import Backprop
from sdtrt.export.gradient.structure import structure

MIN_SHARED = 256  # bytes of a weight; smaller ones are written once more


def gradient_of(decoder: onnx.ModelProto, downscale: int, pixel_range: tuple[float, float]) -> onnx.ModelProto:
    """Return the gradient of how wrong a decoder's image is, whose weights it shares by name.

    Beside the decoder's inputs it takes `wanted` pixels, float32 (N, 3, H, W), in the decoder's range, `weights`,
    float32 (N, 1, H, W), by which each one's squared error counts, and `structure`, float32 (N, 1, h, w), by how much
    lost structure counts at each latent. It gives, float32 (N, 1, h, w), the squared `errors` of each latent's pixels,
    weighted, and how much structure is `lost` there; and of the sum of both, weighted, `gradient`, float32
    (N, C, h, w). Height and width are at least two latents where edges are padded. Raises `BundleError` for a graph
    with other operators between latents and pixels.
    """
    graph = Backprop(decoder)
    (shown,) = (value.name for value in decoder.graph.output)
    difference = graph.add("Sub", shown, "wanted")
    weighted = graph.add("Mul", difference, "weights")
    squares = graph.add("Mul", difference, weighted)
    total = graph.add("ReduceSum", squares, graph.constant(np.array([1])), keepdims=1)
    side: dict[str, Any] = {"kernel_shape": [downscale] * 2, "strides": [downscale] * 2}
    mean = graph.add("AveragePool", total, **side)
    graph.add("Mul", mean, graph.constant(np.float32(downscale**2)), to="errors")
    lost, gradient = structure(graph, shown, "wanted", "structure", downscale, pixel_range)
    graph.add("Identity", lost, to="lost")
    seed = graph.add("Add", graph.add("Mul", weighted, graph.constant(np.float32(2))), gradient)
    graph.add("Identity", graph.run(shown, seed), to="gradient")
    return _model(decoder, graph, downscale)


def write_gradient(decoder: Path, path: Path, downscale: int, pixel_range: tuple[float, float]) -> None:
    """Write the gradient of a decoder beside it; weights are read from the decoder's own file. Errors of `gradient_of`.

    ONNX lets a weight lie anywhere in another file: these lie where the decoder's graph has them.
    """
    if decoder.with_name(f"{decoder.name}.data").exists():
        raise BundleError(f"there is no gradient of {decoder.name}, so large that its weights are in another file")
    model, data = gradient_of(onnx.load(decoder), downscale, pixel_range), decoder.read_bytes()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < MIN_SHARED or (offset := data.find(tensor.raw_data)) < 0:
            continue
        external_data_helper.set_external_data(tensor, decoder.name, offset, len(tensor.raw_data))
        tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(path, full_check=True)


def _model(decoder: onnx.ModelProto, added: Nodes, downscale: int) -> onnx.ModelProto:
    """Return a decoder's graph with what was added, and its inputs and outputs."""
    planes = {"height": f"height*{downscale}", "width": f"width*{downscale}"}
    latents = decoder.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    more = {"wanted": (3, *planes.values()), "weights": (1, *planes.values()), "structure": (1, *planes)}
    found = {"errors": (1, *planes), "lost": (1, *planes), "gradient": (latents, *planes)}
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in told.items()]
        for told in (more, found)
    )
    graph = helper.make_graph(
        [*decoder.graph.node, *added.nodes],
        "gradient",
        [*decoder.graph.input, *inputs],
        outputs,
        [*decoder.graph.initializer, *added.constants],
    )
    return helper.make_model(graph, opset_imports=decoder.opset_import, ir_version=decoder.ir_version)
