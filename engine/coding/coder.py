"""The entropy coder: constriction's `AnsCoder`, an asymmetric numeral system of 32-bit words and 64-bit state.

It turns weights into probabilities by itself, giving each entry 1 and sharing out the rest in proportion to what it is
handed: handed `weight - 1`, which sum to exactly that rest, nothing is left to round. `docs/format.md` has the
arithmetic. The coder is a stack, and streams hold it from the top: words in the order in which they are read, so that
a part of a stream from its start tells what comes first.

Nearly all entries are the likely ones of their tables. Those are told from the others by tables of two, which is
quicker; only the others need tables of all.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import constriction
import numpy as np
from numpy.typing import NDArray

from sdtrt.errors import FormatError

Ints = NDArray[np.int32]
Tables = NDArray[np.uint32]
Weights = NDArray[np.float32]
Item = TypeVar("Item")

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
        self._models = _models(tables.tobytes(), tables.shape[1])
        self._coder = constriction.stream.stack.AnsCoder(words)

    def entries(self, rows: Ints) -> Ints:
        """Return entries of the tables' rows, in the shape of `rows`; `FormatError` for a likely one among others."""
        flat = rows.ravel()
        likely = self._models.likely.take(flat)
        others = likely < 0
        told = ~others
        others[told] = self._decoded(self._models.is_other, flat[told]) == 1
        found = likely
        missed = likely[others]
        found[others] = self._decoded(self._models.others, flat[others])
        if (found[others] == missed).any():
            raise FormatError("damaged stream: the most likely entry is coded as one of the others")
        return found.reshape(rows.shape)

    def _decoded(self, weights: Weights, rows: Ints) -> Ints:
        parts = [rows[at : at + _PART] for at in range(0, rows.size, _PART)]
        found = [self._coder.decode(_CATEGORICAL, weights.take(part, 0)) for part in parts]
        return np.concatenate([np.empty(0, np.int32), *found])

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

    def number(self, below: int) -> int:
        """Return one number below `below`."""
        return int(self.raw(np.array([below], np.int32))[0])

    @property
    def is_at_end(self) -> bool:
        """Whether all that was written has been read."""
        return bool(self._coder.is_empty())

    @property
    def left(self) -> int:
        """How many words are left."""
        return int(self._coder.pos()[0])

    @property
    def ran_dry(self) -> bool:
        """Whether, if the stream is not whole, more may have been read than it holds."""
        left, state = self._coder.pos()
        return left == 0 and state < FULL


class Ends:
    """Where levels of a stream end: checks, as passes are read, that as many words are left as later levels hold."""

    def __init__(self, reader: Reader, cuts: Sequence[int], left: Sequence[int]) -> None:
        self._reader, self._ends = reader, [*zip(cuts, left, strict=False)]
        self.dry = False  # whether the stream may have ended before the last pass that was read

    def known(self, number: int, read: Callable[[], Item]) -> Item:
        """Read pass `number`, if the levels before it have ended where they are said to."""
        self.require(number)
        self.dry = self._reader.ran_dry
        return read()

    def require(self, number: int) -> None:
        """Raise `FormatError` if a level that ends before pass `number` does not end here."""
        while self._ends and self._ends[0][0] <= number:
            if self._ends.pop(0)[1] != self._reader.left:
                raise FormatError("damaged stream: a level does not end where its last pass does")


class Writer:
    """Writes a stream from its end: what is to be read first is written last."""

    def __init__(self, tables: Tables) -> None:
        self._models = _models(tables.tobytes(), tables.shape[1])
        self._coder = constriction.stream.stack.AnsCoder()

    def entries(self, entries: Ints, rows: Ints) -> None:
        """Write entries of the tables' rows, (entries,) both."""
        likely = self._models.likely.take(rows)
        others, told = entries != likely, likely >= 0
        self._encode(entries[others], self._models.others, rows[others])
        self._encode(others[told].astype(np.int32), self._models.is_other, rows[told])

    def _encode(self, entries: Ints, weights: Weights, rows: Ints) -> None:
        for at in reversed(range(0, entries.size, _PART)):
            part = slice(at, at + _PART)
            self._coder.encode_reverse(entries[part], _CATEGORICAL, weights.take(rows[part], 0))

    def raw(self, numbers: Ints, sizes: Ints) -> None:
        if numbers.size:
            self._coder.encode_reverse(numbers, _UNIFORM, sizes)

    def number(self, number: int, below: int) -> None:
        self.raw(np.array([number], np.int32), np.array([below], np.int32))

    @property
    def words(self) -> int:
        """How many words what has been written so far takes that nothing written later can change."""
        return int(self._coder.pos()[0])

    def stream(self) -> bytes:
        """Return the stream; its first word less the zero bytes before it."""
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words[::-1].astype(">u4").tobytes().lstrip(b"\0")


class _Models(NamedTuple):
    """Tables in two steps; weights are less 1, as the coder wants them."""

    likely: Ints  # (rows,): the entry that has more than half of the weight; -1 if none has
    is_other: Weights  # (rows, 2): of likely entries, and of all others
    others: Weights  # (rows, entries): once an entry is known not to be the likely one


@lru_cache(8)
def _models(data: bytes, entries: int) -> _Models:
    """Return the models of tables, given as the bytes of uint32 (rows, entries)."""
    tables = np.frombuffer(data, np.uint32).reshape(-1, entries).astype(np.int64)
    total, rows = 1 << 24, np.arange(len(tables))
    largest = tables.argmax(1)
    weight = tables[rows, largest]
    likely = np.where(weight > total // 2, largest, -1)
    is_other = np.stack([weight, total - weight], axis=1) - 1
    others = tables * (total - 1) // (total - weight)[:, None]
    others[rows, largest] = 0
    others[rows, others.argmax(1)] += total - 1 - others.sum(1)
    others[rows, largest] = 1
    others = np.where(likely[:, None] < 0, tables, others) - 1
    return _Models(likely.astype(np.int32), is_other.astype(np.float32), others.astype(np.float32))
