"""The entropy coder: `AnsCoder` of the library constriction, a range asymmetric numeral system (rANS).

It has 32-bit words and a 64-bit state. `docs/format.md` has the arithmetic.

constriction turns weights into probabilities itself: it gives each bin 1 and distributes the rest in proportion to the
weights. Given `weight - 1`, whose sum is exactly this rest, it rounds nothing. The coder is a stack. A stream holds the
stack from its top, in the order in which words are read, so a prefix of a stream decodes to its first symbols.

Most symbols are the mode of their distribution. A binary flag therefore codes "is the mode" first, and the full table
is used only otherwise, which is faster.
"""

from functools import lru_cache
from typing import NamedTuple

import constriction
import numpy as np

from sdtrt._arrays import BoolArray, F32Array, I32Array, U32Array
from sdtrt.engine.coding.priors.tables import ESCAPE_OFFSET, two_step_tables
from sdtrt.engine.coding.streams.damage import Damage, error_of

STATE_MIN = 1 << 32  # a smaller state is refilled from the stack, unless the stack is empty

_CATEGORICAL = constriction.stream.model.Categorical(perfect=False)
_UNIFORM = constriction.stream.model.Uniform()
_BATCH = 1 << 18  # bins per call of the coder: each needs memory for 32 floats


class AnsDecoder:
    """Reads a stream from its start.

    Arguments:
        words: uint32, as of `words_of`.
        tables: uint32 (rows, bins), weights that sum to 2**24 in each row.
    """

    def __init__(self, words: U32Array, tables: U32Array) -> None:
        self._models = _two_step_models(tables.tobytes(), tables.shape[1])
        self._coder = constriction.stream.stack.AnsCoder(words[::-1].copy())

    def read_bins(self, rows: I32Array) -> I32Array:
        """Read one bin for each table row in `rows`; the result has the shape of `rows`.

        Raises:
            FormatError: if the mode of a table is coded by the table of the other bins.
        """
        flat = rows.ravel()
        bins = self._models.mode.take(flat)
        is_other = bins < 0
        has_mode = ~is_other
        is_other[has_mode] = self._decode(self._models.not_mode, flat[has_mode]) == 1
        modes = bins[is_other]
        bins[is_other] = self._decode(self._models.rest, flat[is_other])
        if (bins[is_other] == modes).any():
            raise error_of(Damage.NON_CANONICAL_BIN)
        return bins.reshape(rows.shape)

    def _decode(self, weights: F32Array, rows: I32Array) -> I32Array:
        batches = [rows[start : start + _BATCH] for start in range(0, rows.size, _BATCH)]
        bins = [self._coder.decode(_CATEGORICAL, weights.take(batch, 0)) for batch in batches]
        return np.concatenate([np.empty(0, np.int32), *bins])

    def read_low_bits_and_escapes(self, symbols: I32Array, escaped: BoolArray, low_bits: I32Array) -> None:
        """Complete symbols in place: read the low bits of wide bins, then the whole symbols that are escaped.

        Arguments:
            symbols: int32, base plus bin times bin width.
            escaped: which symbols follow as 16 bits.
            low_bits: number of low bits of each symbol.
        """
        has_low_bits = (low_bits > 0) & ~escaped
        if has_low_bits.any():
            symbols[has_low_bits] += self.read_uniform(1 << low_bits[has_low_bits])
        if escaped.any():
            sizes = np.full(escaped.sum(), 2 * ESCAPE_OFFSET, np.int32)
            symbols[escaped] = self.read_uniform(sizes) - ESCAPE_OFFSET

    def read_uniform(self, sizes: I32Array) -> I32Array:
        """Read one number for each of `sizes`, uniformly distributed from 0 to below it."""
        return self._coder.decode(_UNIFORM, sizes)

    @property
    def is_at_end(self) -> bool:
        """Whether the whole stream has been read."""
        return bool(self._coder.is_empty())

    @property
    def words_remaining(self) -> int:
        """Number of words that have not been read."""
        return int(self._coder.pos()[0])

    @property
    def is_exhausted(self) -> bool:
        """Whether more may have been read than the stream holds, if the stream was truncated."""
        words_remaining, state = self._coder.pos()
        return words_remaining == 0 and state < STATE_MIN


class AnsEncoder:
    """Writes a stream from its end: the data that a decoder reads first is written last."""

    def __init__(self, tables: U32Array) -> None:
        self._models = _two_step_models(tables.tobytes(), tables.shape[1])
        self._coder = constriction.stream.stack.AnsCoder()

    def write_bins(self, bins: I32Array, rows: I32Array) -> None:
        """Write bins of table rows, int32 (n,) both."""
        modes = self._models.mode.take(rows)
        is_other, has_mode = bins != modes, modes >= 0
        self._encode(bins[is_other], self._models.rest, rows[is_other])
        self._encode(is_other[has_mode].astype(np.int32), self._models.not_mode, rows[has_mode])

    def _encode(self, bins: I32Array, weights: F32Array, rows: I32Array) -> None:
        for start in reversed(range(0, bins.size, _BATCH)):
            batch = slice(start, start + _BATCH)
            self._coder.encode_reverse(bins[batch], _CATEGORICAL, weights.take(rows[batch], 0))

    def write_uniform(self, numbers: I32Array, sizes: I32Array) -> None:
        """Write numbers, each uniformly distributed from 0 to below its size, int32 (n,) both."""
        if numbers.size:
            self._coder.encode_reverse(numbers, _UNIFORM, sizes)

    def write_number(self, number: int, size: int) -> None:
        """Write one number, uniformly distributed from 0 to below `size`."""
        self.write_uniform(np.array([number], np.int32), np.array([size], np.int32))

    @property
    def words(self) -> int:
        """Number of complete 32-bit words written so far; later writes cannot change them."""
        return int(self._coder.pos()[0])

    def stream(self) -> bytes:
        """Return the stream; zero bytes at the start of its first word are left out."""
        words: U32Array = self._coder.get_compressed()
        return words[::-1].astype(">u4").tobytes().lstrip(b"\0")


class _Models(NamedTuple):
    """`TwoStepTables` as constriction takes them: weights less 1, float32.

    `not_mode` has shape (rows, 2): the weight of the mode, and that of all other bins.
    """

    mode: I32Array
    not_mode: F32Array
    rest: F32Array


@lru_cache(8)
def _two_step_models(data: bytes, num_bins: int) -> _Models:
    """Split tables, given as the bytes of uint32 (rows, bins)."""
    split = two_step_tables(np.frombuffer(data, np.uint32).reshape(-1, num_bins))
    not_mode = np.stack([split.mode_weight, (1 << 24) - split.mode_weight], axis=1) - 1
    return _Models(split.mode, not_mode.astype(np.float32), (split.rest - 1).astype(np.float32))
