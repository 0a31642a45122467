"""The commands for whole datasets: `dataset encode`, `decode`, `latents`, `verify`, `stats`."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sdtrt.cli.arguments import (
    add_command,
    add_output_quality,
    add_quiet,
    denoise,
    positive,
    positive_count,
    quality,
    whole_number,
)
from sdtrt.cli.inputs import arguments_of, extra
from sdtrt.codec import ImageDecodeOptions, ImageEncodeOptions
from sdtrt.engine.coding.streams.stream_codec import DEFAULT_EFFORT, SEARCH_ITERATIONS
from sdtrt.engine.networks.backends import BACKENDS, PRECISIONS
from sdtrt.engine.networks.bundle import BUILT_IN, find_bundle
from sdtrt.engine.networks.decode_request import LOOKS
from sdtrt.images.files import NAMES, SUFFIXES, check_output_quality
from sdtrt.process.streams import print_json, print_message, print_result
from sdtrt.process.text import counted, printable
from sdtrt.process.threads import available_cpus
from sdtrt.progress import ProgressBar, Watch, clear_bar

if TYPE_CHECKING:
    from sdtrt.dataset.runner import RunShards, Summary
    from sdtrt.dataset.shards import Operation, Task

SHARD_SIZE = 1000
FORMS = ("folder", "tar", "parquet")
KINDS = {suffix: kind for kind, suffix in SUFFIXES.items()}
SHOWN = 5  # errors that are printed


def encode(options: argparse.Namespace) -> int:
    encoding = arguments_of(options, ImageEncodeOptions)
    ImageEncodeOptions(**encoding)  # refuses wrong values before any work
    return run_task(options, "encode", encoding)


def decode(options: argparse.Namespace) -> int:
    check_output_quality(NAMES[KINDS[options.format]], options.output_quality)
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
        kind=KINDS[getattr(options, "format", "png")],
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


def add_commands(commands: Any) -> None:
    command = commands.add_parser("dataset", help="datasets: folders, WebDataset tars, Parquet; also on a cluster")
    inner = command.add_subparsers(dest="operation", required=True, metavar="OPERATION")

    one = add_operation(inner, "encode", encode, "images to .sdt files", writes=True)
    rate = one.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=quality, help="1 to 100 (default 50)")
    rate.add_argument("--max-bytes", type=positive_count, metavar="N", help="best quality with at most N bytes a file")
    rate.add_argument("--bpp", type=positive, metavar="B", help="best quality with at most B bits per pixel")
    rate.add_argument(
        "--target-psnr", type=positive, metavar="DB", help="smallest file whose image has a PSNR of at least DB"
    )
    one.add_argument(
        "--effort", type=int, choices=SEARCH_ITERATIONS, default=DEFAULT_EFFORT, help="default %(default)s"
    )
    one.add_argument("--layers", type=int, choices=(1, 2), default=2, help="1: latents alone (default %(default)s)")
    one.add_argument("--strip", action="store_true", help="leave out EXIF, XMP and text")
    add_networks(one)

    one = add_operation(inner, "decode", decode, ".sdt files to images", writes=True)
    one.add_argument("--format", choices=KINDS, default="png", help="default %(default)s")
    add_output_quality(one)
    one.add_argument(
        "--denoise", type=denoise, default="auto", metavar="N", help="denoising steps of the UNet, auto or off"
    )
    one.add_argument("--look", choices=LOOKS, default="auto", help="default %(default)s")
    one.add_argument("--strip", action="store_true", help="leave out metadata and the mark of reconstruction")
    add_networks(one)

    add_operation(inner, "latents", latents, ".sdt files to latents, as .npy files; needs no model", writes=True)
    add_operation(inner, "verify", verify, "check every bit of all files", writes=False)
    add_operation(inner, "stats", stats, "sizes and where bytes go", writes=False)


def add_operation(commands: Any, name: str, function: Any, text: str, *, writes: bool) -> argparse.ArgumentParser:
    command = add_command(commands, name, function, text)
    command.add_argument(
        "source", metavar="SOURCE", help="folder, list of URLs (.txt), 'shards-*.tar' or 'part-*.parquet'"
    )
    if writes:
        command.add_argument("destination", metavar="DEST", help="folder or fsspec location")
        command.add_argument("--form", choices=FORMS, default="folder", help="of the results (default %(default)s)")
    command.add_argument(
        "--shard-size", type=positive_count, default=SHARD_SIZE, help="samples in a shard (default %(default)s)"
    )
    command.add_argument("--workers", type=positive_count, default=available_cpus(), help="default: one per core")
    command.add_argument("--ray", metavar="ADDRESS", help="on a Ray cluster; auto: the one at hand, or one made here")
    command.add_argument("--gpus", type=float, default=0, help="GPUs of each of Ray's workers (default 0)")
    command.add_argument("--max-errors", type=whole_number, help="end when more samples failed (default: never)")
    add_quiet(command)
    return command


def add_networks(command: argparse.ArgumentParser) -> None:
    command.add_argument("-m", "--model", default=BUILT_IN, help="a name or a bundle's folder (default %(default)s)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    command.add_argument("--backend", default="auto", choices=BACKENDS, help="default %(default)s")
    command.add_argument("--precision", default="auto", choices=PRECISIONS, help="on the CPU; bf16 needs openvino")
    command.add_argument("--threads", type=positive_count, default=1, help="of each worker's networks (default 1)")
