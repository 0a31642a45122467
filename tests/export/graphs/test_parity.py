"""Torch against ONNX: an export that differs is refused, and the message says where."""

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.spaces import Factors
from sdtrt.export.graphs import parity, to_onnx
from sdtrt.export.graphs.networks import Decoder


@pytest.fixture(scope="module")
def made(models: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    network = Decoder(models.autoencoder_tiny(), Factors()).eval()
    inputs = [{"latents": torch.randn(2, 4, 6, 8)}]
    path = tmp_path_factory.mktemp("exported") / "decoder.onnx"
    references = parity.expected(network, inputs)
    program = to_onnx.export(network, inputs[0], "pixels", path)
    return SimpleNamespace(path=path, inputs=inputs, references=references, program=program, network=network)


@pytest.fixture
def exported(made: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """Return what is `made`, to be spoilt."""
    own = shutil.copy(made.path, tmp_path)
    return SimpleNamespace(**vars(made) | {"path": Path(own), "network": copy.deepcopy(made.network)})


def check(exported: SimpleNamespace, tolerance: parity.Tolerance = parity.SINGLE) -> list[dict[str, object]]:
    return parity.require_parity(exported.path, exported.inputs, exported.references, tolerance, exported.program)


def spoil(path: Path, which: int, factor: float = 2) -> str:
    """Multiply a convolution's weights and return the name of its output."""
    model = onnx.load(path)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    node = convolutions[which]
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    tensor.CopyFrom(numpy_helper.from_array(np.float32(factor) * numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, path)
    return str(node.output[0])


def test_require_parity_equal_networks_give_figures(exported: SimpleNamespace) -> None:
    (figures,) = check(exported)
    assert figures["input"] == "2x4x6x8"
    assert figures["largest"] < 1e-3


@pytest.mark.parametrize("which", [0, 3, -2])
def test_require_parity_first_different_tensor_is_named(exported: SimpleNamespace, which: int) -> None:
    name = spoil(exported.path, which)
    with pytest.raises(BundleError, match=rf"decoder\.onnx differs.*first tensor that differs is '{name}', of Conv"):
        check(exported)


def test_require_parity_works_after_conversion_to_half(exported: SimpleNamespace) -> None:
    name = spoil(exported.path, 3, factor=100)
    exported.network.half()
    with pytest.raises(BundleError, match=f"'{name}', of Conv"):
        check(exported, parity.HALF)


def test_compare_nan_is_not_within_tolerance() -> None:
    reference = np.ones((2, 3))
    assert parity.compare(reference, reference).within(parity.SINGLE)
    assert not parity.compare(reference * np.nan, reference).within(parity.HALF)
    assert not parity.compare(reference[:1], reference).within(parity.HALF)
