"""The choice of overlays: text gets one, photos do not; and the inpainting under them."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sdtrt.engine.format.webp_lossless import encode_rgba
from sdtrt.engine.layers.overlay import choose_overlay, inpaint_covered

LAMBDAS = [0.12 * step**2 for step in (5, 24, 50, 130)]


def page(height: int = 240, width: int = 320) -> np.ndarray:
    """Return lines of text, uint8 (height, width, 3), dark on light."""
    image = Image.new("RGB", (width, height), (250, 248, 240))
    draw = ImageDraw.Draw(image)
    for line, top in enumerate(range(4, height - 12, 14)):
        draw.text((6, top), f"{line}: the quick brown fox jumps over the lazy dog " * 2, fill=(20, 30, 60))
    return np.array(image)


def photo(height: int = 240, width: int = 320) -> np.ndarray:
    """Return soft shapes with noise, uint8 (height, width, 3)."""
    rows, columns = np.mgrid[:height, :width]
    shapes = np.stack([np.sin(rows / 31 + k) + np.cos(columns / (23 + k)) for k in range(3)], axis=2)
    noise = np.random.default_rng(2).normal(0, 6, shapes.shape)
    return np.clip(128 + 40 * shapes + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("lmbda", LAMBDAS)
def test_choose_overlay_covers_text(lmbda):
    pixels = page()
    overlay = choose_overlay(pixels, lmbda)
    assert overlay is not None
    covered = overlay[:, :, 3] == 255
    assert covered.mean() > 0.9
    error = np.square(overlay[covered, :3].astype(float) - pixels[covered]).mean()
    assert error < lmbda
    assert 8 * len(encode_rgba(overlay)) < 0.6 * covered.size


@pytest.mark.parametrize("lmbda", LAMBDAS)
@pytest.mark.parametrize("pixels", [photo(), np.full((200, 200, 3), 77, np.uint8), photo(1, 1), photo(3, 40)])
def test_choose_overlay_of_photo_or_flat_image_is_none(pixels, lmbda):
    assert choose_overlay(pixels, lmbda) is None


@pytest.mark.parametrize("size", [(240, 320), (233, 311)])
def test_choose_overlay_leaves_out_a_photo_on_a_page(size):
    pixels = page(*size)
    pixels[96:192, 64:224] = photo()[96:192, 64:224]
    overlay = choose_overlay(pixels, LAMBDAS[2])
    assert overlay is not None
    covered = overlay[:, :, 3] == 255
    assert not covered[96:192, 64:224].any()
    assert not overlay[~covered].any()
    assert covered[:96].mean() > 0.9


def test_choose_overlay_of_few_colours_is_lossless():
    pixels = np.where(page() > 128, 250, 10).astype(np.uint8)
    overlay = choose_overlay(pixels, LAMBDAS[0])
    assert overlay is not None
    covered = overlay[:, :, 3] == 255
    assert np.array_equal(overlay[covered, :3], pixels[covered])


def test_choose_overlay_with_larger_lambda_has_fewer_colours():
    overlays = [choose_overlay(page(), lmbda) for lmbda in LAMBDAS]
    counts = [len(np.unique(overlay.reshape(-1, 4), axis=0)) for overlay in overlays if overlay is not None]
    assert len(counts) == len(LAMBDAS)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def overlay_on(pixels: np.ndarray, covered: np.ndarray) -> np.ndarray:
    return np.dstack([pixels, np.where(covered, 255, 0).astype(np.uint8)])


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (1, 9)])
def test_inpaint_covered_keeps_visible_pixels(size):
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    covered = np.random.default_rng(4).random(size) < 0.7
    inpainted = inpaint_covered(pixels, overlay_on(pixels, covered))
    assert np.array_equal(inpainted[~covered], pixels[~covered])
    assert inpainted[covered].std() < pixels[covered].std()


def test_inpaint_covered_of_all_or_no_pixels():
    pixels = page()
    whole = inpaint_covered(pixels, overlay_on(pixels, np.ones(pixels.shape[:2], np.bool_)))
    assert (whole == whole[0, 0]).all()
    assert np.array_equal(inpaint_covered(pixels, overlay_on(pixels, np.zeros(pixels.shape[:2], np.bool_))), pixels)


def test_inpaint_covered_in_flat_surroundings_is_flat():
    pixels = page()
    covered = np.zeros(pixels.shape[:2], np.bool_)
    covered[32:200, 16:300] = True
    pixels = np.where(covered[:, :, None], pixels, np.uint8(90))
    assert (inpaint_covered(pixels, overlay_on(pixels, covered)) == 90).all()
