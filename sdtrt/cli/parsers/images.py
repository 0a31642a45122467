"""Arguments of the commands `encode` and `decode`."""

import argparse

from sdtrt.cli.parsers.arguments import (
    add_frame,
    add_inputs,
    add_limit,
    add_machine,
    add_output,
    add_output_quality,
    add_png_level,
    add_rate,
    add_roi,
    denoise,
    image_size,
    region,
    scale,
    start_command,
)
from sdtrt.engine.coding.encode_options import DEFAULT_EFFORT, METHODS, SEARCH_ITERATIONS
from sdtrt.engine.networks.choices import BUILT_IN, LOOKS


def add_encode_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.images:encode")
    add_inputs(command, "image files, - or /dev/stdin for standard input")
    add_rate(command)
    command.add_argument(
        "--effort",
        type=int,
        choices=SEARCH_ITERATIONS,
        default=DEFAULT_EFFORT,
        help="1 (fast) to 9 (slow, better at equal size), default %(default)s",
    )
    command.add_argument(
        "--method",
        choices=METHODS,
        default="latents",
        help="palette is a baseline of 2022: 256 colours of latents, deflated (default %(default)s)",
    )
    command.add_argument(
        "--layers",
        type=int,
        choices=(1, 2),
        default=2,
        help="1: latents alone, without overlay and residual (default %(default)s)",
    )
    command.add_argument(
        "--from-latents",
        action="store_true",
        help="inputs are .npy, .npz or .safetensors files with latents, (C, h, w) at unit scale; needs no networks",
    )
    command.add_argument(
        "--latent-space", metavar="NAME", help="for --from-latents: sd1, tiny, … (default: the model's)"
    )
    command.add_argument(
        "--key", metavar="NAME", help="for --from-latents: name of the array in .npz or .safetensors files"
    )
    command.add_argument(
        "--size",
        type=image_size,
        metavar="WxH",
        help="for --from-latents: size of the image (default: all that the latents cover)",
    )
    add_roi(command)
    add_frame(command)
    command.add_argument("--strip", action="store_true", help="leave out EXIF, XMP and text")
    add_limit(command)
    add_output(command)
    add_machine(command, f"model to encode with: a name or a bundle's folder (default {BUILT_IN})", None)


def add_decode_arguments(command: argparse.ArgumentParser) -> None:
    start_command(command, "sdtrt.cli.images:decode")
    add_inputs(command, ".sdt files, - or /dev/stdin for standard input")
    add_output(command)
    command.add_argument("--format", default="png", help="image format of outputs without a suffix (default png)")
    add_output_quality(command)
    add_png_level(command)
    command.add_argument(
        "--denoise",
        type=denoise,
        default="auto",
        metavar="N",
        help="denoising steps of the model's UNet; auto (default): as its bundle recommends; off or 0: none",
    )
    command.add_argument(
        "--look",
        choices=LOOKS,
        default="auto",
        help="faithful: least error; fast: least time; auto (default): by the bundle",
    )
    part = command.add_mutually_exclusive_group()
    part.add_argument("--region", type=region, metavar="WxH+X+Y", help="decode a part of the image: 800x600+1200+400")
    part.add_argument("--preview", type=scale, metavar="N", help="decode at 1/N of the size; fast for 8, 16, …")
    part.add_argument("--partial", action="store_true", help="decode the readable part of damaged files")
    command.add_argument("--strip", action="store_true", help="leave out metadata and the mark of reconstruction")
    command.add_argument(
        "--to-latents",
        action="store_true",
        help="write the latents as .npy files, or as -o FILE.npz or FILE.safetensors; needs no networks",
    )
    add_machine(command, "model to decode with (default: the first that knows the file's latent space)", None)
    add_limit(command)


PARSERS = {"encode": add_encode_arguments, "decode": add_decode_arguments}
