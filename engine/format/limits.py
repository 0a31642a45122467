"""How much a file may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask for before it is refused with `LimitError`: pixels, and bytes of its payload and its chunks.

    A file's latents may not be more than the pixels that are allowed either.
    """

    max_pixels: int = 1 << 26
    max_payload_nbytes: int = 1 << 28
    max_chunk_nbytes: int = 1 << 26


DEFAULT_LIMITS = Limits()
UNLIMITED = Limits(1 << 62, 1 << 62, 1 << 62)
