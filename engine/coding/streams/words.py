"""The words of a stream: its bytes as the entropy coder reads them."""

import numpy as np

from sdtrt._arrays import U32Array
from sdtrt.errors import FormatError

WORD = 4  # bytes


def words_of(stream: bytes, alignment: int | None = None) -> U32Array:
    """Return the words of a stream, uint32, in the order in which they are read.

    Arguments:
        stream: the bytes of a stream, or of its start.
        alignment: number of bytes that the first word lacks to 4; by default computed from the length of the stream,
            which must then be complete.

    Raises:
        FormatError: if the stream starts with a zero word, or a complete stream with a zero byte. No encoder does this.
    """
    if alignment is None and stream.startswith(b"\0"):
        raise FormatError("damaged stream: it starts with a zero byte")
    aligned = bytes(-len(stream) % WORD if alignment is None else alignment) + stream
    words = np.frombuffer(aligned[: len(aligned) // WORD * WORD], ">u4").astype(np.uint32)
    if words.size and not words[0]:
        raise FormatError("damaged stream: it starts with a zero word")
    return words
