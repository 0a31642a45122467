"""The options of decoding that the networks need."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

from sdtrt.engine.denoising.denoise import validate_steps
from sdtrt.engine.format.arguments import checked_choice

Look = Literal["faithful", "vivid"]
LookOption = Literal["auto", "faithful", "vivid"]
Denoise = int | Literal["auto", "off"]
LOOKS: tuple[str, ...] = get_args(LookOption)
DENOISE_WORDS: dict[str, int | None] = {"auto": None, "off": 0}


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """The number of denoising steps and the look. None and "auto" take the values that the bundle recommends.

    Raises `ValueError` for an unknown look, `TypeError` if the look is not a string.
    """

    denoise: int | None = None
    look: LookOption = "auto"

    @classmethod
    def of(cls, denoise: Denoise, look: LookOption) -> Self:
        """Return the options for a number of denoising steps, "off" (the same as 0) or "auto", and a look.

        Raises `ValueError` for a number outside 0 to 1000, `TypeError` for any other text.
        """
        if isinstance(denoise, str):
            if denoise not in DENOISE_WORDS:
                raise TypeError(f"denoise is {denoise!r}, expected a number of steps, 'auto' or 'off'")
            return cls(DENOISE_WORDS[denoise], look)
        return cls(validate_steps(denoise), look)

    def __post_init__(self) -> None:
        checked_choice("look", self.look, LOOKS)


DEFAULT_DECODE_OPTIONS = DecodeOptions()
FAITHFUL = DecodeOptions(look="faithful")
