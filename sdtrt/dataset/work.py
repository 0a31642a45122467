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
from sdtrt.dataset.reading import Reader
from sdtrt.dataset.shards import Shard, Task
from sdtrt.dataset.stores import Item, Store
from sdtrt.errors import DeviceError
from sdtrt.images.files import SUFFIXES, image_of_bytes, picture_file

Record = dict[str, Any]
DONE = ".shards"  # the folder that says which shards are done


def do(task: Task, shard: Shard) -> Record:
    """Do a shard; return its record, which is also written beside the files: they are whole once it is there.

    What is wrong with a sample is in the record. Raises `BundleError` if there is no such model, `DeviceError` if the
    machine cannot run it, `OSError` if the destination refuses.
    """
    call, suffix = calls(task)
    items, errors = [], []
    sums: Counter[str] = Counter()
    with Reader() as reader:
        for sample in shard.samples:
            try:
                data, fields = reader.read(sample)
                made, figures = call(data)
            except DeviceError:
                raise
            except Exception as error:  # of a sample: the others are done
                errors.append({"key": sample.key, "error": f"{type(error).__name__}: {error}"})
                continue
            sums.update({"samples": 1, "nbytes": len(data), "made_nbytes": len(made)} | figures)
            items.append(Item(sample.key, suffix, made, fields))
    record: Record = {"shard": shard.name, "fingerprint": shard.fingerprint, "errors": errors, "sums": dict(sums)}
    if task.destination is None:
        return record
    store = Store(task.destination)
    record["keys"] = [item.key for item in items]
    record["files"] = store.write(task.form, shard.name, items)
    store.put(f"{DONE}/{shard.name}.json", json.dumps(record).encode())
    return record


def calls(task: Task) -> tuple[Callable[[bytes], tuple[bytes, dict[str, int]]], str]:
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
    return lambda data: (picture_file(codec.decode(data, **options), task.kind), {}), SUFFIXES[task.kind]


@cache
def opened(machine: str) -> Codec:
    """Return this process's codec."""
    options: Mapping[str, Any] = json.loads(machine)
    return Codec.open(**options)


def verified(data: bytes) -> tuple[bytes, dict[str, int]]:
    information.verify(data)
    return b"", {}


def measured(data: bytes) -> tuple[bytes, dict[str, int]]:
    about = information.info(data)
    return b"", {"pixels": about.width * about.height, **{f"{name}_nbytes": n for name, n in about.spent.items()}}


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
