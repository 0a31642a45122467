"""Graphs that came in half precision, brought to single: all other stages start from single precision."""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
KINDS = {"to", "dtype", "output_dtype"}  # attributes that name an element type


def to_single(model: onnx.ModelProto) -> bool:
    """Turn all half-precision tensors of a model to float32, in place; return whether there were any."""
    values = (*model.graph.input, *model.graph.output)
    changed = [_retyped(value) for value in values] + [_turned(model.graph)]
    changed += [_nodes_turned(function.node) for function in model.functions]
    return any(changed)


def _retyped(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in HALF:
        return False
    kind.elem_type = TensorProto.FLOAT
    return True


def _turned(graph: onnx.GraphProto) -> bool:
    del graph.value_info[:]  # what was inferred of inner tensors, types among it
    return any([*map(_widened, graph.initializer), _nodes_turned(graph.node)])


def _nodes_turned(nodes: Iterable[onnx.NodeProto]) -> bool:
    changed = [_attribute_turned(attribute) for node in nodes for attribute in node.attribute]
    return any(changed)  # after all were turned


def _attribute_turned(attribute: AttributeProto) -> bool:
    if attribute.type == AttributeProto.INT and attribute.name in KINDS and attribute.i in HALF:
        attribute.i = TensorProto.FLOAT
        return True
    tensors = [attribute.t] if attribute.type == AttributeProto.TENSOR else [*attribute.tensors]
    graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else [*attribute.graphs]
    return any([*map(_widened, tensors), *map(_turned, graphs)])


def _widened(tensor: TensorProto) -> bool:
    if tensor.data_type not in HALF:
        return False
    array = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return True
