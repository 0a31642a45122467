"""Is there a grid? The mean step between neighbouring pixels across the borders of 8x8 blocks, against inside them.

    python benchmarks/blockiness.py FOLDER

Only flat places of the original count, where its local contrast is in the lowest fifth: there a grid shows. A ratio of
1 is no grid; the original's own ratio and JPEG's, at the same number of bytes, stand beside it.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from report import write_results
from rivals import RIVALS, decoded, encode_within

import sdtrt

BLOCK = 8
QUALITIES = (10, 25, 50)
FLAT_SHARE = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the grid that a block transform leaves.")
    parser.add_argument("folder", type=Path, help="folder of PNG pictures, such as the Kodak set")
    paths = sorted(parser.parse_args().folder.glob("*.png"))
    images = [Image.open(path).convert("RGB") for path in paths]
    rows = []
    with sdtrt.Codec.open() as codec:
        for quality in QUALITIES:
            steps: dict[str, list[tuple[float, float]]] = {"original": [], "sdtrt": [], "JPEG": []}
            for image in images:
                data = codec.encode(image, quality=quality)
                flat = flat_places(image)
                pictures = {
                    "original": np.asarray(image),
                    "sdtrt": np.asarray(codec.decode(data)),
                    "JPEG": decoded(encode_within(RIVALS["JPEG"], image, len(data))[1]),
                }
                for name, pixels in pictures.items():
                    steps[name].append(border_and_inside(pixels, flat))
            rows.append({"quality": quality} | {name: ratio(pairs) for name, pairs in steps.items()})
            print(rows[-1])
    print(write_results("blockiness", {"pictures": len(images), "border_step_over_inside_step": rows}))


def flat_places(image: Image.Image) -> NDArray[np.bool_]:
    """Return where the picture is flat, bool (H, W): lowest fifth of the local standard deviation over 16x16."""
    grey = image.convert("L")
    mean = np.asarray(grey.filter(ImageFilter.BoxBlur(8)), np.float64)
    contrast = np.abs(np.asarray(grey, np.float64) - mean)
    smooth = np.asarray(Image.fromarray(contrast.astype(np.uint8)).filter(ImageFilter.BoxBlur(8)))
    return smooth <= np.quantile(smooth, FLAT_SHARE)


def border_and_inside(pixels: NDArray[np.uint8], flat: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean absolute step across block borders and inside blocks, over flat places, both directions."""
    brightness = pixels.astype(np.float64).mean(2)
    border, inside = [], []
    for plane, where in ((brightness, flat), (brightness.T, flat.T)):
        step = np.abs(np.diff(plane, axis=1))
        at_border = np.zeros(step.shape, bool)
        at_border[:, BLOCK - 1 :: BLOCK] = True
        border.append(step[at_border & where[:, 1:]])
        inside.append(step[~at_border & where[:, 1:]])
    return float(np.concatenate(border).mean()), float(np.concatenate(inside).mean())


def ratio(pairs: list[tuple[float, float]]) -> float:
    border, inside = np.array(pairs).mean(0)
    return round(float(border / inside), 4)


if __name__ == "__main__":
    main()
