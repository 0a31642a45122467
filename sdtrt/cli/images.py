"""The commands `encode` and `decode`."""

import argparse
import io
import time
from functools import cache
from pathlib import Path

from PIL import Image

from sdtrt.cli.batch import Record, any_work, each_file
from sdtrt.cli.files import is_file, prepare_outputs, read_input, write_output
from sdtrt.cli.inputs import SearchCost, check_roi, find_model, open_image, opened_codecs
from sdtrt.cli.large import decode_rows, encode_rows
from sdtrt.cli.parsers.arguments import arguments_of, limits_of
from sdtrt.codec import Codec, ImageDecodeOptions, ImageEncodeOptions
from sdtrt.engine.format.limits import UNLIMITED
from sdtrt.engine.networks.choices import BUILT_IN
from sdtrt.file_info import info
from sdtrt.images.files import check_output_quality, image_file

ENCODED = "{width}x{height}, {nbytes} bytes, {bits_per_pixel} bits per pixel"


def encode(options: argparse.Namespace) -> int:
    if options.from_latents:
        return encode_latents(options)
    for name in ("key", "latent_space", "size"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} needs --from-latents")
    encode_options = ImageEncodeOptions(**arguments_of(options, ImageEncodeOptions), limits=limits_of(options))

    def check(target: str) -> None:
        check_is_no_image(target)
        check_roi(options, target)

    targets = prepare_outputs(options.inputs, options.output, ".sdt")
    with opened_codecs(options) as codec_of:
        model = options.model or BUILT_IN
        if any_work(options, targets, check):
            codec_of(model)
        cost_of = cache(lambda codec: SearchCost.of(codec, options))

        def encode_whole(codec: Codec, source: str) -> bytes:
            with open_image(source, options.frame, limits_of(options)) as image:
                cost_of(codec).say(source, image.width, image.height)
                return codec._encode(image, encode_options)

        def work(source: str, target: str) -> Record:
            codec, started = codec_of(model), time.perf_counter()
            data = encode_rows(codec, source, options, cost_of(codec)) or encode_whole(codec, source)
            seconds = time.perf_counter() - started
            write_output(target, data, force=options.force)
            return encoded_record(data, seconds)

        return each_file(options, targets, work, ENCODED, check=check)


def encoded_record(data: bytes, seconds: float) -> Record:
    about = info(data, limits=UNLIMITED)
    return {
        "width": about.width,
        "height": about.height,
        "nbytes": len(data),
        "bits_per_pixel": round(about.bits_per_pixel, 4),
        "seconds": round(seconds, 4),
    }


def encode_latents(options: argparse.Namespace) -> int:
    """Encode files of latents. No network is opened."""
    from sdtrt.engine.networks.bundle import find_bundle
    from sdtrt.latents.coding import LatentsEncodeOptions, latents_to_file
    from sdtrt.latents.files import read_latents
    from sdtrt.latents.spaces import profile_of_space

    if options.target_psnr is not None:
        raise ValueError("--target-psnr needs an image; it cannot be used with --from-latents")
    if options.roi:
        raise ValueError("--roi is a part of an image; it cannot be used with --from-latents")
    if options.latent_space and options.model:
        raise ValueError("--latent-space and --model both give the latent space; use one of them")
    limits, (width, height) = limits_of(options), options.size or (None, None)
    arguments = arguments_of(options, LatentsEncodeOptions) | {"key": None}  # the array is read below
    latents_options = LatentsEncodeOptions(**arguments, width=width, height=height, limits=limits)
    if options.latent_space:
        profile = profile_of_space(options.latent_space)
    else:
        profile = find_bundle(options.model or BUILT_IN).latent_profile
    targets = prepare_outputs(options.inputs, options.output, ".sdt")

    def work(source: str, target: str) -> Record:
        started = time.perf_counter()
        with Path(source).open("rb") if is_file(source) else io.BytesIO(read_input(source)) as stream:
            array = read_latents(stream, options.key, limits)
        data = latents_to_file(array, profile, latents_options, stacklevel=2)
        seconds = time.perf_counter() - started
        write_output(target, data, force=options.force)
        return encoded_record(data, seconds)

    return each_file(options, targets, work, ENCODED, check=check_is_no_image)


