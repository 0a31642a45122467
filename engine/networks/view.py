"""How files are to be shown."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

from sdtrt.engine.denoising.denoise import checked_steps

Look = Literal["faithful", "vivid"]
Wanted = Literal["auto", "faithful", "vivid"]
Denoise = int | Literal["auto"]
LOOKS: tuple[str, ...] = get_args(Wanted)


@dataclass(frozen=True, slots=True)
class View:
    """In how many steps latents are denoised, and in which look; None and "auto" are what the bundle recommends.

    Raises `ValueError` for a look that is none.
    """

    denoise: int | None = None
    look: Wanted = "auto"

    @classmethod
    def of(cls, denoise: Denoise, look: Wanted) -> Self:
        """Return the view of what users say; `ValueError` also for a number of steps that is none."""
        return cls(None if denoise == "auto" else checked_steps(denoise), look)

    def __post_init__(self) -> None:
        if self.look not in LOOKS:
            raise ValueError(f"look {self.look!r}, expected one of: {', '.join(LOOKS)}")


RECOMMENDED = View()
FAITHFUL = View(look="faithful")
