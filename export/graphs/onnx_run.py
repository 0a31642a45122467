"""Execution of an ONNX model without optimisation, with access to any of its tensors."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from sdtrt.engine.networks.backends.ort import import_onnxruntime
from sdtrt.export.graphs import onnx_graph


def run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the named tensors of a model for `inputs`, computed by ONNX Runtime on the CPU without optimisation.

    Arguments:
        model: The model.
        inputs: Its inputs by name.
        names: Names of outputs or inner tensors.
    """
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exposed.onnx"
        onnx.save(exposed, path, save_as_external_data=onnx_graph.nbytes(exposed) > onnx_graph.MAX_INLINE)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(list(names), dict(inputs)), strict=True))
