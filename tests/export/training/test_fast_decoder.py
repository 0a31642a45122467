"""The fast decoder of `tiny`: its arithmetic, and its training from photos to a bundle."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.image import ImageData
from sdtrt.engine.networks.bundle import built_in_root
from sdtrt.engine.networks.decode_request import DecodeOptions
from sdtrt.export.training.tiny.fast_decoder import CONFIG, Samples, add_to_bundle, make_samples, new_decoder, train
from sdtrt.export.training.tiny.model import FastDecoder
from sdtrt.export.training.tiny.restore import restore_model

TINY = built_in_root() / "tiny"
SHORT = replace(CONFIG, iterations=2, batch=2, crop=64)
MAX_MACS = 12_000  # multiply-adds for each pixel


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (3, 12, 12, 3), np.uint8)
    for number, photo in enumerate(pixels):
        Image.fromarray(photo).resize((96, 100), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def test_fast_decoder_begins_as_the_linear_transform() -> None:
    linear = restore_model(TINY).decoder.linear
    latents = torch.randn(2, 40, 5, 9)
    padded = F.pad(latents, (1, 1, 1, 1), mode="replicate")
    expected = F.conv_transpose2d(padded, linear, stride=8, padding=12)
    with torch.no_grad():
        torch.testing.assert_close(FastDecoder(linear.data)(latents, torch.ones(2)), expected, atol=1e-5, rtol=0)


def test_fast_decoder_arithmetic() -> None:
    model, macs = new_decoder(TINY), 0

    def count(layer: torch.nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.shape[2] * output.shape[3] * layer.weight.numel()

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        pixels = model(torch.zeros(1, 40, 8, 8), torch.ones(1))
    assert MAX_MACS / 2 < macs / (pixels.shape[2] * pixels.shape[3]) <= MAX_MACS


@pytest.mark.filterwarnings("ignore")  # of the exporter of PyTorch
def test_training_adds_a_fast_decoder_to_a_bundle(photos: Path, tmp_path: Path) -> None:
    bundle, run = tmp_path / "tiny", tmp_path / "run"
    shutil.copytree(TINY, bundle)
    samples = Samples.open(run, 4, SHORT.crop)
    make_samples(samples, TINY, photos, photos, SHORT)
    assert samples.codes.all()
    assert np.abs(samples.decoded.astype(float) - samples.originals).mean() < 20
    first = samples.originals[0].copy()
    samples.codes[1:] = 0
    samples.originals[0] = 0
    make_samples(Samples.open(run, 4, SHORT.crop), TINY, photos, photos, SHORT)  # makes the missing crops alone
    assert samples.codes.all()
    assert not samples.originals[0].any()
    assert first.any()

    train(samples, bundle, run, SHORT, "cpu")
    add_to_bundle(samples, bundle, run)
    codec = EngineCodec(bundle, device="cpu", threads=1)
    assert codec.bundle.looks == ("faithful", "fast")
    image = ImageData(np.asarray(Image.open(photos / "0.png")))
    data = codec.encode(image, EncodeOptions(quality=40))
    fast = codec.decode(data, options=DecodeOptions(look="fast"))
    assert fast.look == "fast"
    assert np.abs(fast.pixels.astype(float) - image.pixels).mean() < 30
