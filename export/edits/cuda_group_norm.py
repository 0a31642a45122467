"""Group norms, with the SiLU after them, as one operator that ONNX Runtime has for CUDA.

ONNX Runtime would replace GroupNormalization by the operations of its definition, also on a GPU. Its own operator
`GroupNorm` (domain com.microsoft) computes the norm and the activation in one kernel, of planes with channels last.
"""

from collections import defaultdict

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper, shape_inference

from sdtrt.export.graphs import onnx_graph

DOMAIN = "com.microsoft"
TO_CHANNELS_LAST, TO_CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
SILU, NO_ACTIVATION = 1, 0


def use_cuda_group_norms(model: onnx.ModelProto) -> int:
    """Replace each GroupNormalization of planes, and return their number.

    The result runs by ONNX Runtime on CUDA only.

    Arguments:
        model: A model with all its weights, as `to_onnx.export` writes it. It is changed.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    ranks = _ranks(model)
    readers = defaultdict[str, list[NodeProto]](list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    outputs = {value.name for value in graph.output}
    replacements, fused = dict[str, list[NodeProto]](), set[str]()
    for node in graph.node:
        known = all(name in weights for name in node.input[1:])
        if node.op_type != "GroupNormalization" or not known or ranks.get(node.input[0]) != 4:
            continue
        silu = _silu_after(node, readers)
        silu = [] if outputs & {node.output[0], *(one.output[0] for one in silu[:1])} else silu
        new_nodes, new_weights = _replacement(node, silu, weights)
        replacements[node.output[0]] = new_nodes
        fused |= {one.output[0] for one in silu}
        graph.initializer.extend(new_weights)
    nodes = list[NodeProto]()
    for node in graph.node:
        if node.output[0] not in fused:
            nodes += replacements.get(node.output[0], [node])
    onnx_graph.replace_nodes(graph, nodes)
    if replacements and DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return len(replacements)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Return the numbers of axes of tensors, by name, as far as they are known."""
    graph = shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}


def _silu_after(node: NodeProto, readers: dict[str, list[NodeProto]]) -> list[NodeProto]:
    """Return the sigmoid and the product that are the only readers of a group norm; empty if there are others."""
    found = {reader.op_type: reader for reader in readers[node.output[0]]}
    if len(readers[node.output[0]]) != 2 or found.keys() != {"Sigmoid", "Mul"}:
        return []
    sigmoid, product = found["Sigmoid"], found["Mul"]
    own = {node.output[0], sigmoid.output[0]}
    return [sigmoid, product] if {*product.input} == own and len(readers[sigmoid.output[0]]) == 1 else []


def _replacement(
    node: NodeProto, silu: list[NodeProto], weights: dict[str, onnx.TensorProto]
) -> tuple[list[NodeProto], list[onnx.TensorProto]]:
    """Return the nodes and the weights that replace a group norm, and its SiLU if there is one."""
    name, target = node.output[0], (silu[-1] if silu else node).output[0]
    attributes = onnx_graph.attributes(node)
    vectors = [numpy_helper.to_array(weights[one]).astype(np.float32) for one in node.input[1:]]
    new_weights = [
        numpy_helper.from_array(values, f"{name}.{part}")
        for values, part in zip(vectors, ("gamma", "beta"), strict=True)
    ]
    norm = helper.make_node(
        "GroupNorm",
        [f"{name}.channels_last", f"{name}.gamma", f"{name}.beta"],
        [f"{name}.normalized"],
        domain=DOMAIN,
        groups=attributes["num_groups"],
        epsilon=attributes.get("epsilon", 1e-5),
        activation=SILU if silu else NO_ACTIVATION,
        channels_last=1,
    )
    before = helper.make_node("Transpose", [node.input[0]], [f"{name}.channels_last"], perm=TO_CHANNELS_LAST)
    after = helper.make_node("Transpose", [f"{name}.normalized"], [target], perm=TO_CHANNELS_FIRST)
    return [before, norm, after], new_weights
