"""Python, the command line, Pillow, HTTP and datasets: each option has one name, one default and one type of value."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import sdtrt
from sdtrt import api, cli, pillow_plugin
from sdtrt.codec import ImageDecodeOptions, ImageEncodeOptions
from sdtrt.latents.coding import LatentsEncodeOptions
from sdtrt.serve import operations

RATE_TARGETS = {"max_bytes", "bpp", "target_psnr"}


def names_of(carrier: type) -> set[str]:
    return {field.name for field in fields(carrier)}


def keywords_of(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's keyword-only arguments."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def command_options(*command: str) -> dict[str, Any]:
    """Return the options of a command with their defaults; `--max-pixels` is the command line's `limits`."""
    options = vars(cli.build_parser().parse_args(command))
    return options | ({"limits": sdtrt.Limits(options["max_pixels"])} if "max_pixels" in options else {})


ENCODE, DECODE, LATENTS = (names_of(kind) for kind in (ImageEncodeOptions, ImageDecodeOptions, LatentsEncodeOptions))
ENTRY_POINTS: dict[str, tuple[set[str], set[str]]] = {
    "sdtrt.encode": (ENCODE, keywords_of(api.encode)),
    "Codec.encode": (ENCODE, keywords_of(sdtrt.Codec.encode)),
    "Codec.encode_batch": (ENCODE, keywords_of(sdtrt.Codec.encode_batch)),
    "Codec.encode_rows": (ENCODE, keywords_of(sdtrt.Codec.encode_rows)),
    "sdtrt encode": (ENCODE, {*command_options("encode", "a.png")}),
    "sdtrt dataset encode": (ENCODE, {*command_options("dataset", "encode", "in", "out")}),
    "Pillow's save": (ENCODE, pillow_plugin.OPTIONS),
    "POST /encode": (ENCODE, {one.name for one in operations.ENCODE_PARAMETERS}),
    "sdtrt.encode_latents": (LATENTS, keywords_of(api.encode_latents)),
    "Codec.encode_latents": (LATENTS, keywords_of(sdtrt.Codec.encode_latents)),
    "sdtrt.decode": (DECODE, keywords_of(api.decode)),
    "Codec.decode": (DECODE, keywords_of(sdtrt.Codec.decode)),
    "Codec.decode_batch": (DECODE, keywords_of(sdtrt.Codec.decode_batch)),
    "Codec.decode_rows": (DECODE, keywords_of(sdtrt.Codec.decode_rows)),
    "Codec.decode_into": (DECODE, keywords_of(sdtrt.Codec.decode_into)),
    "sdtrt decode": (DECODE, {*command_options("decode", "a.sdt")}),
    "sdtrt dataset decode": (DECODE, {*command_options("dataset", "decode", "in", "out")}),
    "POST /decode": (DECODE, {one.name for one in operations.DECODE_PARAMETERS}),
}
# The options that an entry point does not have, and the reason.
LEFT_OUT: dict[str, dict[str, str]] = {
    "Codec.encode_rows": {
        **dict.fromkeys(RATE_TARGETS, "a search encodes the image several times, but rows come once"),
        **dict.fromkeys(("method", "layers", "roi", "roi_weight"), "they need the whole image"),
        "strip": "metadata is an argument of its own",
        "limits": "the caller states the size of the image",
    },
    "sdtrt dataset encode": {
        "method": "a baseline is for comparisons, not for a dataset",
        **dict.fromkeys(("roi", "roi_weight"), "the images of a dataset do not share a region of interest"),
        "limits": "an image that is too large is an error of its sample",
    },
    "Pillow's save": {"limits": "`Image.MAX_IMAGE_PIXELS` is Pillow's own limit"},
    "POST /encode": {"limits": "the service sets them"},
    "sdtrt.encode_latents": dict.fromkeys(("target_psnr", "layers"), "they need the image"),
    "Codec.encode_latents": dict.fromkeys(("target_psnr", "layers"), "they need the image"),
    "Codec.decode_rows": {
        **dict.fromkeys(("region", "partial"), "rows are those of the whole image"),
        "strip": "rows have no metadata",
    },
    "Codec.decode_into": {
        **dict.fromkeys(("region", "partial"), "the array receives the whole image"),
        "strip": "the array has no metadata",
    },
    "sdtrt dataset decode": {
        "region": "the images of a dataset do not share a region",
        "partial": "a damaged file is an error of its sample",
        "limits": "a file that is too large is an error of its sample",
    },
    "POST /decode": {"partial": "an answer cannot say what is missing", "limits": "the service sets them"},
}
# The options that an entry point has beside those of the options class.
ADDED = {
    "sdtrt.encode": {"model"},
    "sdtrt.decode": {"model"},
    "sdtrt.encode_latents": {"latent_space"},
    "Codec.encode_rows": {"grey", "metadata"},
    "Codec.decode_into": {"stream"},
    "POST /decode": {"preview", "width"},
}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_entry_point_has_every_option_or_a_reason_to_leave_it_out(entry_point: str) -> None:
    expected, found = ENTRY_POINTS[entry_point]
    assert expected - found == LEFT_OUT.get(entry_point, {}).keys()
    if not entry_point.startswith("sdtrt "):  # commands also have options for files and machines
        assert found - expected == ADDED.get(entry_point, set())


