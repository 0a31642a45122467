"""Conversion of a single-precision ONNX network to half precision, for networks without their torch modules.

Checkpoints are converted in torch instead (`torch_half`), which needs no casts between layers.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16

from sdtrt.export.graphs import onnx_graph
from sdtrt.export.graphs.onnx_run import run

LARGEST = 3e4  # largest activation on the probe; half precision ends at 65504
TENSORS_AT_ONCE = 24


def to_fp16(path: Path, probe: Mapping[str, np.ndarray]) -> tuple[onnx.ModelProto, list[str]]:
    """Return the network in half precision, including inputs and outputs, and the nodes that stay in single precision.

    These nodes have inputs or outputs above `LARGEST` when the network runs on the probe. Instance norms stay in single
    precision too, since the sums of their squares may overflow.

    Arguments:
        path: The ONNX file.
        probe: Its inputs by name, float32 arrays.
    """
    model = onnx_graph.read(path)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}.{index}"
    large = _large_tensors(model, probe)
    islands = [
        node.name
        for node in model.graph.node
        if node.op_type == "InstanceNormalization" or large & {*node.input, *node.output}
    ]
    # The converter inserts casts at an island's borders only if the tensor is known to be float32.
    model = onnx.shape_inference.infer_shapes(model)
    model = convert_float_to_float16(model, keep_io_types=False, node_block_list=islands, disable_shape_infer=True)
    return without_idle_casts(model), islands


def _large_tensors(model: onnx.ModelProto, probe: Mapping[str, np.ndarray]) -> set[str]:
    """Return the tensors whose magnitude exceeds `LARGEST`, or is not finite, when `model` runs on `probe`."""
    large = set()
    names = [name for node in model.graph.node for name in node.output if name]
    for first in range(0, len(names), TENSORS_AT_ONCE):
        for name, values in run(model, probe, names[first : first + TENSORS_AT_ONCE]).items():
            if values.dtype.kind == "f" and not np.abs(values).max(initial=0) <= LARGEST:
                large.add(name)
    return large


def without_idle_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove casts of half-precision weights to half, and pairs of casts between adjacent islands; return the model."""
    graph = model.graph
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    halving = {n.output[0]: n.input[0] for n in graph.node if _casts_to(n, TensorProto.FLOAT16)}
    renamed = {new: old for new, old in halving.items() if old in half}
    for node in graph.node:
        if _casts_to(node, TensorProto.FLOAT) and node.input[0] in halving and node.input[0] not in renamed:
            renamed[node.output[0]] = halving[node.input[0]]
    nodes = [node for node in graph.node if not (node.op_type == "Cast" and node.output[0] in renamed)]
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    del graph.node[:]
    graph.node.extend(_sorted(node for node in nodes if node.op_type != "Cast" or used & set(node.output)))
    return model


def _sorted(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return nodes in topological order; the converter appends its casts at the end."""
    makers = {name: node for node in nodes for name in node.output}
    order: dict[str, onnx.NodeProto] = {}
    stack = [(node, False) for node in reversed(list(makers.values()))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.setdefault(node.output[0], node)
        elif node.output[0] not in order:
            stack.append((node, True))
            stack += [(makers[name], False) for name in node.input if name in makers]
    return list(order.values())


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and next(a.i for a in node.attribute if a.name == "to") == kind
