"""A task's samples, cut into pieces of work."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sdtrt.dataset.sources import IMAGES, SDT_FILES, Listing, Sample, listing_of
from sdtrt.dataset.stores import Form

Operation = Literal["encode", "decode", "latents", "verify", "stats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be done with a dataset; without a `destination` nothing is written.

    `options` go to the codec's call, `machine` to its opening; decoded images are files of `kind`, a media type.
    """

    operation: Operation
    source: str
    destination: str | None = None
    form: Form = "folder"
    kind: str = "image/png"
    options: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shard:
    """Some of a task's samples; `fingerprint` tells these, and what is done with them, from any others."""

    name: str
    samples: tuple[Sample, ...]
    fingerprint: str


def listing_for(task: Task) -> Listing:
    """Return the samples of a task's source, and what else there is; `ValueError` if it has none."""
    return listing_of(task.source, IMAGES if task.operation == "encode" else SDT_FILES, dots=task.form != "tar")


def shards_of(task: Task, samples: Sequence[Sample], size: int) -> list[Shard]:
    """Return the shards of a task, `size` samples each."""
    digits = max(6, len(str(len(samples) // size)))
    return [
        shard(task, f"shard-{start // size:0{digits}d}", tuple(samples[start : start + size]))
        for start in range(0, len(samples), size)
    ]


def shard(task: Task, name: str, samples: tuple[Sample, ...]) -> Shard:
    how = [task.operation, task.form, task.kind, dict(task.options), task.machine.get("model")]
    said = json.dumps([how, [asdict(sample) for sample in samples]], default=str, allow_nan=False)
    return Shard(name, samples, hashlib.sha256(said.encode()).hexdigest())
