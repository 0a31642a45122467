"""The kernels, compiled for the host, and memory that shows what they wrote."""

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike

from sdtrt.kernels.launches import Launch

ROOT = Path(__file__).parents[2]
# Aliasing is as on the device, where no compiler reasons about it.
FLAGS = ["-std=c++17", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror"]
COMPILERS = ("c++", "g++", "clang++")
CTYPES = {int: ctypes.c_void_p, np.int64: ctypes.c_int64, np.int32: ctypes.c_int32, np.float32: ctypes.c_float}
POISON, GUARD = 0xA5, 64


class Host:
    """The kernels as functions of the host."""

    def __init__(self, library: Path, signatures: dict[str, tuple[type, ...]]) -> None:
        self.library, self.signatures = ctypes.CDLL(str(library)), signatures

    def run(self, launch: Launch) -> None:
        assert launch.block == ctypes.c_int32.in_dll(self.library, "block_size").value
        assert tuple(map(type, launch.arguments)) == self.signatures[launch.kernel]
        self.library.set_grid(ctypes.c_int64(launch.grid))
        self.call(launch.kernel, *launch.arguments)

    def call(self, name: str, *arguments: Any) -> None:
        self.library[name](*(CTYPES[type(argument)](argument) for argument in arguments))


def compiler() -> str:
    found = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), *COMPILERS))), None)
    return found or pytest.skip("no C++ compiler")


def signatures(preprocessed: str) -> dict[str, tuple[type, ...]]:
    """Return the types of each kernel's parameters, as `Launch` has them."""
    kinds = {"int64_t": np.int64, "int32_t": np.int32, "float": np.float32}
    kernels = re.findall(r'extern "C" void (\w+)\(([^)]*)\) \{', preprocessed)
    return {
        name: tuple(int if "*" in parameter else kinds[parameter.split()[0]] for parameter in parameters.split(","))
        for name, parameters in kernels
    }


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    library = tmp_path_factory.mktemp("host") / "kernels.so"
    command = [compiler(), *FLAGS, f"-I{ROOT / 'kernels'}", str(Path(__file__).with_name("host.cpp"))]
    subprocess.run([*command, "-shared", "-fPIC", "-o", str(library)], check=True)
    preprocessed = subprocess.run([*command, "-E", "-P"], check=True, capture_output=True, encoding="utf-8").stdout
    return Host(library, signatures(preprocessed))


@dataclass
class Placed:
    """An array somewhere in a larger, poisoned piece of memory."""

    memory: np.ndarray
    array: np.ndarray

    @property
    def address(self) -> int:
        return self.array.ctypes.data

    def intact(self) -> bool:
        """Whether all around the array is as it was."""
        start = self.address - self.memory.ctypes.data
        outside = np.delete(self.memory, slice(start, start + self.array.nbytes))
        return bool((outside == POISON).all())


Place = Callable[..., Placed]


@pytest.fixture(scope="session")
def place() -> Place:
    """Place an array, `shift` elements off 64-byte alignment; of a shape and type alone it is poisoned."""

    def make(content: np.ndarray | tuple[int, ...], dtype: DTypeLike = None, shift: int = 0) -> Placed:
        given = isinstance(content, np.ndarray)
        shape, kind = (content.shape, content.dtype) if given else (content, np.dtype(dtype))
        nbytes = int(np.prod(shape)) * kind.itemsize
        memory = np.full(nbytes + shift * kind.itemsize + 3 * GUARD, POISON, np.uint8)
        start = GUARD + -memory.ctypes.data % GUARD + shift * kind.itemsize
        array = memory[start : start + nbytes].view(kind).reshape(shape)
        if given:
            array[...] = content
        return Placed(memory, array)

    return make


@pytest.fixture(scope="session")
def same_bits() -> Callable[[np.ndarray, np.ndarray], None]:
    """Assert that two arrays are the same, bit for bit; NaN is NaN."""

    def check(found: np.ndarray, expected: np.ndarray) -> None:
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if found.dtype.kind == "f":
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            found, expected = (np.where(np.isnan(each), 0, each) for each in (found, expected))
        unsigned = np.dtype(f"u{found.itemsize}")
        np.testing.assert_array_equal(found.view(unsigned), expected.view(unsigned))

    return check
