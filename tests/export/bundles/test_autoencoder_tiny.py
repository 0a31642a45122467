"""`AutoencoderTiny` checkpoints to bundles."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exported import assert_close, read_manifest, run_onnx

import sdtrt
from sdtrt.errors import BundleError
from sdtrt.export.build import build
from sdtrt.export.export_options import ExportOptions


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, models: object) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "taesd"
    models.autoencoder_tiny().save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    """The exported bundle, which tests only read, beside the messages of its export."""
    folder = checkpoint.parent / "bundle"
    messages = build(ExportOptions(str(checkpoint), folder))
    (checkpoint.parent / "messages.txt").write_text("\n".join(messages))
    return folder


def test_autoencoder_tiny_matches_diffusers_and_has_a_receptive_radius(bundle: Path, models: object) -> None:
    vae = models.autoencoder_tiny()  # type: ignore[attr-defined]
    space, reach = (bundle.parent / "messages.txt").read_text().splitlines()[:2]
    assert "sd1" in space
    assert "taesd" in space
    # The decoder sees 5 pixels at full size and 4 more at each level: 8 latents, including half of the last one.
    assert reach == "receptive radius 8 latents: tiles of large images are exact"
    assert read_manifest(bundle)["reach"] == 8
    pixels = torch.rand(2, 3, 24, 40) * 2 - 1
    with torch.inference_mode():
        latents = vae.encode(pixels).latents
    assert_close(run_onnx(bundle / "encoder.onnx", pixels=pixels.numpy()), latents, 1e-4)


def test_codec_open_exported_bundle_encodes_and_decodes(bundle: Path) -> None:
    with sdtrt.Codec.open(bundle) as codec:
        data = codec.encode(np.full((17, 33, 3), 99, np.uint8))
        assert codec.decode(data).size == (33, 17)
    assert sdtrt.info(data).latent_space == "sd1"


def test_build_existing_bundle_without_force_is_refused_and_left_unchanged(bundle: Path, checkpoint: Path) -> None:
    before = read_manifest(bundle)
    with pytest.raises(BundleError, match="--force"):
        build(ExportOptions(str(checkpoint), bundle, half=False))
    assert read_manifest(bundle) == before
