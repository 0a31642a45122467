"""What `tiny` is trained by: the loss for what eyes miss, crops of photos and pages, and the way back from a bundle."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdtrt.engine.networks.bundle import built_in_root
from sdtrt.export.training.tiny.photos import (
    GRAINY_SHARE,
    MAX_GRAIN,
    PAGES_SHARE,
    SCALED_SHARE,
    SCALES,
    mixed_crops,
    varied_crops,
)
from sdtrt.export.training.tiny.restore import restore_model, weights_of
from sdtrt.export.training.tiny.ssimulacra2_loss import channel, linear, ssimulacra2_loss
from sdtrt.export.training.tiny.stage2_decoder import grid_penalty

TINY = built_in_root() / "tiny"


@pytest.fixture(scope="module")
def crops() -> Tensor:
    """Two smooth textures with some noise, float32 (2, 3, 96, 96)."""
    noise = torch.rand((2, 3, 96, 96), generator=torch.Generator().manual_seed(1)) * 2 - 1
    return (3 * F.avg_pool2d(noise, 7, 1, 3) + 0.1 * noise).clamp(-1, 1)


def test_grid_penalty_block_borders_are_penalised() -> None:
    """A ramp has none; its steps are larger over borders of blocks, of rows as of columns."""
    at_borders = torch.arange(64) % 8 == 7
    ramp, grid = (
        torch.where(at_borders, border, 0.5).cumsum(0).div(127.5).expand(1, 3, 64, -1) for border in (0.5, 0.75)
    )
    one = torch.ones(1)
    assert grid_penalty(ramp, ramp, one) < 1e-6
    found = grid_penalty(grid, ramp, one)
    assert found > 0.005
    assert found == pytest.approx(float(grid_penalty(grid.mT, ramp.mT, one)), rel=1e-4)
    # Images of similar steps dilute a grid; images of other steps do not.
    both, originals = torch.cat([grid, ramp]), torch.cat([ramp, ramp])
    alike, apart = (grid_penalty(both, originals, torch.tensor(steps)) for steps in ([1.0, 1.5], [1.0, 2.5]))
    assert apart == pytest.approx(float(found), rel=1e-4)
    assert alike < 0.5 * found


def test_ssimulacra2_loss_equal_images_is_near_zero(crops: Tensor) -> None:
    assert ssimulacra2_loss(crops, crops).abs().max() < 0.5  # fourth roots of next to nothing are something


def test_ssimulacra2_loss_rises_with_blur(crops: Tensor) -> None:
    blurred = [F.avg_pool2d(crops, size, 1, size // 2) for size in (1, 3, 5, 9)]
    loss = torch.stack([ssimulacra2_loss(one, crops) for one in blurred])
    assert (loss.diff(dim=0) > 1).all()


def test_channel_xyb_matches_known_values() -> None:
    """Greys have a brightness alone, which rises with them; red is more red than green, blue more blue than yellow."""
    greys = torch.tensor([-1, -0.5, 0, 1.0])[:, None, None, None].expand(-1, 3, 1, 1)
    x, y, b = (channel(linear(greys), n).flatten() for n in range(3))
    assert (y.diff() > 0.05).all()
    assert x.abs().max() < 1e-5
    assert b.abs().max() < 1e-5
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])[:, :, None, None]
    red, green, _, _ = channel(linear(colours), 0).flatten()
    _, _, blue, yellow = channel(linear(colours), 2).flatten()
    assert red > 0 > green
    assert blue > 0 > yellow


def test_ssimulacra2_loss_errors_at_a_quarter_of_the_size_weigh_most(crops: Tensor) -> None:
    """Of errors as large, those of 8 pixels weigh more than those of 2."""
    wave = torch.arange(96) // 4 % 2 * 2.0 - 1, torch.arange(96) % 2 * 2.0 - 1
    coarse, fine = (ssimulacra2_loss(crops + 0.1 * w[:, None] * w, crops) for w in wave)
    assert (coarse > 2 * fine).all()


def test_ssimulacra2_loss_gradients_are_finite_at_the_range_ends() -> None:
    """Where pixels are black, white or out of range."""
    decoded = torch.tensor([-1.5, -1, 1, 1.5]).repeat(1, 3, 64, 16).requires_grad_()
    ssimulacra2_loss(decoded, torch.zeros(1, 3, 64, 64)).sum().backward()  # type: ignore[no-untyped-call]
    assert decoded.grad is not None
    assert decoded.grad.isfinite().all()


def test_mixed_crops_one_in_six_is_of_pages() -> None:
    photo, page = np.zeros((40, 50, 3), np.uint8), np.full((40, 50, 3), 255, np.uint8)
    crops = mixed_crops([photo], [page], 3000, 8, np.random.default_rng(1))
    assert crops.shape == (3000, 8, 8, 3)
    assert (crops == 255).all((1, 2, 3)).mean() == pytest.approx(PAGES_SHARE, abs=0.02)
    assert (mixed_crops([photo], [], 30, 8, np.random.default_rng(1)) < 64).all()


def test_varied_crops_are_scaled_and_get_grain() -> None:
    """Of a slope of a level a pixel, half of the crops are as steep, the others half to twice, evenly by octave."""
    photo = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 256, 3)).copy()
    crops = varied_crops([photo], 400, 64, np.random.default_rng(1)).astype(np.float64)[:, :, :, 0]
    steepness = np.maximum(*(np.abs(means[:, -9] - means[:, 8]) / 47 for means in (crops.mean(1), crops.mean(2))))
    assert (np.abs(steepness - 1) < 0.02).mean() == pytest.approx(1 - SCALED_SHARE, abs=0.1)
    low, high = SCALES
    assert ((steepness > 0.95 / high) & (steepness < 1.05 / low)).all()
    assert (steepness < 0.95).mean() == pytest.approx((steepness > 1.05).mean(), abs=0.1)
    grain = np.minimum(crops.std(1).mean(1), crops.std(2).mean(1))
    assert (grain > 0.5).mean() == pytest.approx(GRAINY_SHARE, abs=0.1)
    assert grain.max() < 1.2 * MAX_GRAIN


def test_restore_model_gives_the_bundles_outputs(crops: Tensor) -> None:
    model = restore_model(TINY)
    encoder, decoder = (
        onnxruntime.InferenceSession(TINY / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("encoder", "decoder")
    )
    step = torch.tensor([0.5, 2.0])
    with torch.inference_mode():
        latents = model.encoder(crops)
        pixels = model.decoder(latents, step)
    np.testing.assert_allclose(encoder.run(None, {"pixels": crops.numpy()})[0], latents, atol=1e-3)
    found = decoder.run(None, {"latents": latents.numpy(), "step": step.numpy()})[0]
    np.testing.assert_allclose(found, pixels, atol=1e-3)


def test_restore_model_other_model_raises(tmp_path: Path) -> None:
    assert "coarse_in.weight" in weights_of(TINY / "decoder.onnx")
    for name in ("encoder", "decoder"):
        (tmp_path / f"{name}.onnx").write_bytes((TINY / "decoder.onnx").read_bytes())
    with pytest.raises(ValueError, match=r"encoder\.onnx has weights of another model"):
        restore_model(tmp_path)
