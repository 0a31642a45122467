"""What priors whose networks see latents code in which order, and what their networks look at: JSON in a prior's file.

`docs/format.md`, section 3.5, is normative.
"""

import json
from dataclasses import dataclass, field

from sdtrt.engine.coding.priors.passes import Phase
from sdtrt.engine.coding.priors.tables import OFFSET_UNITS

UNITS_PER_LATENT = 64


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """Channels `first` to `last` (in coding order), seen at the offset (dy, dx)."""

    first: int
    last: int
    dy: int
    dx: int


def num_channels(windows: tuple[ContextWindow, ...]) -> int:
    """Return how many channels windows see, all told."""
    return sum(window.last - window.first for window in windows)


@dataclass(frozen=True, slots=True, eq=False)
class LatentPass:
    """Channels `start` to `stop` (in coding order) at the positions of `phase`, and what their network looks at.

    Where latents are `predicted`, symbols count from what the network expects, not from 0, and lie `spacing` / 64 steps
    apart.
    """

    start: int
    stop: int
    phase: Phase
    values: tuple[ContextWindow, ...]
    magnitudes: tuple[ContextWindow, ...]
    predicted: bool = False
    spacing: int = OFFSET_UNITS
    inputs: int = field(init=False)  # how many values and magnitudes the network sees

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", num_channels(self.values + self.magnitudes))


def units_per_latent(coding_pass: LatentPass) -> int:
    """Return how many units a pass's latents are counted in: half as many where they are predicted, and large."""
    return UNITS_PER_LATENT >> coding_pass.predicted


@dataclass(frozen=True, slots=True)
class Architecture:
    """The channels in coding order, and the passes over them, and where between them levels end.

    JSON inside a prior's file.
    """

    order: tuple[int, ...]
    passes: tuple[LatentPass, ...]
    cuts: tuple[int, ...]

    def to_json(self) -> str:
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
    """Return what `Architecture.to_json` wrote."""
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
