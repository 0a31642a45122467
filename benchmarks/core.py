"""What the compiled core is worth, and where the time of one `sdtrt decode` goes. CPU only.

    python benchmarks/core.py [--runs 15]
    python benchmarks/core.py --waterfall docs/waterfall.svg [--runs 15]

Without an option: times of the entropy stage and of the residual layer, by the core and in NumPy. Calls by both take
turns in one process, with one thread of BLAS. `--waterfall`: phases of one decode from the shell, in new processes.
The photo is the one of `speed.py`: 768x512, at quality 50, the residual at quality 90; latents of `sd1` are 4x64x64.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from harness import interleaved_medians, milliseconds, new_plot, run_python, sample_photo, save_plot, write_results
from PIL import Image

import sdtrt
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import DEFAULT_EFFORT
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.coding.priors.adaptive_fit import fit_adaptive
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.engine.format import container
from sdtrt.engine.layers.dct import forward_dct
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.layers.residual_codec import encode_residual
from sdtrt.kernels import core
from sdtrt.kernels.reference import scale_to_steps
from sdtrt.process.threads import limit_blas_to_one_thread

Call = Callable[[], Any]
# Runs in a new process with the arguments of `sdtrt`. It prints the start and the milliseconds of each phase, and the
# time since the parent has started it.
PHASES = """
import json, os, sys, time
started = float(os.environ["SDTRT_BENCHMARK_STARTED"])
phases = {"Python starts": (0, 1000 * (time.time() - started))}

def timed(name, call):
    begin = time.time()
    result = call()
    phases.setdefault(name, (1000 * (begin - started), 1000 * (time.time() - begin)))
    return result

def wrap(owner, attribute, name):
    function = getattr(owner, attribute)
    setattr(owner, attribute, lambda *args, **options: timed(name, lambda: function(*args, **options)))

def imports(*names):
    for name in names:
        __import__(name)

timed("import NumPy", lambda: imports("numpy"))
timed("import Pillow", lambda: imports("PIL.Image", "PIL.PngImagePlugin"))
timed("import ONNX Runtime", lambda: imports("onnxruntime"))
timed("import sdtrt", lambda: imports("sdtrt.cli.images", "sdtrt.engine.networks.pipeline"))
from PIL import Image
from sdtrt.__main__ import program
from sdtrt.engine.coding.priors import prior
from sdtrt.engine.coding.streams import core_streams
from sdtrt.engine.networks.backends import ort
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.kernels import core
wrap(prior, "load_prior_file", "load the prior")
wrap(core_streams, "decode", "decode the symbols")
wrap(Bundle, "file", "check the network's hash")
wrap(ort, "open_session", "open the decoder network")
wrap(ort.OrtNetwork, "run", "run the decoder network")
wrap(core, "planes_to_pixels", "convert to pixels")
wrap(Image.Image, "save", "write the PNG file")
code = program()
print(json.dumps(phases | {"total": (0, 1000 * (time.time() - started))}))
sys.exit(code)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the compiled core and one decode from the shell.")
    parser.add_argument("--waterfall", type=Path, metavar="SVG", help="phases of one decode from the shell, as a plot")
    parser.add_argument("--runs", type=int, default=15, help="runs of each median (default 15)")
    arguments = parser.parse_args()
    if arguments.waterfall:
        figures = shell_phases(arguments.runs)
        plot_waterfall(figures["phases_ms"], arguments.waterfall)
        name = "waterfall"
    else:
        limit_blas_to_one_thread()
        name, figures = "core", compare_with_numpy(arguments.runs)
    print(json.dumps(figures, indent=1))
    print(write_results(name, figures))


def compare_with_numpy(runs: int) -> dict[str, Any]:
    """Return the milliseconds of each stage, by the core and in NumPy, and the instructions that the core uses."""
    compiled = core.compiled()
    if compiled is None:
        raise SystemExit(f"core.py: the core is {core.description()}")
    figures = {}
    with mock.patch.object(core, "threads_in_tile", return_value=1):
        for name, call in stage_calls().items():
            by_core, by_numpy = interleaved_medians(
                [lambda call=call: milliseconds(call), lambda call=call: milliseconds(in_numpy(call))], runs
            )
            figures[name] = {"core": round(by_core, 2), "numpy": round(by_numpy, 2)}
    return {"instructions": compiled.instruction_set(), "milliseconds": figures}


