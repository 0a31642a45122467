"""The entropy coder: constriction's `AnsCoder`, an asymmetric numeral system of 32-bit words and 64-bit state.

It turns weights into probabilities by itself, giving each entry 1 and sharing out the rest in proportion to what it is
handed: handed `weight - 1`, which sum to exactly that rest, nothing is left to round. `docs/format.md` has the
arithmetic. The coder is a stack, and streams hold it from the top: words in the order in which they are read, so that
a part of a stream from its start tells what comes first.
"""

import constriction
import numpy as np
from numpy.typing import NDArray

from sdtrt.errors import FormatError

Ints = NDArray[np.int32]
Tables = NDArray[np.uint32]

WORD = 4  # bytes
ESCAPE_OFFSET = 1 << 15  # escaped symbols are sent as symbol + 2**15 in 16 bits
FULL = 1 << 32  # a state below it is filled up from the stack, unless that is empty

_CATEGORICAL = constriction.stream.model.Categorical(perfect=False)
_UNIFORM = constriction.stream.model.Uniform()
_PART = 1 << 18  # entries that are handed to the coder at once: each weighs as much as 32 floats


class Reader:
    """Reads a stream from its start; `alignment`, by how many bytes its first word is short, tells itself if whole.

    Raises `FormatError` if it starts with a zero word, which no stream does.
    """

    def __init__(self, stream: bytes, tables: Tables, alignment: int | None = None) -> None:
        aligned = bytes(-len(stream) % WORD if alignment is None else alignment) + stream
        words = np.frombuffer(aligned[: len(aligned) // WORD * WORD], ">u4")[::-1].astype(np.uint32)
        if words.size and not words[-1]:
            raise FormatError("damaged stream: it starts with a zero word")
        self._weights = _weights(tables)
        self._coder = constriction.stream.stack.AnsCoder(words)

    def entries(self, rows: Ints) -> Ints:
        """Return entries of the tables' rows, in the shape of `rows`."""
        flat = rows.ravel()
        parts = [flat[at : at + _PART] for at in range(0, flat.size, _PART)]
        found = [self._coder.decode(_CATEGORICAL, self._weights.take(part, 0)) for part in parts]
        return np.concatenate(found).reshape(rows.shape)

    def complete(self, symbols: Ints, escaped: NDArray[np.bool_], low_bits: Ints) -> None:
        """Read what entries leave open of symbols, in place: low bits, then those that are `escaped`."""
        wide = (low_bits > 0) & ~escaped
        if wide.any():
            symbols[wide] += self.raw(1 << low_bits[wide])
        if escaped.any():
            symbols[escaped] = self.raw(np.full(escaped.sum(), 2 * ESCAPE_OFFSET, np.int32)) - ESCAPE_OFFSET

    def raw(self, sizes: Ints) -> Ints:
        """Return a number below each of `sizes`."""
        return self._coder.decode(_UNIFORM, sizes)

    @property
    def is_at_end(self) -> bool:
        """Whether all that was written has been read."""
        return bool(self._coder.is_empty())

    @property
    def ran_dry(self) -> bool:
        """Whether, if the stream is not whole, more may have been read than it holds."""
        left, state = self._coder.pos()
        return left == 0 and state < FULL


class Writer:
    """Writes a stream from its end: what is to be read first is written last."""

    def __init__(self, tables: Tables) -> None:
        self._weights = _weights(tables)
        self._coder = constriction.stream.stack.AnsCoder()

    def entries(self, entries: Ints, rows: Ints) -> None:
        for at in reversed(range(0, entries.size, _PART)):
            part = slice(at, at + _PART)
            self._coder.encode_reverse(entries[part], _CATEGORICAL, self._weights.take(rows[part], 0))

    def raw(self, numbers: Ints, sizes: Ints) -> None:
        if numbers.size:
            self._coder.encode_reverse(numbers, _UNIFORM, sizes)

    @property
    def words(self) -> int:
        """How many words what has been written so far takes that nothing written later can change."""
        return int(self._coder.pos()[0])

    def stream(self) -> bytes:
        """Return the stream; its first word less the zero bytes before it."""
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words[::-1].astype(">u4").tobytes().lstrip(b"\0")


def _weights(tables: Tables) -> NDArray[np.float32]:
    return (tables - 1).astype(np.float32)
