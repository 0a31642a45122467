"""The gradient of a decoder against torch's, and against differences of its own error."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.errors import BundleError
from sdtrt.export.gradient.network import gradient_of, write_gradient
from sdtrt.export.training.tiny.restore import restore_model

TINY = find_bundle("tiny").folder
RNG = np.random.default_rng(1)
NAMES = ("errors", "lost", "gradient")


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(path: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip(NAMES, session.run(NAMES, given), strict=True))


def inputs(channels: int, height: int, width: int, scale: int) -> dict[str, np.ndarray]:
    return {
        "latents": normal(2, channels, height, width),
        "wanted": normal(2, 3, scale * height, scale * width),
        "weights": np.square(normal(2, 1, scale * height, scale * width)),
        "structure": 9 * np.square(normal(2, 1, height, width)),
    }


def lost_structure(shown: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return how much structure is lost at each latent of 8x8 pixels in [-1, 1], (N, 1, h, w)."""
    total = torch.zeros(())
    for side, share in ((2, 0.3), (4, 0.3), (8, 0.4)):
        for plane, counts in ((None, 1 / 2), (0, 1 / 6), (1, 1 / 6), (2, 1 / 6)):
            a, b = (F.avg_pool2d(brightness(p) if plane is None else p[:, plane, None], side) for p in (shown, wanted))
            mean_a, mean_b, both, *squares = (F.avg_pool2d(p, 5, 1, 2) for p in (a, b, a * b, a * a, b * b))
            energy = squares[0] - mean_a**2 + squares[1] - mean_b**2 + 0.03**2 * 4
            likeness = (2 * (both - mean_a * mean_b) + 0.03**2 * 4) / energy
            total = total + share * counts * F.avg_pool2d(1 - likeness, 8 // side)
    return total


def brightness(pixels: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nchw,c->nhw", pixels, torch.tensor([0.299, 0.587, 0.114]))[:, None]


def decoder(*nodes: onnx.NodeProto, channels: int = 4, **weights: np.ndarray) -> onnx.ModelProto:
    """Return a decoder of nodes that lead from `latents` to `pixels`."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", count, f"{name}_h", f"{name}_w"])
        for name, count in (("latents", channels), ("pixels", 3))
    ]
    values = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "decoder", ends[:1], ends[1:], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("size", [(2, 2), (2, 5), (7, 4)])
def test_gradient_of_matches_torch(size: tuple[int, int]) -> None:
    given = inputs(40, *size, 8) | {"step": np.array([0.5, 2], np.float32)}
    found = run(TINY / "gradient.onnx", given)
    latents, wanted, weights, structure, step = (torch.from_numpy(array) for array in given.values())
    latents.requires_grad_(True)
    shown = restore_model(TINY).decoder(latents, step)
    squares = (shown - wanted).square().sum(1, keepdim=True) * weights
    lost = lost_structure(shown, wanted)
    (squares.sum() + (structure * lost).sum()).backward()
    assert latents.grad is not None
    for name, expected in zip(NAMES, (F.avg_pool2d(squares, 8) * 64, lost, latents.grad), strict=True):
        close = expected.detach().numpy()
        np.testing.assert_allclose(found[name], close, rtol=0, atol=1e-5 * np.abs(close).max())


def require_gradient(model: onnx.ModelProto, scale: int, path: Path) -> None:
    """Compare a decoder's gradient, along some way, with what its own error changes by."""
    onnx.save(gradient_of(model, scale, (-1, 1)), path)
    given = inputs(4, 3, 4, scale)
    found = run(path, given)["gradient"]
    way = normal(*given["latents"].shape)

    def error(share: float) -> float:
        moved = given | {"latents": given["latents"] + np.float32(share) * way}
        errors, lost, _ = run(path, moved).values()
        return float(errors.sum(dtype=np.float64) + (moved["structure"] * lost).sum(dtype=np.float64))

    np.testing.assert_allclose((error(1e-3) - error(-1e-3)) / 2e-3, np.vdot(found, way), rtol=2e-2)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("bend", ["LeakyRelu", "Relu"])
def test_gradient_of_depth_to_space_matches_torch(mode: str, bend: str, tmp_path: Path) -> None:
    """With a kernel that is not square, both orders of depth, a plane that is added to itself, and a steep corner."""
    nodes = [
        helper.make_node("Conv", ["latents", "w", "b"], ["deep"], pads=[1, 2, 1, 2]),
        helper.make_node("DepthToSpace", ["deep"], ["wide"], blocksize=2, mode=mode),
        helper.make_node(bend, ["wide"], ["bent"]),
        helper.make_node("Mul", ["half", "bent"], ["less"]),
        helper.make_node("Add", ["bent", "less"], ["pixels"]),
    ]
    model = decoder(*nodes, w=normal(12, 4, 3, 5), b=normal(12), half=np.float32(0.5))
    require_gradient(model, 2, tmp_path / "gradient.onnx")


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_gradient_of_resize_matches_torch(factor: int, tmp_path: Path) -> None:
    """With padding that is not told in numbers, and a bilinear factor, even or odd."""
    nodes = [
        helper.make_node("Conv", ["latents", "w"], ["small"], kernel_shape=[3, 5], auto_pad="SAME_UPPER"),
        helper.make_node("Resize", ["small", "", "factors"], ["large"], mode="linear"),
        helper.make_node("ConvTranspose", ["latents", "t"], ["beside"], strides=[factor, factor]),
        helper.make_node("Add", ["large", "beside"], ["sum"]),
        helper.make_node("Identity", ["sum"], ["pixels"]),
    ]
    weights = {"w": normal(3, 4, 3, 5), "t": normal(4, 3, factor, factor)}
    model = decoder(*nodes, factors=np.array([1, 1, factor, factor], np.float32), **weights)
    require_gradient(model, factor, tmp_path / "gradient.onnx")


def test_write_gradient_of_tiny_equals_the_shipped_file(tmp_path: Path) -> None:
    """With no weights of its own but small ones."""
    (tmp_path / "decoder.onnx").write_bytes((TINY / "decoder.onnx").read_bytes())
    write_gradient(tmp_path / "decoder.onnx", tmp_path / "gradient.onnx", 8, (-1, 1))
    data = (tmp_path / "gradient.onnx").read_bytes()
    assert data == (TINY / "gradient.onnx").read_bytes()
    assert len(data) < 60_000


@pytest.mark.parametrize(
    ("channels", "node", "weights", "words"),
    [
        (3, helper.make_node("Sin", ["latents"], ["pixels"]), {}, "no gradient of the operator Sin"),
        (3, helper.make_node("Mul", ["latents", "latents"], ["pixels"]), {}, "whose factors both depend"),
        (
            4,
            helper.make_node("Conv", ["latents", "w"], ["pixels"], kernel_shape=[3, 3], strides=[2, 2]),
            {"w": normal(3, 4, 3, 3)},
            "with strides",
        ),
        (
            3,
            helper.make_node("Pad", ["latents", "p"], ["pixels"], mode="reflect"),
            {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
            "padding by one repeated row",
        ),
        (
            3,
            helper.make_node("Resize", ["latents", "", "s"], ["pixels"], mode="nearest"),
            {"s": np.array([1, 1, 2, 2], np.float32)},
            "bilinear resizing by an integer factor",
        ),
        (
            1,
            helper.make_node("Add", ["latents", "more"], ["pixels"]),
            {"more": normal(1, 3, 1, 1)},
            "broadcasts channels",
        ),
        (
            4,
            helper.make_node("Conv", ["latents", "w"], ["pixels"], group=2),
            {"w": normal(4, 2, 1, 1)},
            "dilations or groups",
        ),
    ],
)
def test_gradient_of_unsupported_operator_raises(
    channels: int, node: onnx.NodeProto, weights: dict[str, np.ndarray], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        gradient_of(decoder(node, channels=channels, **weights), 1, (-1, 1))
