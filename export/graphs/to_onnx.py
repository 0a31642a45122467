"""Torch networks to ONNX files."""

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from sdtrt.export.graphs import onnx_graph
from sdtrt.export.libraries import quietly


def export(network: nn.Module, example: dict[str, Tensor], output: str, path: Path) -> Any:
    """Write `network` as ONNX, all axes of planes but the channels of any length, and return the exported program.

    `example` gives names, dtypes and ranks; batch must not be 1, nor height be width, lest the tracer take them for
    one. Large networks have their weights in a file beside, `path` and `.data`.
    """
    free = {
        name: dict.fromkeys((0, 2, 3) if tensor.ndim == 4 else (0,), torch.export.Dim.AUTO)
        for name, tensor in example.items()
    }
    with quietly(), torch.no_grad():
        program = torch.onnx.export(
            network,
            tuple(example.values()),
            dynamo=True,
            opset_version=onnx_graph.OPSET,
            input_names=list(example),
            output_names=[output],
            dynamic_shapes=tuple(free.values()),
            verbose=False,
        )
    nbytes = sum(parameter.nbytes for parameter in network.state_dict().values())
    program.save(path, external_data=nbytes > onnx_graph.MAX_INLINE)
    _name_axes(onnx_graph.strip(model := onnx.load(path, load_external_data=False)))
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(path)
    return program.exported_program


def _name_axes(model: onnx.ModelProto) -> None:
    """Give the free axes of inputs and outputs names that mean something."""
    names = ("batch", "channels", "height", "width")
    for prefix, values in (("", model.graph.input), ("out_", model.graph.output)):
        for value in values:
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                if not dimension.HasField("dim_value"):
                    dimension.dim_param = names[axis] if axis == 0 else f"{prefix}{names[axis]}"
