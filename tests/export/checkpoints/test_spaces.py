"""Which latent space a checkpoint belongs to, and what files call it."""

import numpy as np
import pytest

from sdtrt.export.checkpoints.spaces import KNOWN, identify, name_in_files, shipped_profile_id, space_of_weights


@pytest.mark.parametrize(
    ("channels", "scale", "shift", "hint", "name"),
    [
        (4, 0.18215, None, "anything", "sd1"),
        (4, 0.13025, None, "anything", "sdxl"),
        (16, 1.5305, 0.0609, "anything", "sd3"),
        (16, 0.3611, 0.1159, "anything", "flux1"),
        (4, 1.0, None, "madebyollin/taesd", "sd1"),
        (4, 1.0, None, "madebyollin/taesdxl", "sdxl"),
        (16, 1.0, None, "madebyollin/taesd3", "sd3"),
        (16, 1.0, None, "madebyollin/taef1", "flux1"),
        (4, None, None, "sdxl_vae.safetensors", "sdxl"),
        (4, None, None, "vae.safetensors", None),
        (4, 0.5, None, "sd-vae", None),
        (7, 1.0, None, "sd", None),
        (16, 0.3611, 0.0, "flux", None),
    ],
)
def test_identify(channels: int, scale: float | None, shift: float | None, hint: str, name: str | None) -> None:
    found, reason = identify(channels, scale, shift, hint)
    assert found == name
    assert str(channels) in reason


def test_names_in_files() -> None:
    assert name_in_files("sd1") == "sd1"
    assert name_in_files("x-01234567") == "x-01234567"
    assert shipped_profile_id("sd1") == 2
    others = {name_in_files(name) for name in KNOWN if shipped_profile_id(name) is None}
    assert len(others) == len(KNOWN) - 1
    assert all(name.startswith("x-") and len(name) == 10 for name in others)


def test_weights_name_a_space_whatever_their_order_and_precision() -> None:
    one, other = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float16)
    name = space_of_weights([one, other])
    assert name == space_of_weights([other.astype(np.float32), one])
    assert name != space_of_weights([one, other + 1])
