"""Arguments that several commands share, parsers of their values, and parsed options as arguments of calls."""

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, TypeVar

from sdtrt.cli.files import is_stdin
from sdtrt.engine.coding.encode_options import DEFAULT_ROI_WEIGHT, MAX_ROI_WEIGHT
from sdtrt.engine.denoising.steps import validate_steps
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.networks.backends import BACKENDS, PRECISIONS
from sdtrt.engine.part_options import MAX_SCALE, Region, region_of_text
from sdtrt.images.media_types import PNG_LEVEL

Number = TypeVar("Number", int, float)


def start_command(command: argparse.ArgumentParser, function: str) -> None:
    """Add the options of every command.

    Arguments:
        command: the parser of the command.
        function: the function of the command, written `module:function` as an entry point. It takes the parsed options
            and returns the exit code. The module is imported when the command runs.
    """
    command.add_argument("--json", action="store_true", help="print the results as JSON")
    command.add_argument("--debug", action="store_true", help="print the traceback of each error, too")
    command.set_defaults(command=function)


def add_inner_command(commands: Any, name: str, function: str, text: str) -> argparse.ArgumentParser:
    """Return the parser of a command below another one, such as `list` of `engines`."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    start_command(command, function)
    return command


def add_inputs(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=text, action=Inputs)
    add_quiet(command)


class Inputs(argparse.Action):
    """Stores the names of inputs, and refuses names that no command can read."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        if "" in values:
            raise argparse.ArgumentError(self, "the name of an input is empty; name a file")
        streams = [name for name in values if is_stdin(name)]
        if len(streams) > 1:
            raise argparse.ArgumentError(self, f"{' and '.join(streams)}: standard input can be read only once")
        setattr(namespace, self.dest, values)


def add_quiet(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quiet", action="store_true", help="no progress and no summary, errors only")


def add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-o",
        "--output",
        help="file, folder, or - or /dev/stdout; links and devices are written through (default: beside the input)",
    )
    existing = command.add_mutually_exclusive_group()
    existing.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="replace existing files, keep their mode and links; write to terminals",
    )
    existing.add_argument(
        "--skip-existing", action="store_true", help="skip inputs whose output exists, to resume a batch"
    )


def add_rate(command: argparse.ArgumentParser) -> None:
    rate = command.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=quality, help="1 to 100 (default 50)")
    rate.add_argument("--max-bytes", type=positive_count, metavar="N", help="best quality with at most N bytes a file")
    rate.add_argument("--bpp", type=positive, metavar="B", help="best quality with at most B bits per pixel")
    rate.add_argument(
        "--target-psnr", type=positive, metavar="DB", help="smallest file whose image has a PSNR of at least DB"
    )


def add_output_quality(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output-quality",
        type=integer_within(1, 100),
        metavar="N",
        help="quality of JPEG, WebP and AVIF files, 1 to 100 (default 90)",
    )


def add_png_level(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--png-level",
        type=integer_within(0, 9),
        default=PNG_LEVEL,
        metavar="N",
        help="compression of PNG files, 0 (fast) to 9 (small for drawings) (default %(default)s)",
    )


def add_machine(command: argparse.ArgumentParser, text: str, default: str | None) -> None:
    command.add_argument("-m", "--model", default=default, help=text)
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    command.add_argument("--backend", default="auto", choices=BACKENDS, help="default %(default)s")
    command.add_argument(
        "--threads", type=positive_count, help="threads of the networks (default: one per core that may be used)"
    )
    command.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="of the networks on the CPU; bf16 needs openvino, int8 a bundle with such a decoder",
    )
    command.add_argument("--tile", type=int, metavar="N", help="cut larger images into tiles of N pixels; 0: never")
    command.add_argument("--overlap", type=int, metavar="N", help="pixels by which tiles overlap")


def add_frame(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--frame", type=int, default=0, help="frame or page of the image file, counted from 0 (default 0)"
    )


def add_limit(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-pixels", type=int, default=DEFAULT_LIMITS.max_pixels, help="refuse larger images (default %(default)s)"
    )


def number(text: str, kind: type[Number]) -> Number:
    """Parse a number; `ArgumentTypeError` for any other text."""
    try:
        return kind(text)
    except ValueError as error:
        noun = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r}, expected {noun}") from error


def quality(text: str) -> float:
    value = number(text, float)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is outside 1 to 100")
    return value


def integer_within(low: int, high: int) -> Callable[[str], int]:
    """Return a function that parses a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        value = number(text, int)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is outside {low} to {high}")
        return value

    return parse


def region(text: str) -> Region:
    try:
        return region_of_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def image_size(text: str) -> tuple[int, int]:
    """Parse width and height in pixels."""
    match = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}, expected width and height in pixels, such as 500x333")
    return int(match[1]), int(match[2])


def roi(text: str) -> Region | str:
    """Parse a region, or return the name of a mask's file."""
    return region(text) if re.fullmatch(r"[\dx+]+", text) else text


def roi_weight(text: str) -> float:
    value = number(text, float)
    if not 1 <= value <= MAX_ROI_WEIGHT:
        raise argparse.ArgumentTypeError(f"{text}, expected 1 to {MAX_ROI_WEIGHT:.0f}")
    return value


def scale(text: str) -> int:
    """Parse the factor by which a preview is smaller than the image."""
    if not re.fullmatch(r"\d{1,4}", text) or not 1 <= int(text) <= MAX_SCALE:
        raise argparse.ArgumentTypeError(f"{text!r}, expected 1 to {MAX_SCALE}")
    return int(text)


def add_roi(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--roi",
        type=roi,
        metavar="ROI",
        help="region of interest: 300x200+40+60, or an image file with a mask, white inside the region",
    )
    command.add_argument(
        "--roi-weight",
        type=roi_weight,
        default=DEFAULT_ROI_WEIGHT,
        metavar="W",
        help="factor of the squared error in the region of interest, 1 to 64 (default %(default)g)",
    )


def denoise(text: str) -> int | Literal["auto"]:
    """Parse a number of denoising steps, `off` (returned as 0) or `auto`."""
    try:
        return "auto" if text == "auto" else validate_steps(0 if text == "off" else int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number of steps from 0 to 1000, auto or off") from error


def positive_count(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = number(text, int)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 1")
    return value


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    value = number(text, float)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}, expected a number above 0")
    return value


def whole_number(text: str) -> int:
    value = number(text, int)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 0")
    return value


def port(text: str) -> int:
    value = whole_number(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text}, expected at most 65535")
    return value


def seconds(text: str) -> float:
    value = number(text, float)
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text}, expected more than 0, at most a day")
    return value


def value_range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}, expected two numbers, such as --input-range=-1,1") from error
    if not low < high:
        raise argparse.ArgumentTypeError(f"{text}, expected the lower bound first, such as --input-range=-1,1")
    return low, high


def mebibytes(text: str) -> int:
    """Parse a number of MiB, 1 to 1,048,576, and return bytes."""
    value = number(text, int)
    if not 1 <= value <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{text} MiB, expected 1 to {1 << 20}")
    return value << 20


def limits_of(options: argparse.Namespace) -> Limits:
    return Limits(max_pixels=options.max_pixels)


def machine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Codec.open` that `add_machine` adds to a command."""
    return {name: getattr(options, name) for name in ("device", "backend", "threads", "precision", "tile", "overlap")}


def arguments_of(options: argparse.Namespace, kind: type) -> dict[str, Any]:
    """Return the command's arguments that are fields of an options class, in the order of the fields."""
    return {field.name: getattr(options, field.name) for field in fields(kind) if hasattr(options, field.name)}
