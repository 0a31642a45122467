"""The commands for whole datasets: `dataset encode`, `decode`, `latents`, `verify`, `stats`."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sdtrt.cli.parsers.arguments import arguments_of
from sdtrt.codec import ImageDecodeOptions, ImageEncodeOptions
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.images.files import check_output_quality
from sdtrt.images.media_types import NAMES, TYPES_BY_SUFFIX
from sdtrt.process.install import extra
from sdtrt.process.streams import print_json, print_message, print_result
from sdtrt.process.text import counted, printable
from sdtrt.progress import ProgressBar, Watch, clear_bar

if TYPE_CHECKING:
    from sdtrt.dataset.runner import RunShards, Summary
    from sdtrt.dataset.shards import Operation, Task

SHOWN = 5  # errors that are printed


def encode(options: argparse.Namespace) -> int:
    encoding = arguments_of(options, ImageEncodeOptions)
    ImageEncodeOptions(**encoding)  # refuses wrong values before any work
    return run_task(options, "encode", encoding)


def decode(options: argparse.Namespace) -> int:
    check_output_quality(NAMES[TYPES_BY_SUFFIX[options.format]], options.output_quality)
    decoding = arguments_of(options, ImageDecodeOptions)
    if options.denoise == "auto":
        del decoding["denoise"]  # the default is not part of a shard's fingerprint
    return run_task(options, "decode", decoding | {"output_quality": options.output_quality})


def latents(options: argparse.Namespace) -> int:
    return run_task(options, "latents", {})


def verify(options: argparse.Namespace) -> int:
    with extra("dataset"):
        from sdtrt.dataset.runner import changed_files
        from sdtrt.dataset.sources import SDT_FILES, list_samples
    wrong = changed_files(options.source)
    for line in wrong or ():
        print_message(printable(f"sdtrt: {options.source}: {line}"))
    if wrong:
        return 1
    try:
        list_samples(options.source, SDT_FILES)
    except ValueError:
        if wrong is None:
            raise
        return 0  # images or latents, as they were written
    return run_task(options, "verify", {})


def stats(options: argparse.Namespace) -> int:
    return run_task(options, "stats", {})


def run_task(options: argparse.Namespace, operation: "Operation", call: dict[str, Any]) -> int:
    """Run a task, print its summary, and return the exit code."""
    with extra("dataset"):
        from sdtrt.dataset.runner import TooManyErrorsError, run
        from sdtrt.dataset.shards import Task
        from sdtrt.dataset.sources import absolute_location
    task = Task(
        operation=operation,
        source=absolute_location(options.source),
        destination=absolute_location(options.destination) if hasattr(options, "destination") else None,
        form=getattr(options, "form", "folder"),
        kind=TYPES_BY_SUFFIX[getattr(options, "format", "png")],
        options={name: value for name, value in call.items() if value is not None},
        machine=machine(options),
    )
    if "model" in task.machine and not options.ray:  # a cluster may have models that this machine lacks
        find_bundle(options.model)
    progress_bar = ProgressBar(quiet=options.quiet)
    try:
        with Watch(f"sdtrt dataset {operation}", quiet=options.quiet):
            summary = run(
                task,
                each_of(options),
                shard_size=options.shard_size,
                max_errors=options.max_errors,
                on_progress=lambda summary: progress_bar(summary.samples_done, summary.total, progress_text(summary)),
            )
    except TooManyErrorsError as error:
        clear_bar()
        print_message(printable(f"sdtrt: {error}; --max-errors {options.max_errors}"))
        return 1
    clear_bar()
    print_summary(summary, task, options)
    return 1 if summary.errors else 0


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Codec.open` for each worker."""
    names = ("model", "device", "backend", "precision", "threads")
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}


def each_of(options: argparse.Namespace) -> "RunShards":
    """Return the function that processes shards, on a Ray cluster or on this machine."""
    if options.ray:
        with extra("ray"):
            from sdtrt.dataset import ray_backend
        return partial(ray_backend.run_shards, workers=options.workers, address=options.ray, gpus=options.gpus)
    from sdtrt.dataset import process_backend

    return partial(process_backend.run_shards, workers=options.workers)


