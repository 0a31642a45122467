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

from sdtrt._arrays import BoolArray, F32Array, I32Array, U32Array
from sdtrt.errors import FormatError

Item = TypeVar("Item")

WORD = 4  # bytes
ESCAPE_OFFSET = 1 << 15  # escaped symbols are sent as symbol + 2**15 in 16 bits
STATE_MIN = 1 << 32  # a state below it is filled up from the stack, unless that is empty

_CATEGORICAL = constriction.stream.model.Categorical(perfect=False)
_UNIFORM = constriction.stream.model.Uniform()
_BATCH = 1 << 18  # entries that are handed to the coder at once: each weighs as much as 32 floats


class AnsDecoder:
    """Reads a stream from its start; `alignment`, by how many bytes its first word is short, tells itself if whole.

    Raises `FormatError` if it starts with a zero word, which no stream does.
    """

    def __init__(self, stream: bytes, tables: U32Array, alignment: int | None = None) -> None:
        aligned = bytes(-len(stream) % WORD if alignment is None else alignment) + stream
        words = np.frombuffer(aligned[: len(aligned) // WORD * WORD], ">u4")[::-1].astype(np.uint32)
        if words.size and not words[-1]:
            raise FormatError("damaged stream: it starts with a zero word")
        self._models = _models(tables.tobytes(), tables.shape[1])
        self._coder = constriction.stream.stack.AnsCoder(words)

    def read_bins(self, rows: I32Array) -> I32Array:
        """Return entries of the tables' rows, in the shape of `rows`; `FormatError` for a likely one among others."""
        flat = rows.ravel()
        likely = self._models.mode.take(flat)
        others = likely < 0
        told = ~others
        others[told] = self._decoded(self._models.not_mode, flat[told]) == 1
        found = likely
        missed = likely[others]
        found[others] = self._decoded(self._models.rest, flat[others])
        if (found[others] == missed).any():
            raise FormatError("damaged stream: the most likely entry is coded as one of the others")
        return found.reshape(rows.shape)

    def _decoded(self, weights: F32Array, rows: I32Array) -> I32Array:
        parts = [rows[at : at + _BATCH] for at in range(0, rows.size, _BATCH)]
        found = [self._coder.decode(_CATEGORICAL, weights.take(part, 0)) for part in parts]
        return np.concatenate([np.empty(0, np.int32), *found])

    def read_low_bits_and_escapes(self, symbols: I32Array, escaped: BoolArray, low_bits: I32Array) -> None:
        """Read what entries leave open of symbols, in place: low bits, then those that are `escaped`."""
        wide = (low_bits > 0) & ~escaped
        if wide.any():
            symbols[wide] += self.raw(1 << low_bits[wide])
        if escaped.any():
            symbols[escaped] = self.raw(np.full(escaped.sum(), 2 * ESCAPE_OFFSET, np.int32)) - ESCAPE_OFFSET

    def raw(self, sizes: I32Array) -> I32Array:
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
    def words_remaining(self) -> int:
        """How many words are left."""
        return int(self._coder.pos()[0])

    @property
    def is_exhausted(self) -> bool:
        """Whether, if the stream is not whole, more may have been read than it holds."""
        words_remaining, state = self._coder.pos()
        return words_remaining == 0 and state < STATE_MIN


class LevelEnds:
    """Where levels of a stream end: checks, as passes are read, that as many words are left as later levels hold."""

    def __init__(self, reader: AnsDecoder, cuts: Sequence[int], words_remaining: Sequence[int]) -> None:
        self._reader, self._ends = reader, [*zip(cuts, words_remaining, strict=False)]
        self.exhausted = False  # whether the stream may have ended before the last pass that was read

    def read_pass(self, number: int, read: Callable[[], Item]) -> Item:
        """Read pass `number`, if the levels before it have ended where they are said to."""
        self.check(number)
        self.exhausted = self._reader.is_exhausted
        return read()

    def check(self, number: int) -> None:
        """Raise `FormatError` if a level that ends before pass `number` does not end here."""
        while self._ends and self._ends[0][0] <= number:
            if self._ends.pop(0)[1] != self._reader.words_remaining:
                raise FormatError("damaged stream: a level does not end where its last pass does")


class AnsEncoder:
    """Writes a stream from its end: what is to be read first is written last."""

    def __init__(self, tables: U32Array) -> None:
        self._models = _models(tables.tobytes(), tables.shape[1])
        self._coder = constriction.stream.stack.AnsCoder()

    def write_bins(self, entries: I32Array, rows: I32Array) -> None:
        """Write entries of the tables' rows, (entries,) both."""
        likely = self._models.mode.take(rows)
        others, told = entries != likely, likely >= 0
        self._encode(entries[others], self._models.rest, rows[others])
        self._encode(others[told].astype(np.int32), self._models.not_mode, rows[told])

    def _encode(self, entries: I32Array, weights: F32Array, rows: I32Array) -> None:
        for at in reversed(range(0, entries.size, _BATCH)):
            part = slice(at, at + _BATCH)
            self._coder.encode_reverse(entries[part], _CATEGORICAL, weights.take(rows[part], 0))

    def raw(self, numbers: I32Array, sizes: I32Array) -> None:
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
        words: U32Array = self._coder.get_compressed()
        return words[::-1].astype(">u4").tobytes().lstrip(b"\0")


class _TwoStepModels(NamedTuple):
    """U32Array in two steps; weights are less 1, as the coder wants them."""

    mode: I32Array  # (rows,): the entry that has more than half of the weight; -1 if none has
    not_mode: F32Array  # (rows, 2): of likely entries, and of all others
    rest: F32Array  # (rows, entries): once an entry is known not to be the likely one


@lru_cache(8)
def _models(data: bytes, entries: int) -> _TwoStepModels:
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
    return _TwoStepModels(likely.astype(np.int32), is_other.astype(np.float32), others.astype(np.float32))
