"""The architecture of a prior with networks: its passes, their order, and the inputs of each network.

It is JSON in the prior's file. `docs/format.md`, section 3.5, is normative.
"""

import json
from dataclasses import dataclass, field

from sdtrt.engine.coding.priors.passes import Phase
from sdtrt.engine.coding.priors.tables import OFFSET_UNITS

UNITS_PER_LATENT = 64


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """Channels `first` to `last` (in coding order) of the neighbours at the offset (dy, dx)."""

    first: int
    last: int
    dy: int
    dx: int


def num_channels(windows: tuple[ContextWindow, ...]) -> int:
    """Return the total number of channels in windows."""
    return sum(window.last - window.first for window in windows)


@dataclass(frozen=True, slots=True, eq=False)
class LatentPass:
    """A pass over channels `start` to `stop` (in coding order) at the positions of `phase`.

    Arguments:
        values, magnitudes: the windows whose latents and compressed magnitudes are inputs of the pass's network.
        predicted: whether symbols are coded relative to the network's prediction; otherwise relative to 0.
        spacing: distance of reconstruction levels in 1/64 step; 64 unless the pass is predicted.
        inputs: number of inputs of the network, without those of the step.
    """

    start: int
    stop: int
    phase: Phase
    values: tuple[ContextWindow, ...]
    magnitudes: tuple[ContextWindow, ...]
    predicted: bool = False
    spacing: int = OFFSET_UNITS
    inputs: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", num_channels(self.values + self.magnitudes))


def units_per_latent(coding_pass: LatentPass) -> int:
    """Return the units of a pass's latents in a normalised unit: 64, or 32 if predicted, since those are larger."""
    return UNITS_PER_LATENT >> coding_pass.predicted


@dataclass(frozen=True, slots=True)
class Architecture:
    """The structure of a prior.

    Arguments:
        order: the channels in coding order.
        passes: all passes, in coding order.
        cuts: the number of passes up to the end of each level but the last, rising.
    """

    order: tuple[int, ...]
    passes: tuple[LatentPass, ...]
    cuts: tuple[int, ...]

    def to_json(self) -> str:
        """Return the JSON text of a prior's file; its keys are part of the format."""
        passes = [
            {
                "channels": [p.start, p.stop],
                "stride": p.phase.stride,
                "origins": p.phase.offsets,
                "values": [[w.first, w.last, w.dy, w.dx] for w in p.values],
                "magnitudes": [[w.first, w.last, w.dy, w.dx] for w in p.magnitudes],
                "predicted": p.predicted,
                "spacing": p.spacing,
            }
            for p in self.passes
        ]
        return json.dumps(
            {"order": self.order, "cuts": self.cuts, "passes": passes}, separators=(",", ":"), allow_nan=False
        )


def parse_architecture(text: str) -> Architecture:
    """Return the architecture in the JSON text of `Architecture.to_json`; values are not checked."""
    fields = json.loads(text)
    passes = [
        LatentPass(
            p["channels"][0],
            p["channels"][1],
            Phase(p["stride"], tuple((y, x) for y, x in p["origins"])),
            tuple(ContextWindow(*w) for w in p["values"]),
            tuple(ContextWindow(*w) for w in p["magnitudes"]),
            p.get("predicted", False),
            p.get("spacing", OFFSET_UNITS),
        )
        for p in fields["passes"]
    ]
    return Architecture(tuple(fields["order"]), tuple(passes), tuple(fields["cuts"]))
