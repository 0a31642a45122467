"""The options of decoding."""

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
    """The options of decoding.

    Attributes:
        denoise: the number of denoising steps, 0 for none. None is the recommendation of the bundle.
        look: "faithful" or "vivid". "auto" is the recommendation of the bundle.

    Raises:
        TypeError: `look` is not a string.
        ValueError: `look` is unknown.
    """

    denoise: int | None = None
    look: LookOption = "auto"

    @classmethod
    def of(cls, denoise: Denoise, look: LookOption) -> Self:
        """Return the options for the arguments of the public API, where `denoise` may be "auto".

        Raises:
            TypeError: an argument has a wrong type.
            ValueError: `look` is unknown, or `denoise` is out of range.
        """
        if isinstance(denoise, str) and denoise != "auto":
            raise TypeError(f"denoise is {denoise!r}, expected a number of steps or 'auto'")
        return cls(None if isinstance(denoise, str) else validate_steps(denoise), look)

    def __post_init__(self) -> None:
        checked_choice("look", self.look, LOOKS)


DEFAULT_DECODE_OPTIONS = DecodeOptions()
FAITHFUL = DecodeOptions(look="faithful")