def in_numpy(call: Call) -> Call:
    """Return a call without the core."""

    def without_core() -> Any:
        with mock.patch.object(core, "compiled", return_value=None):
            return call()

    return without_core


def stage_calls() -> dict[str, Call]:
    """Return the calls that are measured."""
    photo, engine = sample_photo(), EngineCodec("tiny", device="cpu")
    file = container.read(sdtrt.encode(photo, quality=50))
    reader, code = LatentReader(file), file.header.step_code
    tiny = scale_to_steps(engine.analyse(photo), reader.profile.mean, reader.channel_steps)
    smooth = np.cumsum(np.random.default_rng(1).normal(size=(4, 64, 64)), axis=2).astype(np.float32) / 2
    rounded = np.rint(smooth).astype(np.int16)
    calls = stream_calls("tiny 40x64x96", tiny, shipped_prior("tiny-1"), code)
    calls |= stream_calls("sd1 4x64x64", smooth, shipped_prior("sd1-1"), 2048)
    calls |= stream_calls("adaptive 4x64x64", smooth, fit_adaptive(rounded), 2048)
    calls["adaptive 4x64x64, fit"] = lambda: fit_adaptive(rounded)
    fine = container.read(sdtrt.encode(photo, quality=90))
    residual = photo.astype(np.int16) - engine.reconstruct(fine)
    calls["residual, encode"] = lambda: encode_residual(forward_dct(residual), fine.layout.residual_step)
    calls["residual, decode and add"] = lambda: LayerReader(fine).apply(np.zeros_like(photo))
    decode = calls["tiny 40x64x96, decode"]
    pool = ThreadPoolExecutor(2)
    calls["four streams of tiny, one thread"] = lambda: [decode() for _ in range(4)]
    calls["four streams of tiny, two threads"] = lambda: [*pool.map(lambda _: decode(), range(4))]
    return calls


def stream_calls(name: str, scaled: np.ndarray, prior: Any, step_code: int) -> dict[str, Call]:
    """Return calls that encode latents in quantization steps with RDOQ, and decode the stream."""

    def encode() -> bytes:
        return stream_codec.quantize_and_encode(scaled, prior, step_code, DEFAULT_EFFORT).data

    stream = encode()
    return {
        f"{name}, encode": encode,
        f"{name}, decode": lambda: stream_codec.decode_stream(stream, scaled.shape, prior, step_code),
    }


def shell_phases(runs: int) -> dict[str, Any]:
    """Return start and length of each phase of `sdtrt decode`, in milliseconds: medians of new processes."""
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "photo.sdt", Path(folder) / "photo.png"
        path.write_bytes(sdtrt.encode(Image.fromarray(sample_photo()), quality=50))
        arguments = ("decode", path, "-o", output, "--force", "--quiet", "--device", "cpu", "--backend", "ort")
        measured = []
        for _ in range(runs + 1):
            printed = run_python("-c", PHASES, *arguments, SDTRT_BENCHMARK_STARTED=str(time.time()))
            measured.append(json.loads(printed.splitlines()[-1]))
    medians = {
        name: [round(statistics.median(run[name][n] for run in measured[1:]), 1) for n in range(2)]
        for name in measured[0]
    }
    return {"phases_ms": medians, "processors": len(os.sched_getaffinity(0))}


def plot_waterfall(phases: dict[str, list[float]], path: Path) -> None:
    """Draw the phases as bars from their start on."""
    figure, axes = new_plot(8, 3.2)
    names = [name for name in phases if name != "total"]
    for row, name in enumerate(names):
        start, length = phases[name]
        axes.barh(row, length, left=start, color="#3b6ea5")
        axes.text(start + length + 5, row, f"{length:.0f} ms", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * phases["total"][1])
    axes.set_xlabel("milliseconds since the shell started the command")
    save_plot(figure, path)


if __name__ == "__main__":
    main()
