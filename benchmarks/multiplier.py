"""What a bit may cost in squared error: PSNR at equal bytes for several multipliers, 0 being plain rounding.

    python benchmarks/multiplier.py FOLDER

FOLDER holds training photos, never the pictures on which the codec is measured: the multiplier is fitted on them.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from report import write_results
from rivals import psnr

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding import latent_file, stream_codec
from sdtrt.engine.format import container

MULTIPLIERS = (0.0, 0.05, 0.1, 0.15)
QUALITIES = (10, 20, 30, 40, 50, 60)
RATES = (0.2, 0.4)
EVERY = 20  # of the photos, one in so many


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure multipliers.")
    parser.add_argument("folder", type=Path, help="folder of training photos")
    paths = sorted(p for p in parser.parse_args().folder.iterdir() if p.suffix in {".png", ".webp", ".jpg"})
    codec = EngineCodec("tiny")
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in paths[::EVERY]]
    analysed = [codec.analyse(photo) for photo in photos]
    rows = []
    for multiplier in MULTIPLIERS:
        stream_codec.RDOQ_LAMBDA = multiplier
        points = [point(codec, photos, analysed, quality) for quality in QUALITIES]
        logs, decibels = zip(*points, strict=True)
        rows.append({"multiplier": multiplier})
        rows[-1] |= {f"psnr at {rate}": round(float(np.interp(np.log(rate), logs, decibels)), 3) for rate in RATES}
        print(rows[-1])
    print(write_results("multiplier", {"photos": len(photos), "rows": rows}))


def point(codec: EngineCodec, photos: list, analysed: list, quality: int) -> tuple[float, float]:
    """Return log of the mean bits per pixel, and mean PSNR."""
    bpp, decibels = [], []
    for photo, values in zip(photos, analysed, strict=True):
        height, width = photo.shape[:2]
        file = latent_file.encode_latents_to_file(
            values, width, height, codec.profile, codec.profile.step_code(quality)
        )
        bpp.append(8 * len(container.write(file)) / (width * height))
        decibels.append(psnr(photo, codec.synthesise(latent_file.decode_latents(file), file.header)))
    return float(np.log(np.mean(bpp))), float(np.mean(decibels))


if __name__ == "__main__":
    main()
