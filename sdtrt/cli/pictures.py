"""The commands that make files and pictures: `encode`, `decode`."""

import argparse
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdtrt import api
from sdtrt.cli.arguments import (
    add_command,
    add_frame,
    add_inputs,
    add_limit,
    add_machine,
    add_output,
    add_roi,
    denoise,
    positive,
    positive_count,
    quality,
    region,
    roi_options,
    scale,
)
from sdtrt.cli.batch import Record, each_file
from sdtrt.cli.files import is_file, prepare_outputs, read_input, write_output
from sdtrt.cli.inputs import SearchCost, limits_of, open_codec, open_image
from sdtrt.cli.large import decode_rows, encode_rows
from sdtrt.codec import Codec
from sdtrt.engine.coding.entropy import DEFAULT_EFFORT, TRIALS
from sdtrt.engine.coding.rate import METHODS, Wish
from sdtrt.engine.format.limits import UNLIMITED
from sdtrt.engine.networks.bundle import BUILT_IN
from sdtrt.engine.networks.view import LOOKS
from sdtrt.images.metadata import save_options
from sdtrt.information import info


def encode(options: argparse.Namespace) -> int:
    if options.from_latents and options.target_psnr is not None:
        raise ValueError("--target-psnr needs pictures: latents alone have none to compare with")
    wish = {
        "quality": options.quality,
        "nbytes": options.bytes,
        "bits_per_pixel": options.bpp,
        "effort": options.effort,
        "method": options.method,
    }
    Wish(psnr=options.target_psnr, layers=options.layers, **wish)  # what makes no sense is wrong usage, not input
    if options.roi and options.from_latents:
        raise ValueError("--roi is a part of a picture: latents alone have none")
    if options.roi and options.method == "palette":
        raise ValueError("--method palette knows no region of interest")
    targets = prepare_outputs(options.inputs, options.output, ".sdt")
    with open_codec(options.model, options) as codec:
        cost = SearchCost.of(codec, options)

        def encode_whole(source: str) -> bytes:
            with open_image(source, options.frame) as image:
                cost.say(source, image.width, image.height)
                return codec.encode(
                    image,
                    psnr=options.target_psnr,
                    layers=options.layers,
                    **wish,
                    **roi_options(options),
                    strip=options.strip,
                    limits=limits_of(options),
                )

        def work(source: str, target: str) -> Record:
            started = time.perf_counter()
            if options.from_latents:
                data = codec.encode_latents(array_file(source), **wish)
            else:
                data = encode_rows(codec, source, options, cost) or encode_whole(source)
            seconds = time.perf_counter() - started
            write_output(target, data, force=options.force)
            about = info(data, limits=UNLIMITED)
            return {
                "width": about.width,
                "height": about.height,
                "nbytes": len(data),
                "bits_per_pixel": round(about.bits_per_pixel, 4),
                "seconds": round(seconds, 4),
            }

        return each_file(options, targets, work, "{width}x{height}, {nbytes} bytes, {bits_per_pixel} bits per pixel")


