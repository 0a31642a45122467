"""Round trips of latents through files, with shipped profiles and with inline profiles."""

import dataclasses
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.coding.latent_file import (
    TileCodingOptions,
    decode_latents,
    decode_symbols,
    encode_latents_to_file,
    encode_palette_file,
)
from sdtrt.engine.coding.latent_reader import channel_steps
from sdtrt.engine.coding.priors.adaptive_fit import fit_adaptive
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.latent_space import PALETTE, PRIOR_NAMES, PROFILE_NAMES
from sdtrt.engine.format.limits import Limits
from sdtrt.engine.format.profile import LatentProfile, pack_profile, shipped_profile
from sdtrt.errors import BundleError, FormatError, LimitError

Make = Callable[..., LatentProfile]


def smooth_latents(shape: tuple[int, int, int]) -> np.ndarray:
    channels, height, width = shape
    c, y, x = np.ogrid[:channels, :height, :width]
    noise = np.random.default_rng(1).normal(0, 0.3, shape)
    return (np.sin(y / 3 + c) * 3 + np.cos(x / 4) * 2 + noise).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 4, 16])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (65, 41), (128, 64)])
def test_encode_latents_inline_profile_round_trip(inline_profile: Make, channels: int, width: int, height: int) -> None:
    profile = inline_profile(channels)
    latents = smooth_latents(profile.grid(width, height))
    data = container.write(
        encode_latents_to_file(latents, width, height, profile, 2000, grey=True, chunks={0x70: b"text"})
    )
    file = container.read(data)
    assert dataclasses.replace(file.header, alignment=0) == Header(width, height, 0, 0, 2000, True)
    assert file.chunks == {0x70: b"text"}
    assert file.profile == pack_profile(profile)
    quant_steps = channel_steps(profile, file.header)[:, None, None]
    assert (abs(decode_latents(file) - latents) <= quant_steps * 1.07).all()
    sdtrt.verify(data)
    assert sdtrt.info(data).latent_space == "x-0123abcd"
    with pytest.raises(BundleError, match="x-0123abcd"):
        sdtrt.decode(data)


@pytest.mark.parametrize("identifier", PROFILE_NAMES)
def test_encode_latents_shipped_profile_round_trip(identifier: int) -> None:
    profile = shipped_profile(identifier)
    latents = smooth_latents(profile.grid(50, 30))
    file = encode_latents_to_file(latents, 50, 30, profile, 2048)
    assert file.chunks == {}
    quant_steps = channel_steps(profile, file.header)[:, None, None]
    decoded = decode_latents(container.read(container.write(file)))
    assert (abs(decoded - latents) <= quant_steps * 2.01).all()
    assert np.square((decoded - latents) / quant_steps).mean() < 0.14


def test_encode_latents_smaller_quant_step_lowers_error_and_grows_file(inline_profile: Make) -> None:
    profile = inline_profile(4)
    latents = smooth_latents(profile.grid(200, 160))
    files = [encode_latents_to_file(latents, 200, 160, profile, code) for code in (2400, 2000, 1600)]
    errors = [float(np.square(decode_latents(file) - latents).mean()) for file in files]
    assert errors == sorted(errors, reverse=True)
    sizes = [len(file.segments[0]) for file in files]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("shape", [(4, 4, 6), (3, 4, 5), (4, 5, 4), (4, 20), (1, 4, 4, 5)])