def progress_text(summary: "Summary") -> str:
    """Return the progress as text: shards, samples per second, ratio of bytes, errors and warnings."""
    nbytes, made = summary.sums["nbytes"], summary.sums["made_nbytes"]
    parts = [f"{summary.done} of {counted(summary.shards, 'shard')}"]
    if summary.pace:
        parts.append(f"{summary.pace:.1f} a second")
    if made and nbytes:
        parts.append(share_of_bytes(made / nbytes))
    if summary.errors:
        parts.append(counted(len(summary.errors), "error"))
    if summary.warnings:
        parts.append(counted(len(summary.warnings), "warning"))
    return ", ".join(parts)


def share_of_bytes(ratio: float) -> str:
    """Return the ratio of bytes written to bytes read as text."""
    return f"{ratio:.1%} of the bytes".replace("%", " %") if ratio <= 1 else f"{ratio:.2f} times the bytes"


def print_summary(summary: "Summary", task: "Task", options: argparse.Namespace) -> None:
    figures = {
        "shards": summary.shards,
        "skipped": summary.skipped,
        "seconds": round(summary.seconds, 3),
        **dict(sorted(summary.sums.items())),
        "errors": summary.errors,
    }
    if options.json:
        more = {"warnings": summary.warnings, "left_behind": dict(sorted(summary.left_behind.items()))}
        print_json(figures | more)
        return
    print_problems([(one["key"], one["source"], one["error"]) for one in summary.errors], "errors")
    if not options.quiet:
        print_problems([(one["key"], one["source"], one["warning"]) for one in summary.warnings], "warnings")
    if task.destination is None:
        print_result(printable(f"{options.source}: {totals(summary)}"))
    elif not options.quiet:
        images = counted(summary.sums["samples"], "image")
        skipped = f", {summary.skipped} of {counted(summary.shards, 'shard')} done before" if summary.skipped else ""
        where = f"{printable(options.source)} -> {printable(options.destination)}"
        print_message(f"{where}: {images}, {progress_text(summary)}{skipped}")
        if summary.left_behind:
            print_message(f"not carried: {files_by_suffix(summary.left_behind)}")


def totals(summary: "Summary") -> str:
    """Return the totals of an operation that writes nothing, as text."""
    sums = {name: value for name, value in sorted(summary.sums.items()) if name != "samples" and value}
    parts = [f"{counted(summary.sums['samples'], 'sample')} in {counted(summary.shards, 'shard')}"]
    parts += [f"{value:,} {label(name)}" for name, value in sums.items()]
    return ", ".join([*parts, f"{summary.seconds:.1f} s"])


def label(name: str) -> str:
    """Return the label of a total."""
    words = {"nbytes": "bytes", "made_nbytes": "bytes made", "unchecked": "not checked in full"}
    return words.get(name, f"bytes of {name.removesuffix('_nbytes')}" if name.endswith("_nbytes") else name)


def print_problems(problems: list[tuple[str, str, str]], noun: str) -> None:
    """Print the first errors or warnings, each with the key and the source of its sample."""
    for key, source, text in problems[:SHOWN]:
        print_message(printable(f"sdtrt: {key}{f' ({source})' if source else ''}: {text}"))
    if len(problems) > SHOWN:
        print_message(f"sdtrt: and {len(problems) - SHOWN} more {noun}; the manifest lists them")


def files_by_suffix(counts: Mapping[str, int]) -> str:
    """Return the numbers of files by suffix as text, the most frequent suffix first."""
    labels = {"hidden": "hidden", "none": "without a suffix"}
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    total = counted(sum(counts.values()), "file")
    parts = [f"{count} {labels.get(name, '.' + name)}" for name, count in ordered]
    return f"{total} ({', '.join(parts)})"
