"""Half precision: where activations overflow, single precision stays, and only there."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.spaces import Factors
from sdtrt.export.graphs import onnx_graph, to_onnx
from sdtrt.export.graphs.networks import Decoder
from sdtrt.export.graphs.onnx_half import to_fp16
from sdtrt.export.graphs.torch_half import to_half

LATENTS = torch.linspace(-2, 2, 2 * 4 * 8 * 12).reshape(2, 4, 8, 12)


def decoder(models: SimpleNamespace) -> Decoder:
    return Decoder(models.autoencoder_kl(), Factors()).eval()


def blown_up(models: SimpleNamespace, factor: float) -> Decoder:
    """Return a decoder whose middle carries values `factor` times as large, as SDXL's does."""
    network = decoder(models)
    with torch.no_grad():
        resnet = network.decoder.up_blocks[1].resnets[0]
        resnet.conv2.weight *= factor
        resnet.conv2.bias *= factor
    return network


def test_to_half_small_activations_need_no_islands(models: SimpleNamespace) -> None:
    network = decoder(models)
    assert to_half(network, (LATENTS,)) == []
    assert {p.dtype for p in network.parameters()} == {torch.float16}


def test_to_half_large_activations_become_islands(models: SimpleNamespace, tmp_path: Path) -> None:
    expected = blown_up(models, 3e6)(LATENTS).detach()
    assert torch.isfinite(expected).all()
    naive = blown_up(models, 3e6).half()(LATENTS.half())
    assert not torch.isfinite(naive).all()
    network = blown_up(models, 3e6)
    islands = to_half(network, (LATENTS,))
    assert "decoder.up_blocks.1.resnets.0" in islands
    assert "decoder.conv_in" not in islands
    assert "decoder.mid_block.attentions.0" not in islands
    found = network(LATENTS.half())
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
    to_onnx.export(network, {"latents": LATENTS.half()}, "pixels", tmp_path / "decoder.fp16.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "decoder.fp16.onnx").graph.node]
    assert 1 <= kinds.count("Cast") <= 4
    session = onnxruntime.InferenceSession(tmp_path / "decoder.fp16.onnx", providers=["CPUExecutionProvider"])
    (ran,) = session.run(None, {"latents": LATENTS.half().numpy()})
    np.testing.assert_allclose(ran.astype(np.float32), expected, atol=0.02, rtol=0.02)


class Reckless(torch.nn.Module):
    """Overflows between its layers, where no island can be."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x * 1e6 / 1e6)


def test_to_half_overflow_outside_of_blocks_raises() -> None:
    with pytest.raises(BundleError, match="--no-fp16"):
        to_half(Reckless(), (LATENTS,))


def chain(path: Path, factor: float) -> Path:
    """Three multiplications: by `factor`, by 2, and back."""
    names = ["x", "up", "more", "y"]
    factors = {"a": factor, "b": 2.0, "c": 1 / (2 * factor)}
    nodes = [helper.make_node("Mul", [names[i], name], [names[i + 1]]) for i, name in enumerate(factors)]
    plane = ["n", 1, "h", "w"]
    model = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, plane)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, plane)],
        [numpy_helper.from_array(np.float32(value), name) for name, value in factors.items()],
    )
    onnx.save(helper.make_model(model, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("factor", "islands", "casts"), [(10.0, 0, 0), (1e6, 3, 2)])
@pytest.mark.parametrize("stripped", [False, True])
def test_to_fp16_large_activations_become_islands(
    tmp_path: Path, factor: float, islands: int, casts: int, stripped: bool
) -> None:
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 1, 3, 4)
    path = chain(tmp_path / "chain.onnx", factor)
    if stripped:
        onnx_graph.write(onnx_graph.read(path), path)
    model, kept = to_fp16(path, {"x": x})
    assert len(kept) == islands
    assert [node.op_type for node in model.graph.node].count("Cast") == casts
    onnx_graph.write(model, tmp_path / "half.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.astype(np.float16)})
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, x, atol=2e-3)
