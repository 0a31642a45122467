"""How much a file may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask for before it is refused with `LimitError`."""

    max_pixels: int = 1 << 26
    max_payload_nbytes: int = 1 << 28
    max_chunk_nbytes: int = 1 << 26


DEFAULT_LIMITS = Limits()
UNLIMITED = Limits(1 << 62, 1 << 62, 1 << 62)
