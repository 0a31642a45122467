"""Edits of exported ONNX graphs that keep their function, and make them faster or smaller in memory.

`edit_graph` is a part of every export. `cuda_group_norm` is not, since no GPU has shown yet that it gains:
`benchmarks/gpu_check.py` measures it.
"""

from pathlib import Path

from sdtrt.export.edits.group_norm import split_group_norms
from sdtrt.export.edits.upsampling import fold_upsampling
from sdtrt.export.graphs import onnx_graph


def edit_graph(path: Path, *, half: bool) -> dict[str, int]:
    """Edit the graph in an ONNX file, and return the number of edits by name, without those that do not occur.

    Arguments:
        path: The file.
        half: Whether the network is in half precision. Then it keeps its group norms, for TensorRT.
    """
    model = onnx_graph.read(path)
    edits = {"folded_upsamplings": fold_upsampling(model)}
    if not half:
        edits["split_group_norms"] = split_group_norms(model)
    if any(edits.values()):
        onnx_graph.write(model, path)
    return {name: count for name, count in edits.items() if count}
