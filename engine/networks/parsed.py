"""What a file brings to the networks."""

from dataclasses import dataclass

import numpy as np

from sdtrt.engine.coding.quantized import Contents, Quantized
from sdtrt.engine.denoising.schedule import Trajectory
from sdtrt.engine.format.container import Header


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file, ready for the networks: its latents, its header, and how they are to be denoised, if they are."""

    contents: Contents
    header: Header
    trajectory: Trajectory | None = None

    @property
    def kind(self) -> str:
        """What is known of where latents lie beside their symbols: `points`, `offset`, or `latents` themselves."""
        if not isinstance(self.contents, Quantized):
            return "latents"
        return "points" if self.contents.points.dtype == np.int8 else "offset"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the latents, (C, h, w)."""
        return (self.contents.symbols if isinstance(self.contents, Quantized) else self.contents).shape

    @property
    def sort(self) -> tuple[object, ...]:
        """What two files have in common that may go through the networks together."""
        return self.kind, self.shape, self.steps

    @property
    def steps(self) -> int:
        """How many steps of denoising there are."""
        return len(self.trajectory.steps) if self.trajectory else 0
