"""The input of the networks for one file."""

from dataclasses import dataclass, replace

from sdtrt.engine.coding.quantized_latents import LatentSource, OffsetKind
from sdtrt.engine.denoising.schedule import Trajectory
from sdtrt.engine.format.container import Header
from sdtrt.engine.format.layout import Span
from sdtrt.engine.networks.decode_options import Look


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """The latents of a file, and how the networks decode them.

    Attributes:
        latents: the latents. For an image of several tiles they may be a `LatentReader`, which `crop` reads from.
        header: the header of the file.
        trajectory: the steps of the denoising; None for none.
        vivid_weight: the weight of the vivid decoder's pixels, 0 to 1. The weights of both decoders add up to 1.
    """

    latents: LatentSource
    header: Header
    trajectory: Trajectory | None = None
    vivid_weight: float = 0.0

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
        return self.offset_kind, self.shape, self.denoise_steps, self.decoders

    @property
    def decoder_weights(self) -> dict[str, float]:
        """The decoders that are used, `decoder` or `vivid` or both, and the weights of their pixels."""
        if self.vivid_weight <= 0:
            return {"decoder": 1.0}
        if self.vivid_weight >= 1:
            return {"vivid": 1.0}
        return {"decoder": 1 - self.vivid_weight, "vivid": self.vivid_weight}

    @property
    def decoders(self) -> tuple[str, ...]:
        """The names of the decoders that are used."""
        return tuple(self.decoder_weights)

    @property
    def look(self) -> Look:
        return "vivid" if self.vivid_weight > 0 else "faithful"

    @property
    def denoise_steps(self) -> int:
        """The number of denoising steps."""
        return len(self.trajectory.steps) if self.trajectory else 0