def array_file(source: str) -> NDArray[np.float32]:
    """Return latents, float32 (C, h, w), from a NumPy file."""
    try:
        array = np.load(io.BytesIO(read_input(source)), allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError(f"not a .npy file with numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise ValueError("latents must be one array of floating-point numbers")
    return array.astype(np.float32)


def decode(options: argparse.Namespace) -> int:
    if options.to_latents and (options.region or options.preview or options.partial):
        raise ValueError("--to-latents gives all latents of a file: no region, preview or part")
    if options.preview and options.denoise not in {"auto", 0}:
        raise ValueError("--preview does without --denoise")
    if options.to_latents:
        return decode_latents(options)
    suffix = f".{options.format}"
    if Image.registered_extensions().get(suffix.lower()) not in Image.SAVE:
        raise ValueError(f"--format {options.format}: Pillow writes no image format of that name")
    targets = prepare_outputs(options.inputs, options.output, suffix)
    codecs: dict[str, Codec] = {}
    limits = limits_of(options)

    def work(source: str, target: str) -> Record:
        data = Path(source) if is_file(source) else read_input(source)
        model = options.model or str(api.model_for(data, partial=options.partial, limits=limits))
        if model not in codecs:
            codecs[model] = open_codec(model, options)
        started = time.perf_counter()
        if size := decode_rows(codecs[model], data, target, options):
            seconds = time.perf_counter() - started
            return {"width": size[0], "height": size[1], "mode": "by rows", "seconds": round(seconds, 4)}
        image = decoded(codecs[model], data, options)
        seconds = time.perf_counter() - started
        write_output(target, image_file(image, target, suffix), force=options.force)
        return {"width": image.width, "height": image.height, "mode": image.mode, "seconds": round(seconds, 4)}

    return each_file(options, targets, work, "{width}x{height} {mode}, {seconds} s")


def decoded(codec: Codec, source: bytes | Path, options: argparse.Namespace) -> Image.Image:
    """Return of a file's image what the options ask for."""
    limits = limits_of(options)
    if options.preview:
        return codec.preview(source, scale=options.preview, strip=options.strip, limits=limits)
    return codec.decode(
        source,
        region=options.region,
        partial=options.partial,
        denoise=options.denoise,
        look=options.look,
        strip=options.strip,
        limits=limits,
    )


def decode_latents(options: argparse.Namespace) -> int:
    limits = limits_of(options)

    def work(source: str, target: str) -> Record:
        stream = io.BytesIO()
        latents = api.decode_latents(read_input(source), limits=limits)
        np.save(stream, latents)
        write_output(target, stream.getvalue(), force=options.force)
        return {"shape": list(latents.shape)}

    return each_file(options, prepare_outputs(options.inputs, options.output, ".npy"), work, "latents {shape}")


def image_file(image: Image.Image, target: str, suffix: str) -> bytes:
    """Return an image as a file in the format that the target's name, or else `suffix`, asks for."""
    extension = Path(target).suffix.lower() or suffix
    kind = Image.registered_extensions().get(extension)
    if kind not in Image.SAVE:
        raise ValueError(f"{target}: Pillow writes no image format of the name {extension}")
    if kind == "JPEG" and image.mode in {"RGBA", "LA"}:
        raise ValueError(f"{target}: JPEG has no alpha channel; name a .png or .webp file")
    stream = io.BytesIO()
    image.save(stream, kind, **save_options(image, kind))
    return stream.getvalue()


def add_commands(commands: Any) -> None:
    command = add_command(commands, "encode", encode, "images to .sdt files")
    add_inputs(command, "image files, - for standard input")
    rate = command.add_mutually_exclusive_group()
    rate.add_argument("-q", "--quality", type=quality, help="1 to 100 (default 50)")
    rate.add_argument("--bytes", type=positive_count, metavar="N", help="best quality in files of at most N bytes")
    rate.add_argument("--bpp", type=positive, metavar="B", help="best quality at B bits per pixel at most")
    rate.add_argument("--target-psnr", type=positive, metavar="DB", help="smallest file whose picture has so many dB")
    command.add_argument(
        "--effort",
        type=int,
        choices=TRIALS,
        default=DEFAULT_EFFORT,
        help="1 (fast) to 9 (slow, better at equal size), default %(default)s",
    )
    command.add_argument(
        "--method",
        choices=METHODS,
        default="latents",
        help="palette: the method of 2022, 256 colours of latents, deflated; a baseline (default %(default)s)",
    )
    command.add_argument(
        "--layers",
        type=int,
        choices=(1, 2),
        default=2,
        help="1: latents alone, without what networks cannot hold (default %(default)s)",
    )
    command.add_argument(
        "--from-latents",
        action="store_true",
        help="inputs are .npy files with latents, float32 (C, h, w) at unit scale",
    )
    add_roi(command)
    add_frame(command)
    command.add_argument("--strip", action="store_true", help="leave out EXIF, XMP and text")
    add_limit(command)
    add_output(command)
    add_machine(command, f"model to encode with: a name or a bundle's folder (default {BUILT_IN})", BUILT_IN)

    command = add_command(commands, "decode", decode, ".sdt files to images")
    add_inputs(command, ".sdt files, - for standard input")
    add_output(command)
    command.add_argument(
        "--format", default="png", help="image format of outputs whose name does not tell (default png)"
    )
    command.add_argument(
        "--denoise",
        type=denoise,
        default="auto",
        metavar="N",
        help="clean the latents by N steps of the model's UNet; auto (default): as its bundle recommends; off: not",
    )
    command.add_argument(
        "--look",
        choices=LOOKS,
        default="auto",
        help="faithful: least error; vivid: sharp and rich; auto (default): as the model's bundle recommends",
    )
    part = command.add_mutually_exclusive_group()
    part.add_argument("--region", type=region, metavar="WxH+X+Y", help="a part of the picture: 800x600+1200+400")
    part.add_argument("--preview", type=scale, metavar="N", help="the picture at 1/N of its size, quickly for 8, 16, …")
    part.add_argument("--partial", action="store_true", help="what there is of files that are cut short or damaged")
    command.add_argument("--strip", action="store_true", help="leave out metadata, and the mark of reconstruction")
    command.add_argument("--to-latents", action="store_true", help="write the latents as .npy files; needs no model")
    add_machine(command, "model to decode with (default: the first that knows the file's latent space)", None)
    add_limit(command)
