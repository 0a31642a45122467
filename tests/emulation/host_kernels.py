"""The kernels as functions of the host: compiled as plain C++, and cached in build/ until a source changes."""

import ctypes
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from sdtrt.kernels import build
from sdtrt.kernels.launches import Launch

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "kernels" / "host.cpp"
CACHE = ROOT / "build" / "host"
# No strict aliasing, as in device code.
CXX_FLAGS = ["-std=c++17", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror"]
COMPILERS = ("c++", "g++", "clang++")
CTYPES = {int: ctypes.c_void_p, np.int64: ctypes.c_int64, np.int32: ctypes.c_int32, np.float32: ctypes.c_float}


class Host:
    """The kernels as functions of the host."""

    def __init__(self, library: Path, signatures: dict[str, tuple[type, ...]]) -> None:
        self.functions, self.signatures = ctypes.CDLL(str(library)), signatures

    def run(self, launch: Launch) -> None:
        assert launch.block == ctypes.c_int32.in_dll(self.functions, "block_size").value
        assert tuple(map(type, launch.arguments)) == self.signatures[launch.kernel]
        self.functions.set_grid(ctypes.c_int64(launch.grid))
        self.call(launch.kernel, *launch.arguments)

    def call(self, name: str, *arguments: Any) -> None:
        self.functions[name](*(CTYPES[type(argument)](argument) for argument in arguments))


def compiler() -> str | None:
    """Return the C++ compiler of this machine, None if it has none."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), *COMPILERS))), None)


def compiled(cxx: str) -> Host:
    command = [cxx, *CXX_FLAGS, f"-I{build.SOURCES}", str(SOURCE)]
    preprocessed = subprocess.run([*command, "-E", "-P"], check=True, capture_output=True, encoding="utf-8").stdout
    key = hashlib.sha256(json.dumps([command, preprocessed]).encode()).hexdigest()[:16]
    library = CACHE / f"{key}.so"
    if not library.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = CACHE / f"{key}.{os.getpid()}"
        subprocess.run([*command, "-shared", "-fPIC", "-o", str(unfinished)], check=True)
        unfinished.replace(library)  # atomic, since other processes may compile the same
    return Host(library, signatures(preprocessed))


def signatures(preprocessed: str) -> dict[str, tuple[type, ...]]:
    """Return the types of each kernel's parameters, as in `Launch.arguments`."""
    scalars = {"int64_t": np.int64, "int32_t": np.int32, "float": np.float32}
    kernels = re.findall(r'extern "C" void (\w+)\(([^)]*)\) \{', preprocessed)
    return {
        name: tuple(int if "*" in parameter else scalars[parameter.split()[0]] for parameter in parameters.split(","))
        for name, parameters in kernels
    }