def check_decode_options(options: argparse.Namespace) -> None:
    """Raise `ValueError` for options that exclude each other."""
    if options.to_latents and (options.region or options.preview or options.partial or options.output_quality):
        raise ValueError(
            "--to-latents writes all latents of a file; it takes no --region, --preview, --partial or --output-quality"
        )
    if options.preview and options.denoise not in {"auto", 0}:
        raise ValueError("--preview cannot be used with --denoise")
    if options.preview and options.look != "auto":
        raise ValueError("--preview cannot be used with --look")


def decode(options: argparse.Namespace) -> int:
    check_decode_options(options)
    if options.to_latents:
        return decode_latents(options)
    suffix = f".{options.format}"
    if writable_format(suffix.lower()) is None:
        raise ValueError(f"--format {options.format}: Pillow cannot write this format")
    targets = prepare_outputs(options.inputs, options.output, suffix)
    limits = limits_of(options)

    for target in targets if options.output_quality else ():
        check_output_quality(format_of(target, suffix), options.output_quality)

    def check(target: str) -> None:
        format_of(target, suffix)

    with opened_codecs(options) as codec_of:
        if options.model and any_work(options, targets, check):
            codec_of(options.model)

        def work(source: str, target: str) -> Record:
            data = Path(source) if is_file(source) else read_input(source)
            codec = codec_of(options.model or find_model(data, partial=options.partial, limits=limits))
            started = time.perf_counter()
            if size := decode_rows(codec, data, target, options):
                seconds = time.perf_counter() - started
                return {"width": size[0], "height": size[1], "mode": "by rows", "seconds": round(seconds, 4)}
            image = decode_image(codec, data, options)
            seconds = time.perf_counter() - started
            file = image_file(image, format_of(target, suffix), options.output_quality, options.png_level)
            write_output(target, file, force=options.force)
            return {"width": image.width, "height": image.height, "mode": image.mode, "seconds": round(seconds, 4)}

        return each_file(options, targets, work, "{width}x{height} {mode}, {seconds:.2f} s", check=check)


def decode_image(codec: Codec, source: bytes | Path, options: argparse.Namespace) -> Image.Image:
    """Return the image in a file, its region or its preview, as the options ask."""
    limits = limits_of(options)
    if options.preview:
        return codec.preview(source, scale=options.preview, strip=options.strip, limits=limits)
    return codec._decode(source, ImageDecodeOptions(**arguments_of(options, ImageDecodeOptions), limits=limits))


def decode_latents(options: argparse.Namespace) -> int:
    """Write the latents of files. No network is opened."""
    from sdtrt.api import decode_latents as latents_in
    from sdtrt.latents.files import WRITERS, suffix_of_latents

    limits = limits_of(options)
    if options.output is not None and not (options.output.endswith("/") or Path(options.output).is_dir()):
        suffix_of_latents(options.output)  # refuses a wrong suffix before any work
    targets = prepare_outputs(options.inputs, options.output, ".npy")

    def work(source: str, target: str) -> Record:
        latents = latents_in(read_input(source), limits=limits)
        write_output(target, WRITERS[suffix_of_latents(target)](latents), force=options.force)
        return {"shape": list(latents.shape)}

    return each_file(options, targets, work, "latents {shape}")


def check_is_no_image(target: str) -> None:
    """Raise `ValueError` if the output of `encode` has the suffix of an image file."""
    suffix = Path(target).suffix.lower()
    kind = None if suffix in {"", ".sdt"} else writable_format(suffix)
    if kind is not None:
        raise ValueError(f"{target} would be an .sdt file with the name of a {kind} file; expected a name in .sdt")


def format_of(target: str, suffix: str) -> str:
    """Return Pillow's name of the format for an output's suffix, or for `suffix` if it has none.

    Raises `ValueError` if Pillow cannot write the format.
    """
    extension = Path(target).suffix.lower() or suffix
    kind = writable_format(extension)
    if kind is None:
        raise ValueError(f"{target}: Pillow cannot write {extension} files; name a .png file")
    return kind


def writable_format(extension: str) -> str | None:
    """Return Pillow's name of the format for a suffix in lower case; None if Pillow cannot write it.

    Pillow's modules of all formats take a while to import. Those of the usual formats are tried first, as Pillow does.
    """
    Image.preinit()
    if Image.EXTENSION.get(extension) not in Image.SAVE:
        Image.init()
    kind = Image.EXTENSION.get(extension)
    return kind if kind in Image.SAVE else None