@pytest.mark.parametrize(
    ("carrier", "functions"),
    [
        (ImageEncodeOptions, [api.encode, sdtrt.Codec.encode, sdtrt.Codec.encode_batch, sdtrt.Codec.encode_rows]),
        (LatentsEncodeOptions, [api.encode_latents, sdtrt.Codec.encode_latents]),
        (ImageDecodeOptions, [api.decode, sdtrt.Codec.decode, sdtrt.Codec.decode_batch, sdtrt.Codec.decode_rows]),
        (ImageDecodeOptions, [sdtrt.Codec.decode_into]),
    ],
)
def test_defaults_of_functions_are_those_of_the_options_class(
    carrier: type, functions: list[Callable[..., Any]]
) -> None:
    for function in functions:
        parameters = inspect.signature(function).parameters
        for field in fields(carrier):
            if field.name in keywords_of(function):
                assert parameters[field.name].default == field.default, (function, field.name)


@pytest.mark.parametrize(
    ("carrier", "command"),
    [
        (ImageEncodeOptions, ("encode", "a.png")),
        (ImageEncodeOptions, ("dataset", "encode", "in", "out")),
        (ImageDecodeOptions, ("decode", "a.sdt")),
        (ImageDecodeOptions, ("dataset", "decode", "in", "out")),
    ],
)
def test_defaults_of_commands_are_those_of_the_options_class(carrier: type, command: tuple[str, ...]) -> None:
    options = command_options(*command)
    for field in fields(carrier):
        if field.name in options:
            assert options[field.name] == field.default, field.name


@pytest.mark.parametrize(("word", "steps"), [("off", 0), (0, 0), (3, 3), ("auto", None)])
def test_denoise_is_a_number_of_steps_or_off_or_auto(word: Any, steps: int | None) -> None:
    assert ImageDecodeOptions(denoise=word).denoise_steps == steps
    of_command = command_options("decode", "a.sdt", f"--denoise={word}")["denoise"]
    assert ImageDecodeOptions(denoise=of_command).denoise_steps == steps
    over_http = {one.name: one for one in operations.DECODE_PARAMETERS}["denoise"].parse(str(word))
    assert ImageDecodeOptions(denoise=over_http).denoise_steps == steps


@pytest.mark.parametrize("old", ["nbytes", "bytes", "bits_per_pixel", "psnr"])
def test_earlier_spelling_of_an_option_is_refused(codec: sdtrt.Codec, old: str) -> None:
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{old}'"):
        codec.encode("photo.png", **{old: 9})
