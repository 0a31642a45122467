"""Edits of the graph in a file."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from sdtrt.export.edits import edit_graph
from sdtrt.export.graphs import onnx_graph, parity, to_onnx
from sdtrt.export.graphs.bundle_part import BundlePart, ExportRecord, write_part


class Network(nn.Module):
    """A group norm, an upsampling and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, plane: Tensor) -> Tensor:
        return self.conv(nn.functional.interpolate(self.norm(plane), scale_factor=2.0, mode="nearest"))


@pytest.fixture
def part() -> BundlePart:
    torch.manual_seed(0)
    return BundlePart("decoder", Network().eval(), {"latents": torch.randn(2, 8, 8, 12)}, "pixels")


@pytest.mark.filterwarnings("ignore")  # of the exporter of PyTorch
@pytest.mark.parametrize("external", [False, True])
def test_edit_graph_keeps_the_function_and_the_size(
    tmp_path: Path, part: BundlePart, external: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if external:
        monkeypatch.setattr(onnx_graph, "MAX_INLINE", 100)
    path = tmp_path / "decoder.onnx"
    program = to_onnx.export(part.network, part.inputs, part.output, path)
    assert edit_graph(path, half=False) == {"folded_upsamplings": 1, "split_group_norms": 1}
    parity.require_parity(path, [part.inputs], parity.expected(part.network, [part.inputs]), parity.SINGLE, program)
    data = path.with_name("decoder.onnx.data")
    assert data.exists() == external
    if external:
        assert data.stat().st_size <= onnx_graph.nbytes(onnx.load(path)) + 4096 * 16  # tensors may be aligned
    assert edit_graph(path, half=False) == {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("edit", [False, True])
def test_write_part_edits_graphs_unless_told_not_to(tmp_path: Path, part: BundlePart, edit: bool) -> None:
    written = ExportRecord()
    write_part(part, tmp_path, written, half=True, quiet=True, edit=edit)
    operators = {
        path.name: {node.op_type for node in onnx.load(path).graph.node} for path in sorted(tmp_path.glob("*.onnx"))
    }
    assert ("Resize" in operators["decoder.onnx"]) == ("Resize" in operators["decoder.fp16.onnx"]) == (not edit)
    assert ("GroupNormalization" in operators["decoder.onnx"]) == (not edit)
    assert "GroupNormalization" in operators["decoder.fp16.onnx"]
    assert written.edits == (
        {
            "decoder.onnx": {"folded_upsamplings": 1, "split_group_norms": 1},
            "decoder.fp16.onnx": {"folded_upsamplings": 1},
        }
        if edit
        else {}
    )
