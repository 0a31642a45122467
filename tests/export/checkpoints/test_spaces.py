"""Which latent space a checkpoint belongs to, and what files call it."""

import hashlib
import re
from pathlib import Path

import diffusers
import numpy as np
import pytest

from sdtrt.export.checkpoints.families import FAMILIES
from sdtrt.export.checkpoints.spaces import (
    KNOWN,
    Factors,
    LatentSpace,
    identify,
    name_in_files,
    shipped_profile_id,
    space_of_weights,
    valid_name,
)

PAGE = Path(__file__).parents[3] / "docs" / "export.md"
EACH = Factors(tuple(np.linspace(0.5, 2, 128).tolist()), (0.25,) * 128)


@pytest.mark.parametrize(
    ("channels", "factors", "hint", "name"),
    [
        (4, Factors(0.18215), "anything", "sd1"),
        (4, Factors(0.13025), "anything", "sdxl"),
        (16, Factors(1.5305, 0.0609), "anything", "sd3"),
        (16, Factors(0.3611, 0.1159), "anything", "flux1"),
        (32, Factors(0.41407), "anything", "sana"),
        (4, Factors(), "madebyollin/taesd", "sd1"),
        (4, Factors(), "madebyollin/taesdxl", "sdxl"),
        (16, Factors(), "madebyollin/taesd3", "sd3"),
        (16, Factors(), "madebyollin/taef1", "flux1"),
        (4, None, "sdxl_vae.safetensors", "sdxl"),
        (4, None, "vae.safetensors", None),
        (4, Factors(0.5), "sd-vae", None),
        (4, Factors((0.18215,) * 4, (0.0,) * 4), "sd-vae", None),
        (7, Factors(), "sd", None),
        (16, Factors(0.3611), "flux", None),
        (128, EACH, "flux.2", None),
        (32, Factors(), "dc-ae-f32c32-mix-1.0", None),
    ],
)
def test_identify_known_spaces_by_factors_or_name(
    channels: int, factors: Factors | None, hint: str, name: str | None
) -> None:
    found, reason = identify(channels, factors, hint)
    assert found == name
    assert str(channels) in reason


@pytest.mark.parametrize("kind", ["AutoencoderKLWan", "AutoencoderKLQwenImage"])
def test_identify_statistics_of_channels_give_the_space(kind: str) -> None:
    """Those that diffusers has as defaults are those of Wan 2.1, and of Qwen-Image."""
    vae = getattr(diffusers, kind)(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    assert identify(16, FAMILIES[kind].factors(vae), "anything", kind)[0] == "wan21"


def test_identify_class_gives_the_space() -> None:
    found, reason = identify(128, EACH, "anything", "AutoencoderKLFlux2")
    assert found == "flux2"
    assert "AutoencoderKLFlux2" in reason


def test_known_spaces_are_consistent() -> None:
    for space in KNOWN.values():
        assert valid_name(space.name) == space.name
        assert space.kind is None or space.kind in FAMILIES
        vectors = [space.factors.scale, space.factors.shift] if space.factors else []
        assert all(len(values) == space.channels for values in vectors if isinstance(values, tuple))


def test_known_spaces_equal_the_table_in_the_docs() -> None:
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    found = {name.strip("`"): cells for name, *cells in lines if name.strip("`") in KNOWN}
    assert found == {name: documented(space) for name, space in KNOWN.items()}


def documented(space: LatentSpace) -> list[str]:
    """Return the cells of a space's row but for its name."""

    def text(values: float | tuple[float, ...], plural: str) -> str:
        return f"{len(values)} {plural}" if isinstance(values, tuple) else f"{values:g}"

    factors = space.factors
    numbers = [text(factors.scale, "factors"), text(factors.shift, "shifts")] if factors else ["its own", "its own"]
    return [str(space.channels), str(space.downscale), *numbers, space.models]


def test_name_in_files_is_the_name_or_a_hash() -> None:
    assert name_in_files("sd1") == "sd1"
    assert name_in_files("x-01234567") == "x-01234567"
    assert name_in_files("x-taef2") == f"x-{hashlib.sha256(b'x-taef2').hexdigest()[:8]}"
    assert shipped_profile_id("sd1") == 2
    others = {name_in_files(name) for name in KNOWN if shipped_profile_id(name) is None}
    assert len(others) == len(KNOWN) - 1
    assert all(re.fullmatch(r"x-[0-9a-f]{8}", name) for name in others)


@pytest.mark.parametrize("name", ["sd1", "x-taef2", "x-01234567", "x-", "My.VAE_2", "7", "a" * 64])
def test_valid_name_accepts_words(name: str) -> None:
    assert valid_name(name) == name


@pytest.mark.parametrize("name", ["", "two words", "-x", ".x", "a/b", "a\\b", "a" * 65, "sd1\n"])
def test_valid_name_other_text_raises(name: str) -> None:
    with pytest.raises(ValueError, match=r"for example sd1, my-vae or x-taef2"):
        valid_name(name)


def test_space_of_weights_is_independent_of_order_and_precision() -> None:
    one, other = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float16)
    name = space_of_weights([one, other])
    assert name == space_of_weights([other.astype(np.float32), one])
    assert name != space_of_weights([one, other + 1])
