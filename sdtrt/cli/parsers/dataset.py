"""Arguments of the commands for whole datasets."""

import argparse
from typing import Any

from sdtrt.cli.parsers.arguments import (
    add_inner_command,
    add_output_quality,
    add_quiet,
    add_rate,
    denoise,
    positive_count,
    whole_number,
)
from sdtrt.engine.coding.encode_options import DEFAULT_EFFORT, SEARCH_ITERATIONS
from sdtrt.engine.networks.backends import BACKENDS, PRECISIONS
from sdtrt.engine.networks.choices import BUILT_IN, LOOKS
from sdtrt.images.media_types import TYPES_BY_SUFFIX
from sdtrt.process.threads import available_cpus

SHARD_SIZE = 1000
FORMS = ("folder", "tar", "parquet")


def add_dataset_arguments(command: argparse.ArgumentParser) -> None:
    command.description = None
    inner = command.add_subparsers(dest="operation", required=True, metavar="OPERATION")

    one = add_operation(inner, "encode", "images to .sdt files", writes=True)
    add_rate(one)
    one.add_argument(
        "--effort", type=int, choices=SEARCH_ITERATIONS, default=DEFAULT_EFFORT, help="default %(default)s"
    )
    one.add_argument("--layers", type=int, choices=(1, 2), default=2, help="1: latents alone (default %(default)s)")
    one.add_argument("--strip", action="store_true", help="leave out EXIF, XMP and text")
    add_networks(one)

    one = add_operation(inner, "decode", ".sdt files to images", writes=True)
    one.add_argument("--format", choices=TYPES_BY_SUFFIX, default="png", help="default %(default)s")
    add_output_quality(one)
    one.add_argument(
        "--denoise", type=denoise, default="auto", metavar="N", help="denoising steps of the UNet, auto or off"
    )
    one.add_argument("--look", choices=LOOKS, default="auto", help="default %(default)s")
    one.add_argument("--strip", action="store_true", help="leave out metadata and the mark of reconstruction")
    add_networks(one)

    add_operation(inner, "latents", ".sdt files to latents, as .npy files; needs no model", writes=True)
    add_operation(inner, "verify", "check every bit of all files", writes=False)
    add_operation(inner, "stats", "sizes and where bytes go", writes=False)


def add_operation(commands: Any, name: str, text: str, *, writes: bool) -> argparse.ArgumentParser:
    command = add_inner_command(commands, name, f"sdtrt.cli.dataset:{name}", text)
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
    command.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="on the CPU; bf16 needs openvino, int8 a bundle with such a decoder",
    )
    command.add_argument("--threads", type=positive_count, default=1, help="of each worker's networks (default 1)")


PARSERS = {"dataset": add_dataset_arguments}
