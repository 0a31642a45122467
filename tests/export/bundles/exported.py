"""Helpers for tests that compare exported networks with torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

TOLERANCES = {"": 1e-4, ".fp16": 3e-2}  # by the suffix of the file; in parts of the reference's root mean square


def run_onnx(path: Path, **inputs: np.ndarray) -> np.ndarray:
    """Return the first output of an ONNX file; inputs are cast to half precision where the file takes it."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    half = {value.name: "16" in value.type for value in session.get_inputs()}
    return session.run(None, {n: v.astype(np.float16 if half[n] else np.float32) for n, v in inputs.items()})[0]


def read_manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "bundle.json").read_text())


def assert_close(actual: np.ndarray, expected: torch.Tensor, tolerance: float) -> None:
    scale = float(expected.square().mean().sqrt())
    np.testing.assert_allclose(actual, expected.numpy(), atol=tolerance * scale, rtol=0)


def assert_clean(path: Path) -> None:
    """Check that a graph has no folders of the build machine, casts or random numbers.

    Group norms are whole in half precision, for TensorRT, and split in single precision, for ONNX Runtime.
    """
    assert b"site-packages" not in path.read_bytes()
    operators = {node.op_type for node in onnx.load(path).graph.node}
    norms = ["GroupNormalization", "InstanceNormalization"]
    expected, other = norms if ".fp16" in path.name else norms[::-1]
    assert expected in operators
    assert operators.isdisjoint({"Cast", "RandomNormalLike", other})
