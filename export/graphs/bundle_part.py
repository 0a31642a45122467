"""Export of one network of a bundle: ONNX files in single and half precision, each compared with torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sdtrt.errors import BundleError
from sdtrt.export.edits import edit_graph
from sdtrt.export.folder import free_bytes
from sdtrt.export.graphs import parity, to_onnx
from sdtrt.export.graphs.attention import bound_attention
from sdtrt.export.graphs.torch_half import to_half
from sdtrt.progress import announce

NBYTES_PER_WEIGHT = 4 + 2  # single plus half precision


@dataclass(slots=True)
class BundlePart:
    """A network of a bundle.

    Attributes:
        name: Name of the network, which is the stem of its files.
        network: The network; the export changes it.
        inputs: Inputs from real images for tracing and checks: planes (2, C, H, W) and vectors (2,), by name.
        output: Name of its output.
    """

    name: str
    network: nn.Module
    inputs: dict[str, Tensor]
    output: str


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """Results of the exports for the manifest.

    Attributes:
        parity: Differences from torch, by file name.
        islands: Names of the blocks that stay in single precision, by network.
        edits: Numbers of the edits of the graph, by file name and by the name of the edit.
    """

    parity: dict[str, Any] = field(default_factory=dict)
    islands: dict[str, list[str]] = field(default_factory=dict)
    edits: dict[str, dict[str, int]] = field(default_factory=dict)


def write_part(
    part: BundlePart, folder: Path, written: ExportRecord, *, half: bool, quiet: bool, edit: bool = True
) -> None:
    """Write the files of a network, and add the results to `written`.

    Arguments:
        part: The network; with `half` it is in half precision afterwards.
        folder: The bundle's folder.
        written: The results so far.
        half: Whether a file in half precision is also written.
        quiet: Whether stages are not printed.
        edit: Whether the graphs are edited so that they run faster.

    Raises:
        BundleError: ONNX and torch differ, the network overflows in half precision, or the disk is too small.
    """
    _require_space(part, folder)
    inputs = [_cropped(part.inputs, 2, 3), _cropped(part.inputs, 3, 2)]
    bound_attention(part.network, half=False)
    references = parity.expected(part.network, inputs)
    path = folder / f"{part.name}.onnx"
    announce(f"{part.name}: to ONNX", quiet=quiet)
    program = to_onnx.export(part.network, inputs[0], part.output, path)
    if edit:
        written.edits[path.name] = edit_graph(path, half=False)
    announce(f"{part.name}: comparing it with torch", quiet=quiet)
    written.parity[path.name] = parity.require_parity(path, inputs, references, parity.SINGLE, program)
    if not half:
        return
    path = folder / f"{part.name}.fp16.onnx"
    announce(f"{part.name}: to ONNX in half precision", quiet=quiet)
    written.islands[part.name] = to_half(part.network, tuple(part.inputs.values()))
    bound_attention(part.network, half=True)
    example = {name: tensor.half() if tensor.ndim == 4 else tensor for name, tensor in inputs[0].items()}
    to_onnx.export(part.network, example, part.output, path)
    if edit:
        written.edits[path.name] = edit_graph(path, half=True)
    announce(f"{part.name}: comparing half precision with torch", quiet=quiet)
    written.parity[path.name] = parity.require_parity(path, inputs, references, parity.HALF, program)


def _cropped(inputs: dict[str, Tensor], rows: int, columns: int) -> dict[str, Tensor]:
    """Return inputs whose planes are cropped to `rows` quarters of the height and `columns` quarters of the width."""

    def crop(tensor: Tensor) -> Tensor:
        height, width = (n // 4 * quarters for n, quarters in zip(tensor.shape[2:], (rows, columns), strict=True))
        return tensor[:, :, :height, :width].contiguous()

    return {name: crop(tensor) if tensor.ndim == 4 else tensor for name, tensor in inputs.items()}


def _require_space(part: BundlePart, folder: Path) -> None:
    needed = NBYTES_PER_WEIGHT * sum(tensor.numel() for tensor in part.network.state_dict().values())
    free = free_bytes(folder)
    if free < needed:
        raise BundleError(f"the disk has {free >> 20} MiB left, {part.name} needs {needed >> 20} MiB; free some space")
