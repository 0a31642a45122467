"""The decoder of Stable Diffusion 1.x on the CPU, with and without the edits of its graph: time and peak memory.

    python benchmarks/graph_edits.py FOLDER [--sides 256 512] [--rounds 3]
    python benchmarks/graph_edits.py FOLDER --one FOLDER/both.onnx "ort fp32" 512

The second command prints the figures of one run of a file that the first has written. The weights are random, which
changes neither time nor memory. Each run has a process of its own, so that its peak memory is its own. The variants
alternate in each round. Times are medians over the rounds, of the second run in a process. FOLDER takes 0.9 GB. Nothing
else should run meanwhile.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import write_results

from sdtrt.engine.networks.backends import NetworkLoader
from sdtrt.engine.networks.backends.openvino import OpenVino, best_precision
from sdtrt.engine.networks.backends.ort import OrtCpu

Edit = Callable[[Any], int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512], help="sides of the image, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("FILE", "BACKEND", "SIDE"), help="one run of a file")
    arguments = parser.parse_args()
    if arguments.one:
        path, backend, side = arguments.one
        print(json.dumps(run_once(Path(path), backend, int(side))))
        return
    variants = write_variants(arguments.folder)
    backends = ["ort fp32", *(f"openvino {precision}" for precision in dict.fromkeys(["fp32", best_precision()]))]
    rows = [row for side in arguments.sides for name in backends for row in compare(variants, name, side, arguments)]
    print(write_results("graph_edits", {"rows": rows}))


def write_variants(folder: Path) -> dict[str, Path]:
    """Write the decoder without edits, with each edit, and with all of them; return the files by name."""
    import onnx
    import torch
    from diffusers import AutoencoderKL

    from sdtrt.export.checkpoints.spaces import Factors
    from sdtrt.export.edits.group_norm import split_group_norms
    from sdtrt.export.edits.upsampling import fold_upsampling
    from sdtrt.export.graphs import onnx_graph, to_onnx
    from sdtrt.export.graphs.attention import bound_attention
    from sdtrt.export.graphs.networks import Decoder

    torch.manual_seed(0)
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    widths = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    decoder = Decoder(AutoencoderKL(**levels, **widths).eval(), Factors()).eval()
    bound_attention(decoder, half=False)
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "without.onnx"
    to_onnx.export(decoder, {"latents": torch.randn(2, 4, 16, 24)}, "pixels", plain)
    edits: dict[str, list[Edit]] = {
        "upsampling": [fold_upsampling],
        "group norms": [split_group_norms],
        "both": [fold_upsampling, split_group_norms],
    }
    files = {"without": plain}
    for name, chosen in edits.items():
        model = onnx_graph.read(plain)
        for edit in chosen:
            assert edit(model) > 0
        onnx.save(model, folder / f"{name}.onnx")
        files[name] = folder / f"{name}.onnx"
    return files


def compare(variants: dict[str, Path], backend: str, side: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each variant: milliseconds and peak memory."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for _ in range(arguments.rounds):
        for name, path in variants.items():
            command = [sys.executable, __file__, str(arguments.folder), "--one", str(path), backend, str(side)]
            found[name].append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return [
        {
            "side": side,
            "backend": backend,
            "edits": name,
            "ms": round(median(one["ms"] for one in runs)),
            "peak_mib": round(median(one["peak_mib"] for one in runs)),
        }
        for name, runs in found.items()
    ]


def run_once(path: Path, backend: str, side: int) -> dict[str, float]:
    """Return the milliseconds of a second run, and the peak memory of the process in MiB."""
    name, precision = backend.split()
    loader: NetworkLoader = OrtCpu() if name == "ort" else OpenVino(precision=precision)
    network = loader.load(path)
    inputs = {"latents": np.random.default_rng(1).standard_normal((1, 4, side // 8, side // 8)).astype(np.float32)}
    network.run(inputs)
    start = time.perf_counter()
    network.run(inputs)
    milliseconds = 1000 * (time.perf_counter() - start)
    return {"ms": milliseconds, "peak_mib": peak_mib()}


def peak_mib() -> float:
    """Return the peak memory of this process in MiB. `ru_maxrss` would include that of the process that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
