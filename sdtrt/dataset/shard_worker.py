"""Processing of a single shard: read its samples, apply the operation, write the results. Runs on any machine."""

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
from sdtrt.codec import Codec, ImageDecodeOptions, ImageEncodeOptions
from sdtrt.dataset.reading import SampleReader
from sdtrt.dataset.shard_checkpoint import SampleResult, ShardCheckpoint
from sdtrt.dataset.shards import Shard, Task
from sdtrt.dataset.sources import Sample
from sdtrt.dataset.stores import RECORDS_FOLDER, Item, Store
from sdtrt.errors import DeviceError, ImageWarning
from sdtrt.images.files import image_file_of_type
from sdtrt.images.media_types import SUFFIXES
from sdtrt.images.web_formats import FORMATS, image_of_bytes
from sdtrt.process.text import error_text, printable, without_addresses

Record = dict[str, Any]
SampleCall = Callable[[bytes], tuple[bytes, dict[str, int]]]  # file to result, and figures to be summed
NAME_ERRNOS = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
Advance = Callable[[int], None]  # takes the number of finished samples of a shard


def process_shard(task: Task, shard: Shard, advance: Advance | None = None) -> Record:
    """Process a shard, write its results, and return its record.

    The record is written last, so a shard with a record is complete. Samples with results in a checkpoint are not
    processed again. An error of a sample goes to the record. An error that may be transient is marked `again`.

    Arguments:
        task: the task.
        shard: the shard.
        advance: a function that is called with the number of finished samples whenever it grows (default None).

    Raises:
        BundleError: there is no such model.
        DeviceError: this machine cannot run the model.
        OSError: the destination cannot be written.
    """
    store = Store(task.destination) if task.destination is not None else None
    checkpoint = ShardCheckpoint(store, shard) if store else None
    results = checkpoint.load() if checkpoint else {}
    if advance:
        advance(len(results))
    for index, result in process_samples(task, shard, results.keys()):
        if store and task.form == "folder" and result.item:
            results[index] = write_result(store, shard.samples[index], result)
        else:
            results[index] = result if store else replace(result, item=None)
        if checkpoint:
            checkpoint.add(index, results[index])
        if advance:
            advance(len(results))
    record = make_record(shard, [results[index] for index in range(len(shard.samples))])
    if store and checkpoint:
        if task.form != "folder":
            items = [item for index in range(len(shard.samples)) if (item := results[index].item)]
            record["files"] = store.write_shard(task.form, shard.name, sample_call(task)[1], items)
        store.put(f"{RECORDS_FOLDER}/{shard.name}.json", json.dumps(record, allow_nan=False).encode())
        checkpoint.remove()
    return record


def write_result(store: Store, sample: Sample, result: SampleResult) -> SampleResult:
    """Write the files of a result; the result is an error if the destination does not allow their names."""
    assert result.item is not None
    try:
        return replace(result, files=store.write_item(result.item), item=None)
    except OSError as error:
        if error.errno not in NAME_ERRNOS:
            raise
        return SampleResult(error=error_entry(sample, error, again=True))


def process_samples(task: Task, shard: Shard, finished: Collection[int]) -> Iterator[tuple[int, SampleResult]]:
    """Yield the index and the result of each sample of a shard, except of the samples in `finished`."""
    remaining = [index for index in range(len(shard.samples)) if index not in finished]
    with SampleReader() as reader:
        for index in remaining:
            yield index, process_sample(reader, shard.samples[index], *sample_call(task))


def make_record(shard: Shard, results: Sequence[SampleResult]) -> Record:
    """Return the record of a shard, given the result of each of its samples."""
    pairs = list(zip(shard.samples, results, strict=True))
    sums: Counter[str] = Counter()
    for result in results:
        sums.update(result.figures)
    return {
        "shard": shard.name,
        "fingerprint": shard.fingerprint,
        "keys": [sample.key for sample, result in pairs if not result.error],
        "files": [file for result in results for file in result.files],
        "errors": [result.error for result in results if result.error],
        "warnings": [
            {"key": sample.key, "source": sample.source, "warning": text}
            for sample, result in pairs
            for text in result.warnings
        ],
        "sums": dict(sums),
    }


def process_sample(reader: SampleReader, sample: Sample, call: SampleCall, suffix: str) -> SampleResult:
    """Read a sample and apply an operation; errors become part of the result.

    Arguments:
        reader: the reader.
        sample: the sample.
        call: the operation.
        suffix: the suffix of the operation's result.

    Raises:
        DeviceError: this machine cannot run the model.
    """
    try:
        data, extras = reader.read(sample)
    except Exception as error:  # libraries of fsspec raise errors of their own
        return SampleResult(error=error_entry(sample, error, again=isinstance(error, OSError | MemoryError)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImageWarning)
        try:
            output, figures = call(data)
        except DeviceError:
            raise
        except Exception as error:  # an error of one image does not end the shard
            return SampleResult(error=error_entry(sample, error, again=isinstance(error, MemoryError)))
    texts = sorted({without_addresses(printable(str(warning.message))) for warning in caught})
    figures = {"samples": 1, "made_nbytes": len(output), "nbytes": len(data)} | figures
    return SampleResult(figures, Item(sample.key, suffix, output, extras), warnings=texts)


def error_entry(sample: Sample, error: Exception, *, again: bool) -> Record:
    """Return the entry of a sample among the errors of a record; `again` marks an error that may be transient."""
    if sample.main is None:
        text = printable(sample.fault)
    elif isinstance(error, UnidentifiedImageError):
        text = f"not an image; supported formats: {', '.join(FORMATS)}"
    else:
        text = error_text(error)
    return {"key": sample.key, "source": sample.source, "error": text} | ({"again": True} if again else {})


def sample_call(task: Task) -> tuple[SampleCall, str]:
    """Return the function that a task applies to the bytes of each sample, and the suffix of its results."""
    if task.operation == "verify":
        return verify_file, ""
    if task.operation == "stats":
        return file_figures, ""
    if task.operation == "latents":
        return lambda data: (to_npy(api.decode_latents(data)), {}), "npy"
    codec = cached_codec(json.dumps(dict(task.machine), sort_keys=True, allow_nan=False))
    options = dict(task.options)
    if task.operation == "encode":
        encoding = ImageEncodeOptions(**options)
        return lambda data: (codec._encode(image_of_bytes(data), encoding), {}), "sdt"
    quality = options.pop("output_quality", None)
    decoding = ImageDecodeOptions(**options)
    return lambda data: (image_file_of_type(codec._decode(data, decoding), task.kind, quality), {}), SUFFIXES[task.kind]


@cache
def cached_codec(machine: str) -> Codec:
    """Return this process's codec; `machine` is the JSON of the keyword arguments of `Codec.open`."""
    options: Mapping[str, Any] = json.loads(machine)
    return Codec.open(**options)


def verify_file(data: bytes) -> tuple[bytes, dict[str, int]]:
    return b"", {"unchecked": 1} if file_info.verify(data) else {}


def file_figures(data: bytes) -> tuple[bytes, dict[str, int]]:
    info = file_info.info(data)
    return b"", {
        "pixels": info.width * info.height,
        **{f"{name}_nbytes": n for name, n in info.bytes_by_section.items()},
    }


def to_npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
