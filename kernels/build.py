"""Compiles the kernels: `make kernels` writes data/kernels.fatbin, and kernels.json with its sources and resources."""

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

# Results depend on these flags: each operation is rounded by itself, divisions correctly, and denormals are kept.
ROUNDING = ("-fmad=false", "-prec-div=true", "-prec-sqrt=true", "-ftz=false")
FLAGS = ("-std=c++17", *ROUNDING, "-Werror", "all-warnings", "-Xptxas", "-v")

# Machine code for the first processor of each generation that the compiler knows; it runs on later ones of the
# generation, as that for sm_80 does on sm_86 and sm_89. The driver compiles the PTX of the oldest for all others.
ARCHITECTURES = (75, 80, 90, 100, 120)


def sources() -> list[Path]:
    return sorted([*SOURCES.glob("*.cu"), *SOURCES.glob("*.cuh")])


def sources_sha256() -> str:
    """Return the hash of the kernels' inputs: names and texts of the sources, and flags."""
    texts = {path.name: path.read_text("utf-8") for path in sources()}
    return hashlib.sha256(json.dumps([texts, FLAGS], allow_nan=False).encode()).hexdigest()


def command(nvcc: str, architectures: list[int], source: Path, output: Path) -> list[str]:
    """Return the command line that compiles `source` to a fatbin."""
    codes = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures]
    ptx = f"-gencode=arch=compute_{architectures[0]},code=compute_{architectures[0]}"
    return [nvcc, *FLAGS, *codes, ptx, "-fatbin", "-compress-mode=size", "-o", str(output), str(source)]


def known_architectures(nvcc: str) -> list[int]:
    """Return the `ARCHITECTURES` that this compiler supports."""
    codes = subprocess.run([nvcc, "--list-gpu-code"], check=True, capture_output=True, encoding="utf-8").stdout.split()
    return [number for number in ARCHITECTURES if f"sm_{number}" in codes]


def version(nvcc: str) -> str:
    output = subprocess.run([nvcc, "--version"], check=True, capture_output=True, encoding="utf-8").stdout
    match = re.search(r"\bV(\d+\.\d+\.\d+)", output)
    if not match:
        raise ValueError(f"{nvcc} --version prints no version such as V13.0.88: {output!r}")
    return match[1]


def resources(log: str) -> dict[str, dict[str, dict[str, int]]]:
    """Return the resources of each kernel on each architecture, from the output of `-Xptxas -v`.

    For example {"quantize_f16": {"sm_90": {"registers": 38, "stack": 0, "spilled": 0}}}; stack and spills are in bytes.
    """
    entry = re.compile(
        r"Compiling entry function '(?P<kernel>\w+)' for '(?P<architecture>\w+)'.*?"
        r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
        r"Used (?P<registers>\d+) registers",
        re.DOTALL,
    )
    by_kernel: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for match in entry.finditer(log):
        by_kernel[match["kernel"]][match["architecture"]] = {
            "registers": int(match["registers"]),
            "stack": int(match["stack"]),
            "spilled": int(match["stores"]) + int(match["loads"]),
        }
    return {kernel: by_kernel[kernel] for kernel in sorted(by_kernel)}


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
