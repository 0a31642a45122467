"""One shard: read its samples, do with them what the task says, write what comes of it. The same on any machine."""

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from sdtrt import api, information
from sdtrt.codec import Codec
from sdtrt.dataset.reading import Fields, Reader
from sdtrt.dataset.shards import Shard, Task
from sdtrt.dataset.sources import Sample
from sdtrt.dataset.stores import Item, Store
from sdtrt.errors import DeviceError
from sdtrt.images.files import SUFFIXES, image_of_bytes, picture_file

Record = dict[str, Any]
Call = Callable[[bytes], tuple[bytes, dict[str, int]]]
DONE = ".shards"  # the folder that says which shards are done


def do(task: Task, shard: Shard) -> Record:
    """Do a shard; return its record, which is also written beside the files: they are whole once it is there.

    What is wrong with a sample is in the record; what may be right the next time is marked `again`. Raises
    `BundleError` if there is no such model, `DeviceError` if the machine cannot run it, `OSError` if the destination
    refuses.
    """
    call, suffix = calls(task)
    store = Store(task.destination) if task.destination is not None else None
    items: list[Item] = []
    record: Record = {"shard": shard.name, "fingerprint": shard.fingerprint, "keys": [], "files": [], "errors": []}
    sums: Counter[str] = Counter()
    with Reader() as reader:
        for sample in shard.samples:
            made = attempted(reader, sample, call)
            if isinstance(made, dict):
                record["errors"].append(made)
                continue
            data, fields, figures = made
            sums.update({"samples": 1, "made_nbytes": len(data)} | figures)
            record["keys"].append(sample.key)
            item = Item(sample.key, suffix, data, fields)
            if store and task.form == "folder":
                record["files"] += store.write_item(item)
            elif store:
                items.append(item)
    record["sums"] = dict(sums)
    if store:
        if task.form != "folder":
            record["files"] = store.write_shard(task.form, shard.name, suffix, items)
        store.put(f"{DONE}/{shard.name}.json", json.dumps(record).encode())
    return record


def attempted(reader: Reader, sample: Sample, call: Call) -> tuple[bytes, Fields, dict[str, int]] | Record:
    """Return what comes of a sample, and figures to be summed; or what is wrong with it."""
    try:
        data, fields = reader.read(sample)
    except Exception as error:  # of whatever library reads there
        return problem(sample.key, error, again=isinstance(error, OSError | MemoryError))
    try:
        made, figures = call(data)
    except DeviceError:
        raise
    except Exception as error:  # of a picture: the others are done
        return problem(sample.key, error, again=isinstance(error, MemoryError))
    return made, fields, {"nbytes": len(data)} | figures


def problem(key: str, error: Exception | str, *, again: bool) -> Record:
    said = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return {"key": key, "error": said} | ({"again": True} if again else {})


def calls(task: Task) -> tuple[Call, str]:
    """Return what makes a file's bytes, and figures to be summed, of a sample's; and the suffix of what is made."""
    if task.operation == "verify":
        return verified, ""
    if task.operation == "stats":
        return measured, ""
    if task.operation == "latents":
        return lambda data: (npy(api.decode_latents(data)), {}), "npy"
    codec, options = opened(json.dumps(dict(task.machine), sort_keys=True)), dict(task.options)
    if task.operation == "encode":
        return lambda data: (codec.encode(image_of_bytes(data), **options), {}), "sdt"
    quality = options.pop("output_quality", None)
    return lambda data: (picture_file(codec.decode(data, **options), task.kind, quality), {}), SUFFIXES[task.kind]


@cache
def opened(machine: str) -> Codec:
    """Return this process's codec."""
    options: Mapping[str, Any] = json.loads(machine)
    return Codec.open(**options)


def verified(data: bytes) -> tuple[bytes, dict[str, int]]:
    return b"", {"unchecked": 1} if information.verify(data) else {}


def measured(data: bytes) -> tuple[bytes, dict[str, int]]:
    about = information.info(data)
    return b"", {"pixels": about.width * about.height, **{f"{name}_nbytes": n for name, n in about.spent.items()}}


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
