"""The picture of what layers mend: photos of scikit-image by a generative model, with its layers and without.

    python benchmarks/layers_strip.py BUNDLE

BUNDLE is a folder of a bundle of the latent space sd1. Whole photos are compressed, parts are shown, pixel by pixel.
"""

import argparse
from pathlib import Path

from PIL import Image
from report import write_results
from rivals import RIVALS, encode_within
from skimage import data
from strip import DOCS, Box, below, decoded, figures, row_of

import sdtrt

PHOTOS: dict[str, tuple[float, Box]] = {  # quality with layers; left, top, right, bottom of what is shown
    "astronaut": (62, (80, 0, 380, 240)),
    "page": (62, (10, 0, 310, 191)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw what layers mend.")
    parser.add_argument("bundle", type=Path, help="folder of a bundle of the latent space sd1")
    rows, strips = [], []
    with sdtrt.Codec.open(parser.parse_args().bundle) as codec:
        for name, (quality, shown) in PHOTOS.items():
            original = Image.fromarray(getattr(data, name)())
            layered = codec.encode(original, quality=quality)
            files = {"latents": codec.encode(original, quality=100, layers=1), "with layers": layered}
            pictures = {label: codec.decode(file).convert(original.mode) for label, file in files.items()}
            files["WebP"] = encode_within(RIVALS["WebP"], original, len(layered))[1]
            pictures["WebP"] = decoded(files["WebP"], original.mode)
            rows.append({"photo": name} | {label: figures(original, pictures[label], files[label]) for label in files})
            strips.append(row_of(shown, {"original": original} | pictures, rows[-1]))
            print(rows[-1])
    write_results("layers_strip", {"rows": rows})
    below(*strips).save(DOCS / "layers.webp", quality=90, method=6)


if __name__ == "__main__":
    main()
