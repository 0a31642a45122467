"""Limits on the memory that a file may require."""

from dataclasses import dataclass, fields
from typing import Any

from sdtrt.engine.format.arguments import checked_instance, checked_integer


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a file. A file that exceeds one is refused with `LimitError`.

    Arguments:
        max_pixels: of the image; also limits the number of latents.
        max_payload_nbytes: total length of the segments in bytes.
        max_chunk_nbytes: total length of the chunks in bytes.
    """

    max_pixels: int = 1 << 26
    max_payload_nbytes: int = 1 << 28
    max_chunk_nbytes: int = 1 << 26

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, checked_integer(field.name, getattr(self, field.name), 0))


EXPECTED_LIMITS = "sdtrt.Limits, such as sdtrt.Limits(max_pixels=10**8)"


def checked_limits(limits: Any) -> Limits:
    """Return `limits`; `TypeError` if they are not `Limits`."""
    result: Limits = checked_instance("limits", limits, Limits, EXPECTED_LIMITS)
    return result


DEFAULT_LIMITS = Limits()
UNLIMITED = Limits(1 << 62, 1 << 62, 1 << 62)
