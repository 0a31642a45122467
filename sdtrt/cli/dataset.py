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
from sdtrt.cli.inputs import extra
from sdtrt.engine.coding.rate_control import EncodeOptions
from sdtrt.engine.coding.stream_codec import DEFAULT_EFFORT, SEARCH_ITERATIONS
from sdtrt.engine.coding.threads import available_cpus
from sdtrt.engine.networks.backends import BACKENDS, PRECISIONS
from sdtrt.engine.networks.bundle import BUILT_IN, find_bundle
from sdtrt.engine.networks.decode_options import LOOKS
from sdtrt.images.files import NAMES, SUFFIXES, check_output_quality
from sdtrt.process.streams import print_json, print_message, print_result
from sdtrt.process.text import counted, printable
from sdtrt.progress import ProgressBar, Watch, clear_bar

if TYPE_CHECKING:
    from sdtrt.dataset.runner import RunShards, Summary
    from sdtrt.dataset.shards import Operation, Task

SHARD_SIZE = 1000
FORMS = ("folder", "tar", "parquet")
KINDS = {suffix: kind for kind, suffix in SUFFIXES.items()}
SHOWN = 5  # errors that are printed


def encode(options: argparse.Namespace) -> int:
    encoding = {"quality": options.quality, "nbytes": options.bytes, "bits_per_pixel": options.bpp}
    EncodeOptions(
        psnr=options.target_psnr, effort=options.effort, layers=options.layers, **encoding
    )  # wrong usage, not input
    encoding |= {
        "psnr": options.target_psnr,
        "effort": options.effort,
        "layers": options.layers,
        "strip": options.strip,
    }
    return conclude(options, "encode", encoding)


def decode(options: argparse.Namespace) -> int:
    check_output_quality(NAMES[KINDS[options.format]], options.output_quality)
    call = {
        "denoise": None if options.denoise == "auto" else options.denoise,
        "look": options.look,
        "strip": options.strip,
        "output_quality": options.output_quality,
    }
    return conclude(options, "decode", call)


def latents(options: argparse.Namespace) -> int:
    return conclude(options, "latents", {})


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
    return conclude(options, "verify", {})


def stats(options: argparse.Namespace) -> int:
    return conclude(options, "stats", {})


