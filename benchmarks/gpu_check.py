"""Everything that only a GPU can tell: kernels' bits and bandwidth, pictures, latency beside PyTorch, memory.

    make gpu-check [BUNDLE=folder] [SECTIONS=tests,bandwidth] [DECODES=10000]
    python benchmarks/gpu_check.py [--sections a,b] [--again] [--seconds 20] [--bundle folder] [--decodes 10000]
    python benchmarks/gpu_check.py --rehearse --out folder/results.json

It runs from a checkout with any Python from 3.11 on that has numpy, pillow, cuda-core, cuda-bindings, pytest, and for
the comparison torch with CUDA, onnx; sdtrt itself need not be installed, nor diffusers, and nothing is fetched. Wheels
to bring where these are missing:

    constriction threadpoolctl  for everything
    hypothesis sortedcontainers for the tests
    onnxruntime-gpu flatbuffers for the networks on a GPU; of torch's version of CUDA, since it takes cuDNN and cuBLAS
                                from there. `onnxruntime` serves all that needs no network in it on the GPU, and
                                rehearsals; TensorRT, with engines, serves beside it.
    onnxscript onnx-ir ml-dtypes for the section `export`; `training` needs torch and onnx
    cupy-cuda13x                for a test of arrays of CuPy's

What is missing is named in the results, nothing is left out in silence. The kernels are those that are committed,
kernels/data/kernels.fatbin, machine code for sm_75 to sm_120 and PTX; no compiler is needed.

Each section runs in a process of its own, about `--seconds` long in what it repeats, and is killed after five times
that and a minute: one that fails, or takes the GPU's context with it, costs itself alone. Results are written after
every figure. Run again, the script goes on with the sections that have not ended well; `--again` does all of them.
The exit code is 1 if a section failed.

Figures of latency are wall-clock milliseconds after warm-up: median, 95th and 99th percentile of at most 200 calls.
`encode` and `decode` are whole calls of the codec, host to host, without layers; `analyse` and `synthesise` the same
without the entropy coder. PyTorch's own (`torch`, `torch-compiled`) are the networks alone, from device to device.
`sd1-trt`, `sd1-ort` and `sd1-torch` are the codec with SD 1.x's architecture and random weights, run by TensorRT, by
ONNX Runtime, and by PyTorch within the codec's own streams and kernels: the last where there is neither of the others.
The section `export` makes the bundle for the first two in build/gpu_check, unless `--bundle` names another.

`--rehearse` runs all of that on the device that tests emulate in this machine's memory (a C++ compiler is needed),
with small pictures and networks, and PyTorch on the CPU: what it finds is no measurement.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from gpu import ROOT
from gpu.check import Check, NotMeasuredError
from gpu.machine import Emulated, Gpu
from gpu.record import Record
from harness import RESULTS

from sdtrt.errors import DeviceError


def main() -> int:
    arguments = parsed()
    if arguments.only:
        return run_here(arguments)
    try:
        record = Record.go_on(arguments.out, machine_of(arguments).name())
    except (DeviceError, ValueError) as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    record.write()
    for name in arguments.sections:
        if record.has(name) and not arguments.again:
            print(f"{name}: there already", flush=True)
        else:
            record.begin(name)
            record = run_apart(name, arguments)
    failed = [name for name in arguments.sections if "failed" in record.sections[name]]
    print(f"{arguments.out}: {', '.join(failed) + ' failed' if failed else 'nothing failed'}")
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    from gpu.sections import SECTIONS

    parser = argparse.ArgumentParser(description="What only a GPU can tell.")
    parser.add_argument("--sections", type=lambda text: text.split(","), default=list(SECTIONS), metavar="A,B")
    parser.add_argument("--again", action="store_true", help="do sections that are there already, too")
    parser.add_argument("--seconds", type=float, help="for what a section repeats: 20, in a rehearsal 5")
    parser.add_argument("--bundle", help="name or folder of the bundle to time, in place of SD 1.x's architecture")
    parser.add_argument("--decodes", type=int, help="of the memory check: 10000, in a rehearsal 40")
    parser.add_argument("--rehearse", action="store_true", help="on the emulated device; needs --out")
    parser.add_argument("--out", type=Path, help="results; benchmarks/results/gpu_check.json if not said")
    parser.add_argument("--only", choices=SECTIONS, help=argparse.SUPPRESS)  # this process is a section's
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - SECTIONS.keys():
        parser.error(f"no sections {', '.join(sorted(unknown))}; there are: {', '.join(SECTIONS)}")
    if arguments.rehearse and (arguments.out is None or arguments.out.resolve().is_relative_to(RESULTS)):
        parser.error("a rehearsal is no measurement: say with --out where else its results should go")
    arguments.out = arguments.out or RESULTS / "gpu_check.json"
    arguments.seconds = arguments.seconds or (5 if arguments.rehearse else 20)
    arguments.decodes = arguments.decodes or (40 if arguments.rehearse else 10_000)
    return arguments


def machine_of(arguments: argparse.Namespace) -> Gpu:
    if arguments.rehearse:
        return Emulated(arguments.out.with_suffix("") / "sd1")
    return Gpu(ROOT / "build" / "gpu_check" / "sd1")


def run_apart(name: str, arguments: argparse.Namespace) -> Record:
    """Run a section in a process of its own and return the record with what came of it."""
    print(f"{name}: begins", flush=True)
    # A rehearsal costs nobody a machine, and may run beside much else.
    started, limit = time.perf_counter(), (5 * arguments.seconds + 60) * (20 if arguments.rehearse else 1)
    command = [sys.executable, __file__, "--only", name, "--out", str(arguments.out)]
    command += ["--seconds", str(arguments.seconds), "--decodes", str(arguments.decodes)]
    command += ["--rehearse"] * arguments.rehearse
    command += ["--bundle", arguments.bundle] if arguments.bundle else []
    try:
        code = subprocess.run(command, timeout=limit, check=False).returncode
        fault = f"its process ended with {code}" if code else None
    except subprocess.TimeoutExpired:
        fault = f"killed after {limit:.0f} s"
    seconds = time.perf_counter() - started
    record = Record.read(arguments.out)
    if fault:
        record.end(name, seconds, fault)
    section = record.sections[name]
    verdict = section.get("failed", {}).get("error") or section.get("not measured") or "done"
    print(f"{name}: {seconds:.1f} s, {verdict}", flush=True)
    return record


def run_here(arguments: argparse.Namespace) -> int:
    """Run a section in this process and record its figures as they come."""
    from gpu.sections import SECTIONS

    name, record, started = arguments.only, Record.read(arguments.out), time.perf_counter()
    error: Exception | None = None
    try:
        machine = machine_of(arguments)
        machine.set_current()
        check = Check(machine, arguments.seconds, arguments.decodes, arguments.bundle)
        for key, figures in SECTIONS[name](check):
            record.add(name, key, figures)
    except ModuleNotFoundError as missing:
        error = NotMeasuredError(f"{missing.name} is not installed")
    except Exception as found:  # whatever it is, it is this section's alone
        error = found
    record.end(name, time.perf_counter() - started, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
