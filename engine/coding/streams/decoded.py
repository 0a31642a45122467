"""Arguments and results that the decoders in NumPy and in the compiled core share."""

from dataclasses import dataclass
from typing import NamedTuple

from sdtrt._arrays import I16Array, I32Array
from sdtrt.engine.coding.priors.passes import InnerEdges

Shape = tuple[int, int, int]


class TileParameters(NamedTuple):
    """What a prior needs to know of a tile.

    Attributes:
        shape: (channels, rows, columns) of its latents.
        step_code: code of the quantization step, 0 to 4095.
        edges: which edges of the tile touch another tile.
    """

    shape: Shape
    step_code: int
    edges: InnerEdges


@dataclass(frozen=True, slots=True)
class DecodedStream:
    """The content of a stream.

    Attributes:
        symbols: int16 (C, h, w).
        recon_offsets: int32 (C, h, w), in 1/64 quantization step from the symbol, or None if the prior has none.
        passes_read: number of passes that were read.
        passes_missing: number of passes that are missing in a damaged stream.
    """

    symbols: I16Array
    recon_offsets: I32Array | None
    passes_read: int = 0
    passes_missing: int = 0


class ReadRules(NamedTuple):
    """How much of a stream is read, and what damage means.

    Attributes:
        end: number of the first pass that is not read.
        cuts: number of passes up to the end of each level but the last.
        words_after_cuts: number of words behind the end of each level; empty if the stream is not cut.
        complete_passes: if given, damage ends the reading instead of being raised. So does the end of the data, after
            so many passes that are known to be complete.
    """

    end: int
    cuts: tuple[int, ...] = ()
    words_after_cuts: tuple[int, ...] = ()
    complete_passes: int | None = None


class StreamEnd(NamedTuple):
    """How the reading of a stream ended.

    Attributes:
        is_at_end: whether the whole stream was read.
        is_exhausted: whether more may have been read than the stream holds, if it was truncated.
        was_exhausted: the same before the last pass that was read.
        last_pass_is_zero: whether the last pass that was read holds zeros alone.
    """

    is_at_end: bool
    is_exhausted: bool
    was_exhausted: bool
    last_pass_is_zero: bool
