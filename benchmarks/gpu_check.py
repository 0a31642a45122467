"""Checks and figures that need a GPU: results and bandwidth of the kernels, images, latency beside PyTorch, memory.

    make gpu-check [BUNDLE=folder] [SECTIONS=tests,bandwidth] [DECODES=10000]
    python benchmarks/gpu_check.py [--sections a,b] [--again] [--seconds 20] [--bundle folder] [--decodes 10000]
    python benchmarks/gpu_check.py --rehearse --out folder/results.json

The script runs from a checkout with Python 3.11 or later and numpy, pillow, cuda-core, cuda-bindings and pytest. The
comparison needs torch with CUDA, and onnx. Neither sdtrt nor diffusers need to be installed, and nothing is downloaded.
Wheels to bring if they are missing:

    constriction threadpoolctl   for all sections
    hypothesis sortedcontainers  for the tests
    onnxruntime-gpu flatbuffers  for networks on the GPU, of torch's CUDA version, since it loads torch's cuDNN and
                                 cuBLAS. `onnxruntime` suffices for rehearsals and for sections without ONNX Runtime on
                                 the GPU. TensorRT with engines is an alternative.
    onnxscript onnx-ir ml-dtypes for the sections `export` and `graph-edits`; `training` needs torch and onnx
    cupy-cuda13x                 for a test of CuPy's arrays

The results name missing packages. The kernels are the committed ones, kernels/data/kernels.fatbin: machine code for
sm_75 to sm_120 and PTX. No compiler is needed.

Each section runs in a process of its own, so that a failure, even one that destroys the GPU's context, affects no other
section. A section repeats its calls for about `--seconds` and is killed after five times that and a minute. Results are
written after every figure. A second run continues with the sections that failed or were not measured; `--again` repeats
all sections. The exit code is 1 if a section failed.

Latencies are wall-clock milliseconds after warm-up: median, 95th and 99th percentile of at most 200 calls. `encode` and
`decode` are complete calls of the codec, from host to host, without layers. `analyse` and `synthesise` leave out the
entropy coder. `torch` and `torch-compiled` are PyTorch's networks alone, from device to device. `sd1-trt`, `sd1-ort`
and `sd1-torch` are the codec with SD 1.x's architecture and random weights. TensorRT, ONNX Runtime, or PyTorch within
the codec's streams and kernels run its networks. The section `export` writes the bundle for the first two to
build/gpu_check, unless `--bundle` names another. `graph-edits` times its decoder by ONNX Runtime with and without the
edits of `sdtrt.export.edits`, in both layouts of ONNX Runtime. The group norms for CUDA are not part of an export yet.

`--rehearse` runs everything on the emulated device of the tests, in host memory, with small images and networks, and
PyTorch on the CPU. A C++ compiler is needed. The figures of a rehearsal are not measurements.
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
        record = Record.resume(arguments.out, machine_of(arguments).name())
    except (DeviceError, ValueError) as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    record.write()
    for name in arguments.sections:
        if record.is_complete(name) and not arguments.again:
            print(f"{name}: measured before", flush=True)
        else:
            record.begin(name)
            record = run_in_child(name, arguments)
    failed = [name for name in arguments.sections if "failed" in record.sections[name]]
    print(f"{arguments.out}: {', '.join(failed) + ' failed' if failed else 'nothing failed'}")
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    from gpu.sections import SECTIONS

    parser = argparse.ArgumentParser(description="Checks and figures that need a GPU.")
    parser.add_argument("--sections", type=lambda text: text.split(","), default=list(SECTIONS), metavar="A,B")
    parser.add_argument("--again", action="store_true", help="repeat sections that were measured before")
    parser.add_argument("--seconds", type=float, help="for the calls of a section (default 20, in a rehearsal 5)")
    parser.add_argument("--bundle", help="name or folder of the bundle to time, in place of SD 1.x's architecture")
    parser.add_argument("--decodes", type=int, help="of the memory check (default 10000, in a rehearsal 40)")
    parser.add_argument("--rehearse", action="store_true", help="on the emulated device; needs --out")
    parser.add_argument("--out", type=Path, help="results (default benchmarks/results/gpu_check.json)")
    parser.add_argument("--only", choices=SECTIONS, help=argparse.SUPPRESS)  # run one section in this process
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - SECTIONS.keys():
        parser.error(f"no sections {', '.join(sorted(unknown))}; there are: {', '.join(SECTIONS)}")
    if arguments.rehearse and (arguments.out is None or arguments.out.resolve().is_relative_to(RESULTS)):
        parser.error("a rehearsal is no measurement: name a file outside benchmarks/results with --out")
    arguments.out = arguments.out or RESULTS / "gpu_check.json"
    arguments.seconds = arguments.seconds or (5 if arguments.rehearse else 20)
    arguments.decodes = arguments.decodes or (40 if arguments.rehearse else 10_000)
    return arguments


def machine_of(arguments: argparse.Namespace) -> Gpu:
    if arguments.rehearse:
        return Emulated(arguments.out.with_suffix("") / "sd1")
    return Gpu(ROOT / "build" / "gpu_check" / "sd1")


def run_in_child(name: str, arguments: argparse.Namespace) -> Record:
    """Run a section in a process of its own and return the updated record."""
    print(f"{name}: begins", flush=True)
    # A rehearsal may run on a busy machine.
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
    """Run a section in this process and record each figure as soon as it is measured."""
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
    except Exception as failure:  # recorded as the failure of this section
        error = failure
    record.end(name, time.perf_counter() - started, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
