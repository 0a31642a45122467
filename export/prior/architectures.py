"""The coding order of a latent space's prior, and the contexts of its networks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sdtrt.engine.coding.priors.passes import CHECKERBOARD, MARGIN, PYRAMID, Offset, Phase
from sdtrt.engine.coding.priors.prior_layout import Architecture, ContextWindow, LatentPass
from sdtrt.engine.coding.priors.tables import OFFSET_UNITS

HIGH_PYRAMID = (
    Phase(8, ((0, 0),)),
    Phase(8, ((4, 4),)),
    Phase(8, ((0, 4), (4, 0))),
    *PYRAMID[1:],
)
ORIGIN_PERIOD = 8  # rows and columns after which all phases repeat
OFFSETS: list[Offset] = sorted(
    ((dy, dx) for dy in range(-MARGIN, MARGIN + 1) for dx in range(-MARGIN, MARGIN + 1)),
    key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset),
)


@dataclass(frozen=True, kw_only=True)
class ContextShape:
    """The context of one group's networks: for each group, the number of the nearest known offsets that are used.

    Attributes:
        own: Offsets of latents of the same group.
        own_magnitudes: Offsets of magnitudes of the same group.
        near: Other groups whose latents, with their signs, are used.
        near_latents: Offsets of latents of the groups in `near`.
        near_magnitudes: Offsets of magnitudes of the groups in `near`.
        far_magnitudes: Offsets of magnitudes of all other groups.
    """

    own: int = 4
    own_magnitudes: int = 4
    near: tuple[int, ...] = ()
    near_latents: int = 5
    near_magnitudes: int = 5
    far_magnitudes: int = 1


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The configuration of a prior.

    Attributes:
        groups: Groups of channels, coarse to fine.
        context_shapes: The context of each group.
        cuts: Indices of the passes after which levels end.
        hidden_units: Width of the networks' first hidden layer.
        second_hidden_units: Width of the second hidden layer.
        positions_first: Whether all channels of a position precede the next position. Otherwise all positions of a
            group precede the next group.
        fit_offsets: Whether reconstruction offsets are fitted. A decoder trained on symbols learns them by itself.
        predicted_groups: Number of the first groups whose symbols are coded relative to the prediction.
        pyramid: The phases of the first group; of all groups if `positions_first`.
        spacings: Distance of predicted symbols in each phase, in 1/64 quantization step.
    """

    groups: list[list[int]]
    context_shapes: list[ContextShape]
    cuts: tuple[int, ...]
    hidden_units: int
    second_hidden_units: int
    positions_first: bool
    fit_offsets: bool = True
    predicted_groups: int = 0
    pyramid: tuple[Phase, ...] = PYRAMID
    spacings: tuple[int, ...] = (OFFSET_UNITS,) * len(PYRAMID)


