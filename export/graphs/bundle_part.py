"""One network of a bundle: its ONNX files in single and half precision, each compared with torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sdtrt.errors import BundleError
from sdtrt.export.folder import free_bytes
from sdtrt.export.graphs import parity, to_onnx
from sdtrt.export.graphs.attention import bound_attention
from sdtrt.export.graphs.torch_half import to_half
from sdtrt.progress import announce

NBYTES_PER_WEIGHT = 4 + 2  # in single and in half precision


@dataclass(slots=True)
class BundlePart:
    """A network with inputs of a real image, planes (2, C, H, W) and vectors (2,), to be traced and checked with."""

    name: str
    network: nn.Module
    inputs: dict[str, Tensor]
    output: str


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """What the manifest says of the parts: figures of each file, and blocks that stayed in single precision."""

    parity: dict[str, Any] = field(default_factory=dict)
    islands: dict[str, list[str]] = field(default_factory=dict)


def write_part(part: BundlePart, folder: Path, written: ExportRecord, *, half: bool, quiet: bool) -> None:
    """Write a part's files and note them in `written`; with `half`, the network is in half precision afterwards.

    Raises `BundleError` where ONNX and torch differ, half precision cannot hold the network, or the disk the files.
    """
    _require_space(part, folder)
    inputs = [_cropped(part.inputs, 2, 3), _cropped(part.inputs, 3, 2)]
    bound_attention(part.network, half=False)
    references = parity.expected(part.network, inputs)
    path = folder / f"{part.name}.onnx"
    announce(f"{part.name}: to ONNX", quiet=quiet)
    program = to_onnx.export(part.network, inputs[0], part.output, path)
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
    announce(f"{part.name}: comparing half precision with torch", quiet=quiet)
    written.parity[path.name] = parity.require_parity(path, inputs, references, parity.HALF, program)


def _cropped(inputs: dict[str, Tensor], rows: int, columns: int) -> dict[str, Tensor]:
    """Return inputs whose planes are cut to so many quarters of their height and width."""

    def crop(tensor: Tensor) -> Tensor:
        height, width = (n // 4 * quarters for n, quarters in zip(tensor.shape[2:], (rows, columns), strict=True))
        return tensor[:, :, :height, :width].contiguous()

    return {name: crop(tensor) if tensor.ndim == 4 else tensor for name, tensor in inputs.items()}


def _require_space(part: BundlePart, folder: Path) -> None:
    needed = NBYTES_PER_WEIGHT * sum(tensor.numel() for tensor in part.network.state_dict().values())
    free = free_bytes(folder)
    if free < needed:
        raise BundleError(f"the disk has {free >> 20} MiB left, {part.name} needs {needed >> 20} MiB; make room for it")
