"""What a file brings to the networks."""

from dataclasses import dataclass, replace

from sdtrt.engine.coding.quantized import Contents, Quantized, part_of
from sdtrt.engine.coding.stored import StoredLatents
from sdtrt.engine.denoising.schedule import Trajectory
from sdtrt.engine.format.container import Header
from sdtrt.engine.format.layout import Span
from sdtrt.engine.networks.view import Look


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file, ready for the networks: its latents, its header, and how they are to be denoised, if they are.

    `vividness` is the share, 0 to 1, that the bundle's vivid decoder has in the pixels; its decoder has the rest. The
    latents of a picture of several tiles may still be `StoredLatents`, of which each tile asks for its `part`.
    """

    contents: Contents | StoredLatents
    header: Header
    trajectory: Trajectory | None = None
    vividness: float = 0.0

    def part(self, rows: Span, columns: Span) -> "Parsed":
        """Return some rows and columns of the latents; the header still is that of the whole."""
        if isinstance(self.contents, StoredLatents):
            return replace(self, contents=self.contents.part(rows, columns))
        return replace(self, contents=part_of(self.contents, rows, columns))

    @property
    def kind(self) -> str:
        """What is known of where latents lie beside their symbols: `points`, `offset`, or `latents` themselves."""
        if isinstance(self.contents, StoredLatents):
            return self.contents.kind
        if not isinstance(self.contents, Quantized):
            return "latents"
        return "points" if self.contents.points.ndim == 3 else "offset"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the latents, (C, h, w)."""
        return (self.contents.symbols if isinstance(self.contents, Quantized) else self.contents).shape

    @property
    def sort(self) -> tuple[object, ...]:
        """What two files have in common that may go through the networks together."""
        return self.kind, self.shape, self.steps, self.decoders

    @property
    def shares(self) -> dict[str, float]:
        """The networks that have a share in the pixels, and how much, in sum 1."""
        shares = {"decoder": 1 - self.vividness, "vivid": self.vividness}
        return {name: share for name, share in shares.items() if share > 0}

    @property
    def decoders(self) -> tuple[str, ...]:
        """The names of those networks."""
        return tuple(self.shares)

    @property
    def look(self) -> Look:
        return "vivid" if self.vividness > 0 else "faithful"

    @property
    def steps(self) -> int:
        """How many steps of denoising there are."""
        return len(self.trajectory.steps) if self.trajectory else 0