def test_encode_latents_wrong_shape_raises_value_error(inline_profile: Make, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        encode_latents_to_file(np.zeros(shape, np.float32), 40, 32, inline_profile(4), 2048)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_encode_latents_not_finite_raises_value_error(inline_profile: Make, value: float) -> None:
    latents = np.zeros((4, 1, 1), np.float32)
    latents[2] = value
    with pytest.raises(ValueError, match="finite"):
        encode_latents_to_file(latents, 8, 8, inline_profile(4), 2048)


@pytest.mark.parametrize("identifier", [*PRIOR_NAMES, PALETTE])
def test_decode_inline_profile_without_adaptive_prior_raises_format_error(
    inline_profile: Make, identifier: int
) -> None:
    file = File(Header(8, 8, 0, identifier, 2048), (b"",), profile=pack_profile(inline_profile(4)))
    for function in (decode_symbols, decode_latents):
        with pytest.raises(FormatError, match="profile of its own"):
            function(file)


def test_decode_symbols_unknown_prior_raises_format_error() -> None:
    with pytest.raises(FormatError, match="prior 99"):
        decode_symbols(File(Header(8, 8, 1, 99, 2048), (b"",)))


def test_decode_symbols_truncated_prior_parameters_raises_format_error(inline_profile: Make) -> None:
    file = File(Header(8, 8, 0, 0, 2048, alignment=1), (b"\1" * 11,), profile=pack_profile(inline_profile(4)))
    with pytest.raises(FormatError, match="parameters"):
        decode_symbols(file)


def test_encode_latents_shipped_profile_with_adaptive_prior_round_trip() -> None:
    """The ids of the profile and the prior are independent."""
    profile = shipped_profile(1)
    symbols = np.random.default_rng(0).integers(-3, 4, profile.grid(24, 24)).astype(np.int16)
    latents = (
        symbols * channel_steps(profile, Header(24, 24, 1, 0, 2048))[:, None, None] + profile.mean[:, None, None]
    ).astype(np.float32)
    file = encode_latents_to_file(
        latents, 24, 24, dataclasses.replace(profile, prior=0), 2048, TileCodingOptions(effort=1)
    )
    np.testing.assert_array_equal(decode_symbols(container.read(container.write(file))), symbols)


def test_decode_too_many_symbols_raises_limit_error_before_allocation(inline_profile: Make) -> None:
    """A profile of 255 channels at full resolution turns 2**26 pixels into 2**34 symbols."""
    profile = inline_profile(255, 1)
    data = container.write(File(Header(8192, 8192, 0, 0, 2048), (bytes(765) + b"\1",), profile=pack_profile(profile)))
    tracemalloc.start()
    try:
        for function in (sdtrt.verify, lambda data: decode_latents(container.read(data))):
            with pytest.raises(LimitError, match="limit"):
                function(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_decode_symbols_respects_the_given_limits(inline_profile: Make) -> None:
    profile = inline_profile(16, 2)
    file = encode_latents_to_file(np.zeros(profile.grid(10, 10), np.float32), 10, 10, profile, 2048)
    assert decode_symbols(file, Limits(max_pixels=400)).shape == (16, 5, 5)
    with pytest.raises(LimitError, match="limit"):
        decode_symbols(file, Limits(max_pixels=399))


def test_encode_latents_adaptive_prior_parameters_start_the_payload(inline_profile: Make) -> None:
    profile = inline_profile(4)
    file = encode_latents_to_file(
        smooth_latents(profile.grid(64, 64)), 64, 64, profile, 2048, TileCodingOptions(effort=1)
    )
    assert file.segments[0][:12] == fit_adaptive(decode_symbols(file)).parameters.tobytes()


SD1 = shipped_profile(2)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (61, 43), (256, 192)])
def test_encode_palette_file_round_trip(width: int, height: int) -> None:
    latents = smooth_latents(SD1.grid(width, height)) / 2
    file = encode_palette_file(latents, width, height, SD1, grey=True, chunks={0x70: b"text"})
    assert dataclasses.replace(file.header, alignment=0) == Header(width, height, 2, PALETTE, 0, True)
    data = container.write(file)
    assert container.write(encode_palette_file(latents, width, height, SD1, grey=True, chunks={0x70: b"text"})) == data
    decoded = decode_latents(container.read(data))
    assert (decoded.shape, decoded.dtype) == (latents.shape, np.float32)
    assert np.square(decoded - latents).mean() < 0.05
    sdtrt.verify(data)
    info = sdtrt.info(data)
    assert (info.method, info.quality, info.step) == ("palette", None, None)
    with pytest.raises(FormatError, match="palette"):
        decode_symbols(file)


def test_encode_palette_file_diffuses_errors_so_that_the_mean_is_preserved() -> None:
    """The plane is nearly flat, and no palette colour has its value."""
    latents = np.full((4, 32, 32), 0.3, np.float32) + np.random.default_rng(3).normal(0, 1e-3, (4, 32, 32))
    latents = latents.astype(np.float32)
    decoded = decode_latents(encode_palette_file(latents, 256, 256, SD1))
    assert abs(float(decoded.mean()) - 0.3) < 2e-3


def test_encode_palette_file_invalid_arguments_raises_value_error(inline_profile: Make) -> None:
    for profile in (inline_profile(4), shipped_profile(1)):
        with pytest.raises(ValueError, match="4 channels"):
            encode_palette_file(np.zeros(profile.grid(16, 16), np.float32), 16, 16, profile)
    with pytest.raises(ValueError, match="finite"):
        encode_palette_file(np.full((4, 2, 2), np.nan, np.float32), 16, 16, SD1)
    with pytest.raises(ValueError, match="shape"):
        encode_palette_file(np.zeros((4, 2, 3), np.float32), 16, 16, SD1)


def test_decode_latents_damaged_palette_raises_format_error() -> None:
    file = encode_palette_file(smooth_latents((4, 4, 4)), 32, 32, SD1)
    payloads = [b"", file.segments[0][:-1], file.segments[0] + b"\0", b"\0" + file.segments[0], file.segments[0][:40]]
    for payload in payloads:
        header = dataclasses.replace(file.header, alignment=-len(payload) % 4)
        with pytest.raises(FormatError, match="payload"):
            decode_latents(dataclasses.replace(file, header=header, segments=(payload,)))
    for width in (24, 40):  # the payload has another size
        with pytest.raises(FormatError, match="payload"):
            decode_latents(dataclasses.replace(file, header=dataclasses.replace(file.header, width=width)))
    with pytest.raises(LimitError, match="limit"):
        decode_latents(file, Limits(max_pixels=63))
