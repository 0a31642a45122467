"""The options of decoding that the networks need."""

from dataclasses import dataclass
from typing import Literal, get_args

from sdtrt.engine.denoising.denoise import validate_steps
from sdtrt.engine.format.arguments import checked_choice

Look = Literal["faithful", "vivid"]
LookOption = Literal["auto", "faithful", "vivid"]
Denoise = int | Literal["auto", "off"]
LOOKS: tuple[str, ...] = get_args(LookOption)
DENOISE_WORDS: dict[str, int | None] = {"auto": None, "off": 0}  # and the number of steps that each stands for


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """The number of denoising steps and the look. "auto" takes the value that the bundle recommends.

    Arguments:
        denoise: int, 0 to 1000, "off" (the same as 0) or "auto" (default).
        look: "faithful", "vivid" or "auto" (default).

    Raises:
        ValueError: the number of steps is out of range, or the look is unknown.
        TypeError: `denoise` is neither a whole number nor one of the two words, or `look` is not a string.
    """

    denoise: Denoise = "auto"
    look: LookOption = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.denoise, str):
            validate_steps(self.denoise)
        elif self.denoise not in DENOISE_WORDS:
            raise TypeError(f"denoise is {self.denoise!r}, expected a number of steps, 'auto' or 'off'")
        checked_choice("look", self.look, LOOKS)

    @property
    def denoise_steps(self) -> int | None:
        """The number of denoising steps; None for the number that the bundle recommends."""
        return DENOISE_WORDS[self.denoise] if isinstance(self.denoise, str) else int(self.denoise)


DEFAULT_DECODE_OPTIONS = DecodeOptions()
FAITHFUL = DecodeOptions(look="faithful")