def config_for(order: Sequence[int]) -> PriorConfig:
    """Return the configuration for a latent space of any number of channels.

    For 4 channels it is that of `sd1`. More channels are grouped and use fewer offsets, so that a network has about
    300 inputs at most.

    Arguments:
        order: The channels, from the highest rate to the lowest.
    """
    count = len(order)
    groups = [[*map(int, part)] for part in np.array_split(np.array(order), min(count, 4 + count // 16))]
    largest = max(map(len, groups))
    own, near = min(24, max(4, 96 // largest)), min(12, max(1, 192 // max(1, count - largest)))
    context_shape = ContextShape(
        own=own, own_magnitudes=0, near=tuple(range(len(groups))), near_latents=near, near_magnitudes=0
    )
    return PriorConfig(
        groups=groups,
        context_shapes=[context_shape] * len(groups),
        cuts=(3 * len(groups), 4 * len(groups)),
        hidden_units=40 if count <= 8 else 56,
        second_hidden_units=16 if count <= 8 else 32,
        positions_first=True,
    )


PRIOR_CONFIGS = {
    "sd1": config_for(range(4)),
    "tiny": PriorConfig(
        # Channels 0-27 are luma, 28-33 and 34-39 chroma, each by rising frequency. `near` lists the groups that improve
        # a linear prediction of the latents most, measured on training photos.
        groups=[
            [0, 28, 34],
            [1, 2],
            [3, 4, 5],
            [6, 7, 8, 9],
            [29, 30, 35, 36],
            [10, 11, 12, 13, 14],
            [15, 16, 17, 18, 19, 20],
            [21, 22, 23, 24, 25, 26, 27],
            [31, 32, 33, 37, 38, 39],
        ],
        context_shapes=[
            ContextShape(own=20, own_magnitudes=12),
            ContextShape(near=(0,)),
            ContextShape(near=(0, 1)),
            ContextShape(near=(1, 2)),
            ContextShape(near=(0, 1)),
            ContextShape(near=(2, 3)),
            ContextShape(near=(3, 5)),
            ContextShape(near=(5, 6)),
            ContextShape(near=(4, 7)),
        ],
        cuts=(5, 7, 11),
        hidden_units=32,
        second_hidden_units=32,
        positions_first=False,
        fit_offsets=False,
        predicted_groups=1,
        pyramid=HIGH_PYRAMID,
        spacings=(32, 36, 36, 48, 64, 64, 72),
    ),
}


def build_architecture(config: PriorConfig) -> Architecture:
    """Return the coding passes of a configuration."""
    coding_order = list(_coding_order(config))
    bounds = [0]
    for channels in config.groups:
        bounds.append(bounds[-1] + len(channels))
    passes = []
    for number, (group, phase) in enumerate(coding_order):
        first, last = bounds[group], bounds[group + 1]
        values: list[ContextWindow] = []
        magnitudes: list[ContextWindow] = []
        for other in range(len(config.groups)):
            done = [p for g, p in coding_order[:number] if g == other]
            known = [offset for offset in OFFSETS if _known(offset, phase, done)]
            span = bounds[other], bounds[other + 1]
            latents, strengths = num_offsets(config.context_shapes[group], other, own=other == group)
            values += [ContextWindow(*span, *offset) for offset in known[:latents]]
            magnitudes += [ContextWindow(*span, *offset) for offset in known[:strengths]]
        predicted = group < config.predicted_groups
        spacing = config.spacings[config.pyramid.index(phase)] if predicted else OFFSET_UNITS
        passes.append(
            LatentPass(first, last, phase, merge_windows(values), merge_windows(magnitudes), predicted, spacing)
        )
    return Architecture(tuple(channel for group in config.groups for channel in group), tuple(passes), config.cuts)


def num_offsets(shape: ContextShape, other: int, *, own: bool) -> tuple[int, int]:
    """Return how many offsets of the latents and of the magnitudes of group `other` are used."""
    if own:
        return shape.own, shape.own_magnitudes
    return (shape.near_latents, shape.near_magnitudes) if other in shape.near else (0, shape.far_magnitudes)


def merge_windows(windows: list[ContextWindow]) -> tuple[ContextWindow, ...]:
    """Return the windows sorted by offset, with windows of adjacent channels at the same offset merged."""
    merged: list[ContextWindow] = []
    for window in sorted(windows, key=lambda w: (OFFSETS.index((w.dy, w.dx)), w.first)):
        last = merged[-1] if merged else None
        if last and (last.dy, last.dx, last.last) == (window.dy, window.dx, window.first):
            merged[-1] = ContextWindow(last.first, window.last, window.dy, window.dx)
        else:
            merged.append(window)
    return tuple(merged)


def _coding_order(config: PriorConfig) -> Iterator[tuple[int, Phase]]:
    """Yield (group, phase) in coding order."""
    groups = range(len(config.groups))
    if config.positions_first:
        yield from ((group, phase) for phase in config.pyramid for group in groups)
    else:
        yield from ((group, phase) for group in groups for phase in (CHECKERBOARD if group else config.pyramid))


def _known(offset: Offset, phase: Phase, done: list[Phase]) -> bool:
    """Return whether all symbols at an offset from a phase's positions have been coded."""
    dy, dx = offset
    return all(any(p.covers(y + dy, x + dx) for p in done) for y, x in _positions(phase))


def _positions(phase: Phase) -> Iterator[Offset]:
    """Yield a phase's positions within one period."""
    for y, x in phase.offsets:
        for down in range(0, ORIGIN_PERIOD, phase.stride):
            for right in range(0, ORIGIN_PERIOD, phase.stride):
                yield y + down, x + right
