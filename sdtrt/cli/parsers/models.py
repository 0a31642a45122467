"""Arguments of the commands that make models: `export`, `import`, `calibrate`, `engines`."""

import argparse
from pathlib import Path

from sdtrt.cli.parsers.arguments import (
    add_inner_command,
    add_quiet,
    mebibytes,
    start_command,
    value_range,
)
from sdtrt.engine.networks.backends.trt_library import NAMES
from sdtrt.engine.networks.choices import BUILT_IN, STANDARD_SHAPES


def add_export_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.models:export")
    command.add_argument("--model", required=True, help="hub id, diffusers folder or single .safetensors file")
    add_bundle_options(command, "told by the model")
    command.add_argument(
        "--no-fp16", action="store_true", help="no half-precision networks: engines then convert the others"
    )
    command.add_argument("--no-edit", action="store_true", help="leave the graphs as PyTorch exports them: slower")
    command.add_argument("--unet", action="store_true", help="the UNet too, for denoising")
    command.add_argument("--revision", help="branch, tag or commit on the hub")
    command.add_argument(
        "--variant", help="of the weights, such as fp16 (default: the usual ones, or the only variant there is)"
    )
    command.add_argument("--allow-pickle", action="store_true", help="read pickled weights; only if you trust them")
    command.add_argument("--verbose", action="store_true", help="show the messages of PyTorch, diffusers and the like")


def add_calibrate_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.models:calibrate")
    command.add_argument("bundle", help="name or folder")
    command.add_argument("photos", type=Path, help="folder of photos, some dozens; for --prior some hundreds")
    more = command.add_mutually_exclusive_group()
    more.add_argument("--prior", action="store_true", help="train a prior for them, too: smaller files")
    more.add_argument(
        "--int8",
        action="store_true",
        help="only add a decoder in eight bits, which --precision int8 uses; the rest of the bundle stays",
    )
    command.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="replace a prior, and lose its files; or a decoder in eight bits",
    )
    add_quiet(command)


def add_engines_arguments(command: argparse.ArgumentParser) -> None:
    command.description = "TensorRT engines"
    kinds = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = add_inner_command(
        kinds, "build", "sdtrt.cli.models:engines_build", "build the engines that are missing or stale"
    )
    add_bundle(build)
    build.add_argument(
        "--target",
        default="auto",
        help="auto (the GPU at hand, without one portable), portable, or architectures such as sm89,sm120",
    )
    build.add_argument(
        "--library", dest="builder", default="auto", choices=("auto", *NAMES), help="default %(default)s"
    )
    build.add_argument(
        "--shapes", help=f"sizes such as 512x512*4,{STANDARD_SHAPES[0]} (default: those asked for last, or the latter)"
    )
    build.add_argument("--workspace", type=mebibytes, metavar="MIB", help="memory that the build may use for layers")
    build.add_argument("-f", "--force", action="store_true", help="build valid ones too")
    add_quiet(build)
    text = "what there is: valid, stale, damaged or foreign"
    add_bundle(add_inner_command(kinds, "list", "sdtrt.cli.models:engines_list", text))
    clean = add_inner_command(
        kinds, "clean", "sdtrt.cli.models:engines_clean", "remove engines that are stale or damaged"
    )
    add_bundle(clean)
    clean.add_argument("--all", action="store_true", help="remove every engine, valid and foreign ones too")


def add_bundle(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", nargs="?", default=BUILT_IN, help=f"name or folder (default {BUILT_IN})")


def add_bundle_options(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument("--out", type=Path, required=True, help="folder of the new bundle")
    command.add_argument("--latent-space", help=f"sd1, sdxl, flux1, … or a word of your own (default: {default})")
    command.add_argument("--calibrate", type=Path, metavar="FOLDER", help="photos to measure or check the latents on")
    command.add_argument("-f", "--force", action="store_true", help="replace an existing bundle")
    add_quiet(command)


def add_import_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.models:import_pair")
    command.add_argument("--encoder", type=Path, required=True, help="ONNX file, pixels to latents")
    command.add_argument("--decoder", type=Path, required=True, help="ONNX file, latents to pixels")
    command.add_argument("--fast", type=Path, help="ONNX file, another decoder of these latents, for the fast look")
    add_bundle_options(command, "a new one, which needs --calibrate")
    command.add_argument(
        "--input-range",
        type=value_range,
        default=(-1.0, 1.0),
        help="of pixels, written --input-range=0,1 (default -1,1)",
    )
    command.add_argument("--output-range", type=value_range, help="of the decoder's pixels (default: the input range)")
    command.add_argument(
        "--latent-scale",
        type=float,
        default=1.0,
        help="latents at unit scale are (raw - shift) * SCALE, sd1: 0.18215 (default 1)",
    )
    command.add_argument(
        "--latent-shift", type=float, default=0.0, help="latents at unit scale are (raw - SHIFT) * scale (default 0)"
    )
    command.add_argument("--encoder-output", help="name of the output that holds the latents, if there are several")
    command.add_argument("--decoder-output", help="name of the output that holds the image, if there are several")
    command.add_argument("--sum-outputs", action="store_true", help="enlarge the decoder's outputs and add them up")
    command.add_argument("--gradient", action="store_true", help="the decoder's gradient, too, for --effort 6 and more")


PARSERS = {
    "export": add_export_arguments,
    "import": add_import_arguments,
    "calibrate": add_calibrate_arguments,
    "engines": add_engines_arguments,
}
