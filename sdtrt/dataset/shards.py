"""Tasks, and the shards of their samples."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sdtrt.dataset.sources import IMAGES, SDT_FILES, Listing, Sample, list_source
from sdtrt.dataset.stores import Form

Operation = Literal["encode", "decode", "latents", "verify", "stats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An operation on a whole dataset.

    Arguments:
        operation: the operation.
        source: the dataset, as `sources.list_source` takes it.
        destination: a folder or an fsspec location (default None, nothing is written).
        form: the form of the results (default "folder").
        kind: the media type of decoded images (default "image/png").
        options: keyword arguments of the codec's call (default none).
        machine: keyword arguments of `Codec.open` (default none).
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
    """Some consecutive samples of a task.

    Arguments:
        name: the stem of its files.
        samples: its samples.
        fingerprint: a SHA-256 over the samples, the operation and its options, in hexadecimal.
    """

    name: str
    samples: tuple[Sample, ...]
    fingerprint: str


def list_task_source(task: Task) -> Listing:
    """Return the samples and the other files of a task's source; `ValueError` if it has no samples."""
    return list_source(task.source, IMAGES if task.operation == "encode" else SDT_FILES, dots=task.form != "tar")


def split_into_shards(task: Task, samples: Sequence[Sample], size: int) -> list[Shard]:
    """Return the shards of a task, with `size` samples each, fewer in the last."""
    digits = max(6, len(str(len(samples) // size)))
    return [
        make_shard(task, f"shard-{start // size:0{digits}d}", tuple(samples[start : start + size]))
        for start in range(0, len(samples), size)
    ]


def make_shard(task: Task, name: str, samples: tuple[Sample, ...]) -> Shard:
    how = [task.operation, task.form, task.kind, dict(task.options), task.machine.get("model")]
    # The names of the samples' fields are hashed, too. Renaming a field would redo the shards of earlier runs.
    content = json.dumps([how, [asdict(sample) for sample in samples]], default=str, allow_nan=False)
    return Shard(name, samples, hashlib.sha256(content.encode()).hexdigest())
