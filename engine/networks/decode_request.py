"""Options of decoding, and the input of the networks for one file."""

from dataclasses import dataclass, replace
from typing import Literal

from sdtrt.engine.coding.quantized_latents import LatentSource, OffsetKind
from sdtrt.engine.denoising.schedule import Trajectory
from sdtrt.engine.denoising.steps import validate_steps
from sdtrt.engine.format.arguments import checked_choice
from sdtrt.engine.format.container import Header
from sdtrt.engine.format.layout import Span
from sdtrt.engine.networks.choices import LOOKS, Look, LookOption

Denoise = int | Literal["auto", "off"]
DENOISE_WORDS: dict[str, int | None] = {"auto": None, "off": 0}  # and the number of steps that each stands for


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """The number of denoising steps and the look. "auto" takes the value that the bundle recommends.

    Arguments:
        denoise: int, 0 to 1000, "off" (the same as 0) or "auto" (default).
        look: "faithful", "fast" or "auto" (default).

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


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """The latents of a file, and how the networks decode them.

    Attributes:
        latents: the latents. For an image of several tiles they may be a `LatentReader`, which `crop` reads from.
        header: the header of the file.
        trajectory: the steps of the denoising; None for none.
        look: the look, whose decoder is used.
        single_precision: whether a decoder in eight bits must not be used.
    """

    latents: LatentSource
    header: Header
    trajectory: Trajectory | None = None
    look: Look = "faithful"
    single_precision: bool = True

    def crop(self, rows: Span, columns: Span) -> "DecodeRequest":
        """Return a request for some rows and columns of the latents, with the header of the whole image."""
        return replace(self, latents=self.latents.crop(rows, columns))

    @property
    def offset_kind(self) -> OffsetKind:
        return self.latents.offset_kind

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the latents, (C, h, w)."""
        return self.latents.shape

    @property
    def batch_key(self) -> tuple[object, ...]:
        """A key that is equal for requests which may be decoded in one batch."""
        return self.offset_kind, self.shape, self.denoise_steps, self.decoder

    @property
    def decoder(self) -> str:
        """The name of the decoder network."""
        return "decoder" if self.look == "faithful" else self.look

    @property
    def denoise_steps(self) -> int:
        """The number of denoising steps."""
        return len(self.trajectory.steps) if self.trajectory else 0
