"""Upsampling that is folded into the convolution after it."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from sdtrt.export.edits.upsampling import fold_upsampling

RESIZE = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
CHANNELS, OUTPUTS = 5, 3


def network(
    *,
    dtype: type = np.float32,
    bias: bool = True,
    scales: tuple[float, ...] = (1, 1, 2, 2),
    resize: dict[str, Any] = RESIZE,
    kernel: int = 3,
    group: int = 1,
    further: tuple[str, ...] = (),
    **convolution: Any,
) -> onnx.ModelProto:
    """Return a model of an upsampling and a convolution; `further` are more outputs."""
    rng = np.random.default_rng(1)
    shape = OUTPUTS * group, CHANNELS, kernel, kernel
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(dtype), "weight"),
        numpy_helper.from_array(rng.standard_normal(OUTPUTS * group).astype(dtype), "bias"),
        numpy_helper.from_array(np.array(scales, np.float32), "scales"),
    ]
    attributes = {"pads": [kernel // 2] * 4, "group": group} | convolution
    nodes = [
        helper.make_node("Resize", ["latents", "", "scales"], ["large"], **resize),
        helper.make_node("Conv", ["large", "weight", *(["bias"] if bias else [])], ["pixels"], **attributes),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def value(name: str, channels: int | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["N", channels, f"{name}_h", f"{name}_w"])

    inputs = [value("latents", CHANNELS * group)]
    outputs = [value(name, None) for name in ("pixels", *further)]
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(model: onnx.ModelProto, latents: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"latents": latents})


@pytest.mark.parametrize("nearest_mode", ["round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("place", ["half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"])
def test_other_spellings_of_the_same_upsampling_are_folded(place: str, nearest_mode: str) -> None:
    resize = {"mode": "nearest", "coordinate_transformation_mode": place, "nearest_mode": nearest_mode}
    for height, width in ((1, 1), (5, 6)):
        latents = np.random.default_rng(2).standard_normal((2, CHANNELS, height, width)).astype(np.float32)
        model = network(resize=resize)
        (expected,) = run(model, latents)
        assert fold_upsampling(model) == 1
        np.testing.assert_allclose(run(model, latents)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (3, 1), (5, 6), (8, 8)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 0.05)])
def test_folded_network_gives_the_same(height: int, width: int, bias: bool, dtype: type, tolerance: float) -> None:
    latents = np.random.default_rng(2).standard_normal((2, CHANNELS, height, width)).astype(dtype)
    model = network(bias=bias, dtype=dtype)
    (expected,) = run(model, latents)
    assert fold_upsampling(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Conv"] * 4 + ["Concat", "DepthToSpace"]
    assert "weight" not in {tensor.name for tensor in model.graph.initializer}
    (found,) = run(model, latents)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"scales": (1, 1, 3, 3)},
        {"scales": (1, 1, 2, 1)},
        {"resize": RESIZE | {"mode": "linear"}},
        {"resize": RESIZE | {"nearest_mode": "ceil"}},
        {"resize": {"nearest_mode": "floor"}},  # of half-pixel coordinates
        {"kernel": 5},
        {"kernel": 1},
        {"strides": [2, 2]},
        {"dilations": [2, 2], "pads": [2] * 4},
        {"pads": [0] * 4},
        {"pads": [1, 1, 0, 0]},
        {"group": 2},
        {"further": ("large",)},  # others read the upsampled plane
    ],
    ids=str,
)
def test_other_networks_stay_as_they_are(options: dict[str, Any]) -> None:
    model = network(**options)
    before = model.SerializeToString()
    assert fold_upsampling(model) == 0
    assert model.SerializeToString() == before
    latents = np.random.default_rng(2).standard_normal((1, CHANNELS * options.get("group", 1), 6, 6))
    run(model, latents.astype(np.float32))


def test_two_upsamplings_are_folded() -> None:
    first, second = network(), network()
    weights = [second.graph.initializer[0]]
    weights[0].CopyFrom(numpy_helper.from_array(np.ones((2, OUTPUTS, 3, 3), np.float32), "second.weight"))
    first.graph.initializer.extend(weights)
    first.graph.node[1].output[0] = "middle"
    first.graph.node.extend(
        [
            helper.make_node("Resize", ["middle", "", "scales"], ["second.large"], **RESIZE),
            helper.make_node("Conv", ["second.large", "second.weight"], ["pixels"], pads=[1] * 4),
        ]
    )
    latents = np.random.default_rng(2).standard_normal((1, CHANNELS, 3, 2)).astype(np.float32)
    (expected,) = run(first, latents)
    assert fold_upsampling(first) == 2
    np.testing.assert_allclose(run(first, latents)[0], expected, atol=1e-4)
