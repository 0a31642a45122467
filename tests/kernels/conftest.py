"""Memory that shows which bytes a kernel wrote."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import DTypeLike

POISON, GUARD = 0xA5, 64


@dataclass
class Placed:
    """An array within a larger block of poisoned memory."""

    memory: np.ndarray
    array: np.ndarray

    @property
    def address(self) -> int:
        return self.array.ctypes.data

    def intact(self) -> bool:
        """Return whether the memory around the array is unchanged."""
        start = self.address - self.memory.ctypes.data
        outside = np.delete(self.memory, slice(start, start + self.array.nbytes))
        return bool((outside == POISON).all())


Place = Callable[..., Placed]


@pytest.fixture(scope="session")
def place() -> Place:
    """Place an array `shift` elements off 64-byte alignment. Given a shape and a type only, the array is poisoned."""

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
    """Assert that two arrays have the same bits; any NaN equals any NaN."""

    def check(found: np.ndarray, expected: np.ndarray) -> None:
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if found.dtype.kind == "f":
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            found, expected = (np.where(np.isnan(each), 0, each) for each in (found, expected))
        unsigned = np.dtype(f"u{found.itemsize}")
        np.testing.assert_array_equal(found.view(unsigned), expected.view(unsigned))

    return check