def conclude(options: argparse.Namespace, operation: "Operation", call: dict[str, Any]) -> int:
    """Run a task, say how it went, and return the exit code."""
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
    if "model" in task.machine and not options.ray:  # a cluster may have models that this machine has not
        find_bundle(options.model)
    progress_bar = ProgressBar(quiet=options.quiet)
    try:
        with Watch(f"sdtrt dataset {operation}", quiet=options.quiet):
            summary = run(
                task,
                each_of(options),
                shard_size=options.shard_size,
                max_errors=options.max_errors,
                on_progress=lambda summary: progress_bar(summary.samples_done, summary.total, said(summary)),
            )
    except TooManyErrorsError as error:
        clear_bar()
        print_message(printable(f"sdtrt: {error}; --max-errors {options.max_errors}"))
        return 1
    clear_bar()
    tell(summary, task, options)
    return 1 if summary.errors else 0


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Return how a worker opens its codec: one core each, unless a GPU does the work."""
    names = ("model", "device", "backend", "precision", "threads")
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}


def each_of(options: argparse.Namespace) -> "RunShards":
    """Return what does shards: a cluster, or this machine."""
    if options.ray:
        with extra("ray"):
            from sdtrt.dataset import ray_backend
        return partial(ray_backend.run_shards, workers=options.workers, address=options.ray, gpus=options.gpus)
    from sdtrt.dataset import process_backend

    return partial(process_backend.run_shards, workers=options.workers)


def said(summary: "Summary") -> str:
    """Return how many shards are done, how fast, and what became of the bytes."""
    nbytes, made = summary.sums["nbytes"], summary.sums["made_nbytes"]
    parts = [f"{summary.done} of {counted(summary.shards, 'shard')}"]
    if summary.pace:
        parts.append(f"{summary.pace:.1f} a second")
    if made and nbytes:
        parts.append(share(made / nbytes))
    if summary.errors:
        parts.append(counted(len(summary.errors), "error"))
    if summary.warnings:
        parts.append(counted(len(summary.warnings), "warning"))
    return ", ".join(parts)


def share(ratio: float) -> str:
    """Return how many bytes were written, for each byte that was read, in words."""
    return f"{ratio:.1%} of the bytes".replace("%", " %") if ratio <= 1 else f"{ratio:.2f} times the bytes"


def tell(summary: "Summary", task: "Task", options: argparse.Namespace) -> None:
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
    tell_problems([(one["key"], one["source"], one["error"]) for one in summary.errors], "errors")
    if not options.quiet:
        tell_problems([(one["key"], one["source"], one["warning"]) for one in summary.warnings], "warnings")
    if task.destination is None:
        print_result(printable(f"{options.source}: {totals(summary)}"))
    elif not options.quiet:
        images = counted(summary.sums["samples"], "image")
        skipped = f", {summary.skipped} of {counted(summary.shards, 'shard')} done before" if summary.skipped else ""
        where = f"{printable(options.source)} -> {printable(options.destination)}"
        print_message(f"{where}: {images}, {said(summary)}{skipped}")
        if summary.left_behind:
            print_message(f"not carried: {files_by_suffix(summary.left_behind)}")


def totals(summary: "Summary") -> str:
    """Return what was counted in samples of which nothing is written, in words."""
    sums = {name: value for name, value in sorted(summary.sums.items()) if name != "samples" and value}
    parts = [f"{counted(summary.sums['samples'], 'sample')} in {counted(summary.shards, 'shard')}"]
    parts += [f"{value:,} {label(name)}" for name, value in sums.items()]
    return ", ".join([*parts, f"{summary.seconds:.1f} s"])


def label(name: str) -> str:
    """Return the name of a figure in words."""
    words = {"nbytes": "bytes", "made_nbytes": "bytes made", "unchecked": "not checked in full"}
    return words.get(name, f"bytes of {name.removesuffix('_nbytes')}" if name.endswith("_nbytes") else name)


def tell_problems(problems: list[tuple[str, str, str]], noun: str) -> None:
    """Print the first of some errors or warnings, each with its sample's key and source."""
    for key, source, text in problems[:SHOWN]:
        print_message(printable(f"sdtrt: {key}{f' ({source})' if source else ''}: {text}"))
    if len(problems) > SHOWN:
        print_message(f"sdtrt: and {len(problems) - SHOWN} more {noun}, which the manifest names")


def files_by_suffix(counts: Mapping[str, int]) -> str:
    """Return numbers of files by suffix in words, the most frequent first."""
    labels = {"hidden": "hidden", "none": "without a suffix"}
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    total = counted(sum(counts.values()), "file")
    parts = [f"{count} {labels.get(name, '.' + name)}" for name, count in ordered]
    return f"{total} ({', '.join(parts)})"


def add_commands(commands: Any) -> None:
    command = commands.add_parser(
        "dataset", help="whole datasets: folders, WebDataset tars, Parquet, on a cluster, too"
    )
    inner = command.add_subparsers(dest="operation", required=True, metavar="OPERATION")

    one = add_operation(inner, "encode", encode, "images to .sdt files", writes=True)
    rate = one.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=quality, help="1 to 100 (default 50)")
    rate.add_argument("--bytes", type=positive_count, metavar="N", help="best quality in files of at most N bytes")
    rate.add_argument("--bpp", type=positive, metavar="B", help="best quality at B bits per pixel at most")
    rate.add_argument("--target-psnr", type=positive, metavar="DB", help="smallest file whose image has so many dB")
    one.add_argument(
        "--effort", type=int, choices=SEARCH_ITERATIONS, default=DEFAULT_EFFORT, help="default %(default)s"
    )
    one.add_argument("--layers", type=int, choices=(1, 2), default=2, help="1: latents alone (default %(default)s)")
    one.add_argument("--strip", action="store_true", help="leave out EXIF, XMP and text")
    add_networks(one)

    one = add_operation(inner, "decode", decode, ".sdt files to images", writes=True)
    one.add_argument("--format", choices=KINDS, default="png", help="default %(default)s")
    add_output_quality(one)
    one.add_argument("--denoise", type=denoise, default="auto", metavar="N", help="steps of the UNet, auto or off")
    one.add_argument("--look", choices=LOOKS, default="auto", help="default %(default)s")
    one.add_argument("--strip", action="store_true", help="leave out metadata, and the mark of reconstruction")
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
