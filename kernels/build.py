"""The kernels, compiled: data/kernels.fatbin, and kernels.json, which says of what and how. Run by `make kernels`."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from sdtrt.atomic import replace_file

FOLDER = Path(__file__).parent
SOURCES = FOLDER / "cuda"
FATBIN, RECORD = FOLDER / "data" / "kernels.fatbin", FOLDER / "data" / "kernels.json"

# What the bits depend on: each operation is rounded by itself, divisions correctly, and nothing is flushed to 0.
ROUNDING = ("-fmad=false", "-prec-div=true", "-prec-sqrt=true", "-ftz=false")
FLAGS = ("-std=c++17", *ROUNDING, "-Werror", "all-warnings", "-Xptxas", "-v")

# Machine code for the first of each generation, as far as the compiler knows it, which runs on the later ones too:
# that for sm_80 on sm_86 and sm_89. PTX of the oldest, which the driver compiles for all others.
ARCHITECTURES = (75, 80, 90, 100, 120)


def sources() -> list[Path]:
    return sorted([*SOURCES.glob("*.cu"), *SOURCES.glob("*.cuh")])


def sources_sha256() -> str:
    """Return the hash of all that the kernels are compiled of: names, texts and flags."""
    texts = {path.name: path.read_text("utf-8") for path in sources()}
    return hashlib.sha256(json.dumps([texts, FLAGS], allow_nan=False).encode()).hexdigest()


def command(nvcc: str, architectures: list[int], source: Path, output: Path) -> list[str]:
    """Return the command line that compiles `source` to a fatbin."""
    codes = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures]
    ptx = f"-gencode=arch=compute_{architectures[0]},code=compute_{architectures[0]}"
    return [nvcc, *FLAGS, *codes, ptx, "-fatbin", "-compress-mode=size", "-o", str(output), str(source)]


def known_architectures(nvcc: str) -> list[int]:
    """Return those of `ARCHITECTURES` that this compiler knows."""
    listed = subprocess.run([nvcc, "--list-gpu-code"], check=True, capture_output=True, encoding="utf-8").stdout.split()
    return [number for number in ARCHITECTURES if f"sm_{number}" in listed]


def version(nvcc: str) -> str:
    printed = subprocess.run([nvcc, "--version"], check=True, capture_output=True, encoding="utf-8").stdout
    found = re.search(r"\bV(\d+\.\d+\.\d+)", printed)
    if not found:
        raise ValueError(f"{nvcc} --version says no version: {printed!r}")
    return found[1]


def resources(log: str) -> dict[str, dict[str, dict[str, int]]]:
    """Return what each kernel uses on each architecture, as `-Xptxas -v` reports it.

    As in {"quantize_f16": {"sm_90": {"registers": 38, "stack": 0, "spilled": 0}}}; stack and spills in bytes.
    """
    entry = re.compile(
        r"Compiling entry function '(?P<kernel>\w+)' for '(?P<architecture>\w+)'.*?"
        r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
        r"Used (?P<registers>\d+) registers",
        re.DOTALL,
    )
    used: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for found in entry.finditer(log):
        used[found["kernel"]][found["architecture"]] = {
            "registers": int(found["registers"]),
            "stack": int(found["stack"]),
            "spilled": int(found["stores"]) + int(found["loads"]),
        }
    return {kernel: used[kernel] for kernel in sorted(used)}


def build(nvcc: str) -> dict[str, Any]:
    """Write the fatbin and its record, and return the record; `CalledProcessError` if nvcc fails."""
    architectures = known_architectures(nvcc)
    unfinished = FATBIN.with_suffix(".new")
    try:
        arguments = command(nvcc, architectures, SOURCES / "kernels.cu", unfinished)
        log = subprocess.run(arguments, check=True, stderr=subprocess.PIPE, encoding="utf-8").stderr
        fatbin = unfinished.read_bytes()
    finally:
        unfinished.unlink(missing_ok=True)
    record = {
        "sources_sha256": sources_sha256(),
        "fatbin_sha256": hashlib.sha256(fatbin).hexdigest(),
        "nvcc": version(nvcc),
        "architectures": [f"sm_{number}" for number in architectures],
        "ptx": f"compute_{architectures[0]}",
        "kernels": resources(log),
    }
    replace_file(FATBIN, fatbin)
    replace_file(RECORD, f"{json.dumps(record, indent=1, allow_nan=False)}\n".encode())
    return record


def main() -> int:
    nvcc = shutil.which("nvcc")
    if not nvcc:
        print("make kernels: nvcc is not on the path; it comes with the CUDA Toolkit, 12.8 or later", file=sys.stderr)
        return 1
    try:
        record = build(nvcc)
    except subprocess.CalledProcessError as error:
        print(error.stderr, end="", file=sys.stderr)
        return 1
    targets = ", ".join([*record["architectures"], record["ptx"]])
    print(f"{FATBIN}: {len(record['kernels'])} kernels for {targets}; {FATBIN.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
