"""What a file brings to the networks."""

from dataclasses import dataclass, replace

from sdtrt.engine.coding.quantized_latents import LatentSource, OffsetKind
from sdtrt.engine.denoising.schedule import Trajectory
from sdtrt.engine.format.container import Header
from sdtrt.engine.format.layout import Span
from sdtrt.engine.networks.decode_options import Look


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """A file, ready for the networks: its latents, its header, and how they are to be denoised, if they are.

    `vivid_weight` is the share, 0 to 1, that the bundle's vivid decoder has in the pixels; its decoder has the rest. The
    latents of an image of several tiles may still be `LatentReader`, of which each tile asks for its `crop`.
    """

    contents: LatentSource
    header: Header
    trajectory: Trajectory | None = None
    vivid_weight: float = 0.0

    def crop(self, rows: Span, columns: Span) -> "DecodeRequest":
        """Return some rows and columns of the latents; the header still is that of the whole."""
        return replace(self, contents=self.contents.crop(rows, columns))

    @property
    def offset_kind(self) -> OffsetKind:
        return self.contents.offset_kind

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the latents, (C, h, w)."""
        return self.contents.shape

    @property
    def batch_key(self) -> tuple[object, ...]:
        """What two files have in common that may go through the networks together."""
        return self.offset_kind, self.shape, self.denoise_steps, self.decoders

    @property
    def decoder_weights(self) -> dict[str, float]:
        """The networks that have a share in the pixels, and how much, in sum 1."""
        shares = {"decoder": 1 - self.vivid_weight, "vivid": self.vivid_weight}
        return {name: share for name, share in shares.items() if share > 0}

    @property
    def decoders(self) -> tuple[str, ...]:
        """The names of those networks."""
        return tuple(self.decoder_weights)

    @property
    def look(self) -> Look:
        return "vivid" if self.vivid_weight > 0 else "faithful"

    @property
    def denoise_steps(self) -> int:
        """How many steps of denoising there are."""
        return len(self.trajectory.steps) if self.trajectory else 0
