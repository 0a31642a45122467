"""One shard: read its samples, do with them what the task says, write what comes of it. The same on any machine."""

import errno
import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from sdtrt import api, file_info
from sdtrt.codec import Codec
from sdtrt.dataset.reading import Reader
from sdtrt.dataset.shards import Shard, Task
from sdtrt.dataset.sources import Sample
from sdtrt.dataset.stores import DONE, Item, Store
from sdtrt.dataset.unfinished import Result, Unfinished
from sdtrt.errors import DeviceError, ImageWarning
from sdtrt.images.files import FORMATS, SUFFIXES, image_file_of_type, image_of_bytes
from sdtrt.images.options import ImageDecodeOptions, ImageEncodeOptions
from sdtrt.process.text import error_text, printable, without_addresses

Record = dict[str, Any]
Call = Callable[[bytes], tuple[bytes, dict[str, int]]]
NAME_ERRORS = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
Advance = Callable[[int], None]  # takes how many samples of a shard are done


def do(task: Task, shard: Shard, advance: Advance | None = None) -> Record:
    """Do a shard; return its record, which is also written beside the files: they are whole once it is there.

    Samples that an earlier run has done of this shard are not done again. What is wrong with a sample is in the record;
    what may be right the next time is marked `again`.

    Arguments:
        advance: a function that takes the number of samples that are done, as that grows (default None).

    Raises `BundleError` if there is no such model, `DeviceError` if the machine cannot run it, `OSError` if the
    destination refuses.
    """
    store = Store(task.destination) if task.destination is not None else None
    unfinished = Unfinished(store, shard) if store else None
    results = unfinished.load() if unfinished else {}
    if advance:
        advance(len(results))
    for index, result in results_of(task, shard, results.keys()):
        if store and task.form == "folder" and result.item:
            results[index] = written(store, shard.samples[index], result)
        else:
            results[index] = result if store else replace(result, item=None)
        if unfinished:
            unfinished.add(index, results[index])
        if advance:
            advance(len(results))
    record = record_of(shard, [results[index] for index in range(len(shard.samples))])
    if store and unfinished:
        if task.form != "folder":
            items = [results[index].item for index in range(len(shard.samples))]
            record["files"] = store.write_shard(task.form, shard.name, calls(task)[1], [one for one in items if one])
        store.put(f"{DONE}/{shard.name}.json", json.dumps(record, allow_nan=False).encode())
        unfinished.remove()
    return record


def written(store: Store, sample: Sample, result: Result) -> Result:
    """Write the files of a result; an error if the destination has a folder of such a name, or takes no such name."""
    assert result.item is not None
    try:
        return replace(result, files=store.write_item(result.item), item=None)
    except OSError as error:
        if error.errno not in NAME_ERRORS:
            raise
        return Result(error=problem(sample, error, again=True))


def results_of(task: Task, shard: Shard, known: Collection[int]) -> Iterator[tuple[int, Result]]:
    """Yield what comes of a shard's samples, but for those that are known, with their index."""
    missing = [index for index in range(len(shard.samples)) if index not in known]
    with Reader() as reader:
        for index in missing:
            yield index, attempted(reader, shard.samples[index], *calls(task))


def record_of(shard: Shard, results: Sequence[Result]) -> Record:
    """Return the record of a shard of which these are the results, sample by sample."""
    pairs = list(zip(shard.samples, results, strict=True))
    sums: Counter[str] = Counter()
    for result in results:
        sums.update(result.figures)
    return {
        "shard": shard.name,
        "fingerprint": shard.fingerprint,
        "keys": [sample.key for sample, result in pairs if not result.error],
        "files": [one for result in results for one in result.files],
        "errors": [result.error for result in results if result.error],
        "warnings": [
            {"key": sample.key, "source": sample.source, "warning": text}
            for sample, result in pairs
            for text in result.warnings
        ],
        "sums": dict(sums),
    }


def attempted(reader: Reader, sample: Sample, call: Call, suffix: str) -> Result:
    """Return what comes of a sample, and figures to be summed; or what is wrong with it."""
    try:
        data, extras = reader.read(sample)
    except Exception as error:  # of whatever library reads there
        return Result(error=problem(sample, error, again=isinstance(error, OSError | MemoryError)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImageWarning)
        try:
            made, figures = call(data)
        except DeviceError:
            raise
        except Exception as error:  # of an image: the others are done
            return Result(error=problem(sample, error, again=isinstance(error, MemoryError)))
    texts = sorted({without_addresses(printable(str(one.message))) for one in caught})
    figures = {"samples": 1, "made_nbytes": len(made), "nbytes": len(data)} | figures
    return Result(figures, Item(sample.key, suffix, made, extras), warnings=texts)


def problem(sample: Sample, error: Exception, *, again: bool) -> Record:
    """Return what is wrong with a sample, with its key and where it is."""
    if sample.main is None:
        text = printable(sample.fault)
    elif isinstance(error, UnidentifiedImageError):
        text = f"no image of a kind that is read here: {', '.join(FORMATS)}"
    else:
        text = error_text(error)
    return {"key": sample.key, "source": sample.source, "error": text} | ({"again": True} if again else {})


def calls(task: Task) -> tuple[Call, str]:
    """Return what makes a file's bytes, and figures to be summed, of a sample's; and the suffix of what is made."""
    if task.operation == "verify":
        return verified, ""
    if task.operation == "stats":
        return measured, ""
    if task.operation == "latents":
        return lambda data: (npy(api.decode_latents(data)), {}), "npy"
    codec, options = opened(json.dumps(dict(task.machine), sort_keys=True, allow_nan=False)), dict(task.options)
    if task.operation == "encode":
        encoding = ImageEncodeOptions(**options)
        return lambda data: (codec._encode(image_of_bytes(data), encoding), {}), "sdt"
    quality = options.pop("output_quality", None)
    decoding = ImageDecodeOptions(**options)
    return lambda data: (image_file_of_type(codec._decode(data, decoding), task.kind, quality), {}), SUFFIXES[task.kind]


@cache
def opened(machine: str) -> Codec:
    """Return this process's codec."""
    options: Mapping[str, Any] = json.loads(machine)
    return Codec.open(**options)


def verified(data: bytes) -> tuple[bytes, dict[str, int]]:
    return b"", {"unchecked": 1} if file_info.verify(data) else {}


def measured(data: bytes) -> tuple[bytes, dict[str, int]]:
    about = file_info.info(data)
    return b"", {
        "pixels": about.width * about.height,
        **{f"{name}_nbytes": n for name, n in about.bytes_by_section.items()},
    }


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
