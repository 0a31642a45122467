"""Group norms for ONNX Runtime on CUDA. A NumPy evaluation of its operator shows that the function stays."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from sdtrt.export.edits.cuda_group_norm import use_cuda_group_norms

CHANNELS, GROUPS = 12, 4


class GroupNorm(OpRun):
    """The operator, from its description in ONNX Runtime's ContribOperators.md."""

    op_domain = "com.microsoft"

    def _run(
        self,
        x: np.ndarray,
        gamma: np.ndarray,
        beta: np.ndarray,
        *,
        groups: int,
        epsilon: float,
        activation: int,
        channels_last: int,
    ) -> tuple[Any]:
        assert channels_last == 1
        assert gamma.dtype == beta.dtype == np.float32
        count, height, width, channels = x.shape
        grouped = x.astype(np.float32).reshape(count, height * width, groups, channels // groups)
        mean, variance = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
        result = ((grouped - mean) / np.sqrt(variance + epsilon)).reshape(x.shape) * gamma + beta
        if activation == 1:
            result = result / (1 + np.exp(-result))
        return (result.astype(x.dtype),)


def network(kind: str, dtype: type) -> onnx.ModelProto:
    """Return a group norm, and what comes after it by `kind`."""
    rng = np.random.default_rng(1)
    weights = [numpy_helper.from_array(rng.standard_normal(CHANNELS).astype(dtype), name) for name in ("a", "b")]
    nodes = [helper.make_node("GroupNormalization", ["x", "a", "b"], ["n"], num_groups=GROUPS, epsilon=1e-3)]
    rest = {
        "silu": [("Sigmoid", ["n"], "s"), ("Mul", ["n", "s"], "y")],
        "silu, other order": [("Sigmoid", ["n"], "s"), ("Mul", ["s", "n"], "y")],
        "none": [("Neg", ["n"], "y")],
        "three readers": [("Sigmoid", ["n"], "s"), ("Mul", ["n", "s"], "m"), ("Add", ["n", "m"], "y")],
        "sigmoid read twice": [("Sigmoid", ["n"], "s"), ("Mul", ["n", "s"], "m"), ("Add", ["m", "s"], "y")],
        "squared": [("Sigmoid", ["n"], "s"), ("Mul", ["n", "n"], "m"), ("Add", ["m", "s"], "y")],
    }
    nodes += [helper.make_node(operator, inputs, [output]) for operator, inputs, output in rest[kind]]
    tensor = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = ["N", CHANNELS, "h", "w"]
    values = [helper.make_tensor_value_info(name, tensor, shape) for name in "xy"]
    graph = helper.make_graph(nodes, "network", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("kind", "operators"),
    [
        ("silu", []),
        ("silu, other order", []),
        ("none", ["Neg"]),
        ("three readers", ["Sigmoid", "Mul", "Add"]),
        ("sigmoid read twice", ["Sigmoid", "Mul", "Add"]),
        ("squared", ["Sigmoid", "Mul", "Add"]),
    ],
)
def test_cuda_group_norm_gives_the_same(kind: str, operators: list[str], dtype: type) -> None:
    x = np.random.default_rng(2).standard_normal((2, CHANNELS, 5, 7)).astype(dtype)
    model = network(kind, dtype)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert use_cuda_group_norms(model) == 1
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "GroupNorm", "Transpose", *operators]
    (found,) = ReferenceEvaluator(model, new_ops=[GroupNorm]).run(None, {"x": x})
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype is np.float32 else 1e-2
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=tolerance)


def test_a_sigmoid_that_is_an_output_stays() -> None:
    model = network("silu", np.float32)
    model.graph.output.append(onnx.ValueInfoProto(name="s", type=model.graph.output[0].type))
    x = np.random.default_rng(2).standard_normal((1, CHANNELS, 3, 3)).astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": x})
    assert use_cuda_group_norms(model) == 1
    for found, one in zip(ReferenceEvaluator(model, new_ops=[GroupNorm]).run(None, {"x": x}), expected, strict=True):
        np.testing.assert_allclose(found, one, atol=1e-5)


def test_group_norm_of_tokens_stays() -> None:
    model = network("none", np.float32)
    for value in (*model.graph.input, *model.graph.output):
        del value.type.tensor_type.shape.dim[3]
    assert use_cuda_group_norms(model) == 0
    assert [node.op_type for node in model.graph.node] == ["GroupNormalization", "Neg"]
