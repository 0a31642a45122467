"""How files are to be shown."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

from sdtrt.engine.denoising.denoise import validate_steps
from sdtrt.engine.format.arguments import checked_choice

Look = Literal["faithful", "vivid"]
LookOption = Literal["auto", "faithful", "vivid"]
Denoise = int | Literal["auto"]
LOOKS: tuple[str, ...] = get_args(LookOption)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """In how many steps latents are denoised, and in which look; None and "auto" are what the bundle recommends.

    Raises `ValueError` for an unknown look, `TypeError` if it is no text.
    """

    denoise: int | None = None
    look: LookOption = "auto"

    @classmethod
    def of(cls, denoise: Denoise, look: LookOption) -> Self:
        """Return the view of what users say; `ValueError` also for a number of steps that is none."""
        if isinstance(denoise, str) and denoise != "auto":
            raise TypeError(f"denoise is {denoise!r}, expected a number of steps or 'auto'")
        return cls(None if isinstance(denoise, str) else validate_steps(denoise), look)

    def __post_init__(self) -> None:
        checked_choice("look", self.look, LOOKS)


DEFAULT_DECODE_OPTIONS = DecodeOptions()
FAITHFUL = DecodeOptions(look="faithful")
