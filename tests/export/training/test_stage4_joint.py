"""Training `tiny` together with its prior: that it runs, goes on, and hands over its parts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdtrt.engine.coding import perceptual_masking
from sdtrt.export import training_loop as training
from sdtrt.export.prior.architectures import PRIOR_CONFIGS
from sdtrt.export.prior.coding import PassIndexer, features_of
from sdtrt.export.training.tiny.build import load_model
from sdtrt.export.training.tiny.common import use_bfloat16
from sdtrt.export.training.tiny.model import LATENT_CHANNELS, MASKING_CHANNELS, Autoencoder
from sdtrt.export.training.tiny.photos import pixels_to_planes
from sdtrt.export.training.tiny.stage4_joint import (
    CONFIG,
    AutoencoderWithPrior,
    make_drawer,
    masking_weights,
    train_jointly,
)

SHORT = replace(CONFIG, iterations=2, batch=2, crop=64)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 12, 12, 3), np.uint8)
    for number, photo in enumerate(pixels):
        Image.fromarray(photo).resize((96, 100), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a checkpoint that has both parts, as a run of this stage does."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("start")
    torch.save({"average": AutoencoderWithPrior().state_dict()}, folder / "checkpoint.pt")
    return folder


def test_train_jointly_interrupted_run_resumes_to_equal_weights(
    photos: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "REPORT_EVERY", 1)
    run = tmp_path / "run"
    train_jointly(photos, photos, start, start, run, SHORT, "cpu")
    train_jointly(photos, photos, start, start, run, replace(SHORT, iterations=3), "cpu")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "nan" not in " ".join(lines)
    before, after = (training.averaged_weights(folder) for folder in (start, run))
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"autoencoder", "prior"}
    assert "linear.weight" in load_model(run).encoder.state_dict()


def test_latents_and_bits_are_quantized_and_have_gradients_to_all_networks(photos: Path) -> None:
    torch.manual_seed(1)
    model = AutoencoderWithPrior()
    pixels, step, features, lmbdas = make_drawer(
        [np.asarray(Image.open(path)) for path in sorted(photos.iterdir())], [], SHORT
    )(np.random.default_rng(1))
    indexer = PassIndexer(model.architecture, 8)
    latents, bits = model.latents_and_bits(pixels_to_planes(pixels), step, features, lmbdas, indexer)
    predicted = PRIOR_CONFIGS["tiny"].groups[0]
    whole = [channel for channel in range(LATENT_CHANNELS) if channel not in predicted]
    symbols = (latents / model.autoencoder.channel_steps(step))[:, whole]
    np.testing.assert_allclose(symbols.detach().numpy(), symbols.detach().round().numpy(), atol=1e-3)
    assert bits.shape == (2,)
    assert (bits > 0).all()
    bits.sum().backward()  # type: ignore[no-untyped-call]
    assert model.autoencoder.encoder.linear.weight.grad is not None
    assert all(parameter.grad is not None for parameter in model.prior[-1].parameters())


def test_masking_weights_equal_those_of_the_engine() -> None:
    latents = (
        np.random.default_rng(1).laplace(0, [[[0.1]], [[1]], [[3]], [[20]], [[9]]], (5, 20, 33)).astype(np.float32)
    )
    found = masking_weights(torch.from_numpy(latents)[None])[0, 0].numpy()
    np.testing.assert_allclose(found, perceptual_masking.masking_weights(latents[:MASKING_CHANNELS]), rtol=1e-3)


def test_make_drawer_features_fit_the_quantization_steps() -> None:
    photo = [np.zeros((64, 64, 3), np.uint8)]
    _, step, features, lmbdas = make_drawer(photo, [], SHORT)(np.random.default_rng(1))
    codes = [round(2048 + 256 * float(torch.log2(one))) for one in step]
    assert torch.equal(features, features_of(codes))
    low, high = SHORT.steps
    assert ((step > low * 0.99) & (step < high * 1.01) & (lmbdas > 0)).all()


def test_use_bfloat16_changes_learned_branches_only(photos: Path, bfloat16: bool) -> None:
    """They, and nothing else, are rounded, where the processor has it: pixels stay within two levels."""
    torch.manual_seed(1)
    model = Autoencoder(torch.ones(LATENT_CHANNELS))
    for branch in (model.encoder.out, model.decoder.out):
        torch.nn.init.normal_(branch.weight, std=0.005)
    pixels = pixels_to_planes(np.stack([np.asarray(Image.open(path))[:64, :64] for path in sorted(photos.iterdir())]))
    step = torch.ones(len(pixels))

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        latents = model.encoder(pixels)
        return latents, model.decoder(latents, step)

    with torch.inference_mode():
        exact = run()
        use_bfloat16([model.encoder, model.decoder], "cpu")
        rounded = run()
    assert [one.dtype for one in rounded] == [torch.float32] * 2
    assert torch.equal(exact[1], rounded[1]) is not bfloat16
    torch.testing.assert_close(rounded[1], exact[1], rtol=0, atol=2 / 127.5)
