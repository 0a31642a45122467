"""What a file brings to the networks: symbols with what turns them into latents, or latents themselves."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.container import Header
from sdtrt.engine.schedule import Trajectory
from sdtrt.kernels import reference

Floats = NDArray[np.float32]
Symbols = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Quantized:
    """Symbols, int16 (C, h, w), and what turns them into latents; the fields are `dequantize`'s arguments."""

    symbols: Symbols
    mean: Floats  # float32 (C,), as is `delta`
    delta: Floats
    points: NDArray[np.int8] | Floats  # int8 (C, h, w), or float32 (C,)


Contents = Quantized | Floats  # latents are float32 (C, h, w)


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


def latents_of(contents: Contents) -> Floats:
    """Return the latents, float32 (C, h, w)."""
    if not isinstance(contents, Quantized):
        return contents
    return reference.dequantize(contents.symbols, contents.mean, contents.delta, contents.points)


def part_of(contents: Contents, rows: tuple[int, int], columns: tuple[int, int]) -> Contents:
    """Return the latents in some rows and columns, from the first to before the last."""
    within = np.s_[:, slice(*rows), slice(*columns)]
    if not isinstance(contents, Quantized):
        return contents[within]
    points = contents.points[within] if contents.points.ndim == 3 else contents.points
    return replace(contents, symbols=contents.symbols[within], points=points)


def padded(contents: Contents, multiple: int) -> Contents:
    """Return latents with their last row and column repeated, until height and width are multiples of a number."""

    def pad(planes: NDArray[np.generic]) -> NDArray[np.generic]:
        edges = [(0, -side % multiple) for side in planes.shape[1:]]
        return np.pad(planes, [(0, 0), *edges], mode="edge")

    if not isinstance(contents, Quantized):
        return pad(contents)  # type: ignore[return-value]
    points = pad(contents.points) if contents.points.ndim == 3 else contents.points
    return replace(contents, symbols=pad(contents.symbols), points=points)  # type: ignore[arg-type]
