"""Previews without a network: which files have them, and box downscaling."""

from pathlib import Path

import numpy as np
import pytest

from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.format import container
from sdtrt.engine.layers.preview import box_downscale, decode_preview

VECTORS = Path(__file__).parents[2] / "vectors"


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (9, 17), (5, 31, 3)])
@pytest.mark.parametrize("factor", [1, 2, 3, 8, 100])
def test_box_downscale_is_mean_of_blocks(shape: tuple[int, ...], factor: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    small = box_downscale(pixels, factor)
    assert small.shape[:2] == tuple(-(-side // factor) for side in shape[:2])
    for y, x in np.ndindex(small.shape[:2]):
        block = pixels[factor * y : factor * (y + 1), factor * x : factor * (x + 1)]
        np.testing.assert_array_equal(small[y, x], np.rint(block.mean((0, 1))))


@pytest.mark.parametrize(
    ("name", "has_preview"),
    [
        ("tiny_odd_size", True),
        ("tiny_tiles", True),
        ("tiny_tiles_one_level", True),
        ("sd1_tiles", True),
        ("sd1_adaptive", True),
        ("sd1_palette", False),
        ("adaptive_inline", False),
        ("adaptive_tiles", False),
    ],
)
def test_decode_preview_needs_a_linear_decoder(name: str, has_preview: bool) -> None:
    """Those whose latent space is known; method palette has no channels to choose from."""
    file = container.read((VECTORS / name / "input.sdt").read_bytes())
    header = file.header
    for scale in (8, 16):
        preview = decode_preview(file, LatentReader(file), scale)
        assert (preview is not None) == has_preview
        assert preview is None or preview.shape == (-(-header.height // scale), -(-header.width // scale), 3)
    for scale in (1, 4, 12):
        assert decode_preview(file, LatentReader(file), scale) is None
