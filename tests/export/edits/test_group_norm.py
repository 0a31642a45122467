"""GroupNormalization that is rewritten for ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from sdtrt.export.edits.group_norm import split_group_norms

CHANNELS, GROUPS = 12, 4


def network(dtype: type = np.float32, rank: int = 4, epsilon: float = 1e-6) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    weights = [numpy_helper.from_array(rng.standard_normal(CHANNELS).astype(dtype), name) for name in ("a", "b")]
    node = helper.make_node(
        "GroupNormalization", ["x", "a", "b"], ["y"], num_groups=GROUPS, epsilon=epsilon, stash_type=1
    )
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = ["N", CHANNELS, "h", "w"][:rank]
    values = [helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
    graph = helper.make_graph([node], "network", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("shape", [(2, CHANNELS, 5, 7), (1, CHANNELS, 1, 1), (3, CHANNELS, 6)])
@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_split_group_norm_gives_the_same(shape: tuple[int, ...], epsilon: float) -> None:
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    model = network(rank=len(shape), epsilon=epsilon)
    expected = run(model, x)
    assert split_group_norms(model) == 1
    assert "GroupNormalization" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, x), expected, atol=2e-5)


def test_split_group_norm_is_accurate_where_the_mean_is_large() -> None:
    x = np.random.default_rng(2).standard_normal((1, CHANNELS, 200, 200)) * 2 + 30
    model = network()
    split_group_norms(model)
    groups = x.reshape(GROUPS, -1)
    normal = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-6)
    scale, shift = (np.random.default_rng(1).standard_normal((2, CHANNELS))).astype(np.float32)
    expected = normal.reshape(x.shape) * scale[:, None, None] + shift[:, None, None]
    np.testing.assert_allclose(run(model, x.astype(np.float32)), expected, atol=1e-4)


def test_half_precision_stays_as_it_is() -> None:
    model = network(np.float16)
    before = model.SerializeToString()
    assert split_group_norms(model) == 0
    assert model.SerializeToString() == before
