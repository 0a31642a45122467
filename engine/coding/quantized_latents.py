"""Latents as a file holds them: symbols with what turns them into latents, or latents themselves."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sdtrt._arrays import F32Array, I8Array, I16Array
from sdtrt.kernels import reference


@dataclass(frozen=True, slots=True)
class QuantizedLatents:
    """I16Array, int16 (C, h, w), and what turns them into latents; the fields are `dequantize`'s arguments."""

    symbols: I16Array
    mean: F32Array  # float32 (C,), as is `delta`
    delta: F32Array
    points: I8Array | F32Array  # int8 (C, h, w), or float32 (C,)


Contents = QuantizedLatents | F32Array  # latents are float32 (C, h, w)


def dequantize(contents: Contents) -> F32Array:
    """Return the latents, float32 (C, h, w)."""
    if not isinstance(contents, QuantizedLatents):
        return contents
    return reference.dequantize(contents.symbols, contents.mean, contents.delta, contents.points)


def crop(contents: Contents, rows: tuple[int, int], columns: tuple[int, int]) -> Contents:
    """Return the latents in some rows and columns, from the first to before the last."""
    within = np.s_[:, slice(*rows), slice(*columns)]
    if not isinstance(contents, QuantizedLatents):
        return contents[within]
    points = contents.points[within] if contents.points.ndim == 3 else contents.points
    return replace(contents, symbols=contents.symbols[within], points=points)


def select_channels(quantized: QuantizedLatents, channels: Collection[int]) -> QuantizedLatents:
    """Return the latents of some channels."""
    some = np.array([*channels], np.intp)
    fields = {name: getattr(quantized, name)[some] for name in ("symbols", "mean", "delta", "points")}
    return QuantizedLatents(**fields)


def pad_to_multiple(contents: Contents, multiple: int) -> Contents:
    """Return latents with their last row and column repeated, until height and width are multiples of a number."""

    def pad(planes: NDArray[np.generic]) -> NDArray[np.generic]:
        edges = [(0, -side % multiple) for side in planes.shape[1:]]
        return np.pad(planes, [(0, 0), *edges], mode="edge")

    if not isinstance(contents, QuantizedLatents):
        return pad(contents)  # type: ignore[return-value]
    points = pad(contents.points) if contents.points.ndim == 3 else contents.points
    return replace(contents, symbols=pad(contents.symbols), points=points)  # type: ignore[arg-type]
