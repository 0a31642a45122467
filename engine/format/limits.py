"""How much a file may ask for."""

from dataclasses import dataclass, fields
from typing import Any

from sdtrt.engine.format.arguments import checked_instance, checked_integer


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may ask for before it is refused with `LimitError`: pixels, and bytes of its payload and its chunks.

    A file's latents may not be more than the pixels that are allowed either.
    """

    max_pixels: int = 1 << 26
    max_payload_nbytes: int = 1 << 28
    max_chunk_nbytes: int = 1 << 26

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, checked_integer(field.name, getattr(self, field.name), 0))


def checked_limits(limits: Any) -> Limits:
    """Return limits; `TypeError` if the argument is something else."""
    checked: Limits = checked_instance("limits", limits, Limits, "sdtrt.Limits, such as sdtrt.Limits(max_pixels=10**8)")
    return checked


DEFAULT_LIMITS = Limits()
UNLIMITED = Limits(1 << 62, 1 << 62, 1 << 62)
