"""Conversion of half-precision graphs to single precision, from which all other stages start."""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
KINDS = {"to", "dtype", "output_dtype"}  # attributes that name an element type


def to_single(model: onnx.ModelProto) -> bool:
    """Convert all half-precision tensors of a model to float32, in place; return whether there were any."""
    values = (*model.graph.input, *model.graph.output)
    changed = [_retype(value) for value in values] + [_convert_graph(model.graph)]
    changed += [_convert_nodes(function.node) for function in model.functions]
    return any(changed)


def _retype(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in HALF:
        return False
    kind.elem_type = TensorProto.FLOAT
    return True


def _convert_graph(graph: onnx.GraphProto) -> bool:
    del graph.value_info[:]  # inferred shapes and types of inner tensors, which are no longer valid
    return any([*map(_convert_tensor, graph.initializer), _convert_nodes(graph.node)])


def _convert_nodes(nodes: Iterable[onnx.NodeProto]) -> bool:
    changed = [_convert_attribute(attribute) for node in nodes for attribute in node.attribute]
    return any(changed)  # a list, so that all attributes are converted


def _convert_attribute(attribute: AttributeProto) -> bool:
    if attribute.type == AttributeProto.INT and attribute.name in KINDS and attribute.i in HALF:
        attribute.i = TensorProto.FLOAT
        return True
    tensors = [attribute.t] if attribute.type == AttributeProto.TENSOR else [*attribute.tensors]
    graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else [*attribute.graphs]
    return any([*map(_convert_tensor, tensors), *map(_convert_graph, graphs)])


def _convert_tensor(tensor: TensorProto) -> bool:
    if tensor.data_type not in HALF:
        return False
    array = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return True
