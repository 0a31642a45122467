"""GroupNormalization, rewritten for ONNX Runtime on the CPU, which has no operator for it.

ONNX Runtime would replace the operator by the operations of its definition, each of which writes a plane.
`InstanceNormalization` over groups, which ONNX Runtime has, takes less memory and is more accurate.
"""

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from sdtrt.export.graphs import onnx_graph


def split_group_norms(model: onnx.ModelProto) -> int:
    """Rewrite each GroupNormalization in single precision, and return their number.

    Arguments:
        model: A model with all its weights, as `to_onnx.export` writes it. It is changed.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes, count = list[NodeProto](), 0
    for node in graph.node:
        if not _is_splittable(node, weights):
            nodes.append(node)
            continue
        scale, shift = (numpy_helper.to_array(weights[name]) for name in node.input[1:])
        new_nodes, new_weights = _split(node, scale, shift)
        nodes += new_nodes
        graph.initializer.extend(new_weights)
        count += 1
    onnx_graph.replace_nodes(graph, nodes)
    return count


def _is_splittable(node: NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != "GroupNormalization" or not all(name in weights for name in node.input[1:]):
        return False
    in_single = onnx_graph.attributes(node).get("stash_type", onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT
    return in_single and all(weights[name].data_type == onnx.TensorProto.FLOAT for name in node.input[1:])


def _split(node: NodeProto, scale: np.ndarray, shift: np.ndarray) -> tuple[list[NodeProto], list[onnx.TensorProto]]:
    """Return the nodes and the weights that replace a GroupNormalization; `scale` and `shift` are of each channel."""
    source, target = node.input[0], node.output[0]
    attributes = onnx_graph.attributes(node)
    groups, channels = attributes["num_groups"], len(scale)
    constants = {
        "groups": np.array([0, groups, -1]),
        "channels": np.array([0, channels, -1]),
        "ones": np.ones(groups, np.float32),
        "zeros": np.zeros(groups, np.float32),
        "scale": scale[:, None],
        "shift": shift[:, None],
    }

    def name(part: str) -> str:
        return f"{target}.{part}"

    nodes = [
        helper.make_node("Shape", [source], [name("shape")]),
        helper.make_node("Reshape", [source, name("groups")], [name("grouped")]),
        helper.make_node(
            "InstanceNormalization",
            [name(part) for part in ("grouped", "ones", "zeros")],
            [name("normalized")],
            epsilon=attributes.get("epsilon", 1e-5),
        ),
        helper.make_node("Reshape", [name("normalized"), name("channels")], [name("flat")]),
        helper.make_node("Mul", [name("flat"), name("scale")], [name("scaled")]),
        helper.make_node("Add", [name("scaled"), name("shift")], [name("shifted")]),
        helper.make_node("Reshape", [name("shifted"), name("shape")], [target]),
    ]
    return nodes, [numpy_helper.from_array(values, name(part)) for part, values in constants.items()]
