"""Export of torch networks to ONNX files."""

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from sdtrt.export.graphs import onnx_graph
from sdtrt.export.libraries import quietly


def export(network: nn.Module, example: dict[str, Tensor], output: str, path: Path) -> Any:
    """Write `network` as ONNX with dynamic batch, height and width, and return the exported program.

    Arguments:
        network: The network; its arguments are in the order of `example`.
        example: Inputs by name. The batch size must not be 1 and height must differ from width, because the tracer
            would treat these sizes as constant or equal.
        output: Name of the output.
        path: The new file. Weights above `onnx_graph.MAX_INLINE` bytes go to a second file with the suffix `.data`.
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
    """Give the dynamic axes of inputs and outputs descriptive names."""
    names = ("batch", "channels", "height", "width")
    for prefix, values in (("", model.graph.input), ("out_", model.graph.output)):
        for value in values:
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                if not dimension.HasField("dim_value"):
                    dimension.dim_param = names[axis] if axis == 0 else f"{prefix}{names[axis]}"
