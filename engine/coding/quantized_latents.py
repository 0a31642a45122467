"""Latents on their way to a decoder network: quantized, or as floats.

`QuantizedLatents` is the one type for coded latents. `LatentSource` is its interface: crops of latents for tiles.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sdtrt._arrays import F32Array, I8Array, I16Array
from sdtrt.engine.format.layout import Span
from sdtrt.kernels import reference


class OffsetKind(Enum):
    """How reconstruction offsets are given."""

    PER_SYMBOL = 1  # int8 (C, h, w), in 1/64 quantization step from the symbol
    PER_CHANNEL = 2  # float32 (C,), in quantization steps towards zero
    NONE = 3  # the latents are floats: nothing is left to reconstruct


class LatentSource(Protocol):
    """Latents of an image, of which networks get crops."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, h, w)."""

    @property
    def offset_kind(self) -> OffsetKind: ...

    def crop(self, rows: Span, columns: Span) -> "QuantizedLatents | FloatLatents":
        """Take some rows and columns, each from a first one to before a last one."""


@dataclass(frozen=True, slots=True)
class QuantizedLatents:
    """Quantized latents of an image, or of a part of it. The fields are the arguments of the kernel `dequantize`.

    Attributes:
        symbols: int16 (C, h, w).
        mean: float32 (C,), the latent of symbol 0.
        channel_steps: float32 (C,), the quantization step of each channel in latents at unit scale.
        recon_offsets: int8 (C, h, w) or float32 (C,); see `OffsetKind`.
    """

    symbols: I16Array
    mean: F32Array
    channel_steps: F32Array
    recon_offsets: I8Array | F32Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, h, w)."""
        return self.symbols.shape

    @property
    def offset_kind(self) -> OffsetKind:
        return OffsetKind.PER_SYMBOL if self.recon_offsets.ndim == 3 else OffsetKind.PER_CHANNEL

    def dequantize(self) -> F32Array:
        """Compute the latents, float32 (C, h, w)."""
        return reference.dequantize(self.symbols, self.mean, self.channel_steps, self.recon_offsets)

    def crop(self, rows: Span, columns: Span) -> "QuantizedLatents":
        """Take some rows and columns, each from a first one to before a last one."""
        part = np.s_[:, slice(*rows), slice(*columns)]
        offsets = self.recon_offsets[part] if self.recon_offsets.ndim == 3 else self.recon_offsets
        return replace(self, symbols=self.symbols[part], recon_offsets=offsets)

    def select_channels(self, channels: Collection[int]) -> "QuantizedLatents":
        """Take some channels, in the given order."""
        chosen = np.array([*channels], np.intp)
        return QuantizedLatents(
            self.symbols[chosen], self.mean[chosen], self.channel_steps[chosen], self.recon_offsets[chosen]
        )

    def pad_to_multiple(self, multiple: int) -> "QuantizedLatents":
        """Repeat the last row and column until height and width are multiples of a number."""
        offsets = self.recon_offsets
        return replace(
            self,
            symbols=_pad(self.symbols, multiple),
            recon_offsets=_pad(offsets, multiple) if offsets.ndim == 3 else offsets,
        )


@dataclass(frozen=True, slots=True)
class FloatLatents:
    """Latents that were never quantized, float32 (C, h, w) at unit scale."""

    latents: F32Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, h, w)."""
        return self.latents.shape

    @property
    def offset_kind(self) -> OffsetKind:
        return OffsetKind.NONE

    def dequantize(self) -> F32Array:
        """Return the latents."""
        return self.latents

    def crop(self, rows: Span, columns: Span) -> "FloatLatents":
        """Take some rows and columns, each from a first one to before a last one."""
        return FloatLatents(self.latents[:, slice(*rows), slice(*columns)])


def _pad(planes: NDArray[Any], multiple: int) -> NDArray[Any]:
    return np.pad(planes, [(0, 0), *((0, -side % multiple) for side in planes.shape[1:])], mode="edge")
