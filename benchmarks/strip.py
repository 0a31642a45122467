"""The README's picture: photos of scikit-image, each beside sdtrt, AVIF, WebP and JPEG of the same number of bytes.

    python benchmarks/strip.py

Whole photos are compressed, parts are shown, pixel by pixel: one with fine texture, a face, and text, which is what a
small autoencoder is worst at.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from report import write_results
from rivals import ALL_RIVALS, encode_within, psnr
from skimage import data

import sdtrt

DOCS = Path(__file__).parent.parent / "docs"
PHOTOS = (  # bits per pixel, of which WebP and JPEG cannot be as few as 0.1; left, top, right, bottom of what is shown
    ("chelsea", 0.1, (60, 20, 360, 260)),
    ("chelsea", 0.2, (60, 20, 360, 260)),
    ("astronaut", 0.19, (80, 0, 380, 240)),
    ("page", 0.33, (10, 0, 310, 191)),
)
CODECS = ("AVIF", "WebP", "JPEG")
WIDTH, GAP, LABEL = 300, 8, 24


Box = tuple[int, int, int, int]


def main() -> None:
    rows, sheet = [], None
    for name, bits_per_pixel, shown in PHOTOS:
        original = Image.fromarray(getattr(data, name)())
        files = compressed(original, bits_per_pixel)
        pictures = {codec: decoded(file, original.mode) for codec, file in files.items()}
        rows.append(
            {"photo": name, "bpp": bits_per_pixel}
            | {codec: figures(original, pictures[codec], files[codec]) for codec in files}
        )
        strip = row_of(shown, {"original": original} | pictures, rows[-1])
        sheet = strip if sheet is None else below(sheet, strip)
        print(rows[-1])
    write_results("strip", {"rows": rows})
    assert sheet is not None
    sheet.save(DOCS / "strip.webp", quality=90, method=6)


def compressed(original: Image.Image, bits_per_pixel: float) -> dict[str, bytes]:
    file = sdtrt.encode(original, bits_per_pixel=bits_per_pixel)
    return {"sdtrt": file} | {name: encode_within(ALL_RIVALS[name], original, len(file))[1] for name in CODECS}


def decoded(file: bytes, mode: str) -> Image.Image:
    image = sdtrt.decode(file) if file[:3] == b"SDT" else Image.open(io.BytesIO(file))
    return image.convert(mode)


def figures(original: Image.Image, other: Image.Image, file: bytes) -> dict[str, Any]:
    return {"bytes": len(file), "psnr": round(psnr(np.asarray(original), np.asarray(other)), 2)}


def row_of(shown: Box, pictures: dict[str, Image.Image], row: dict[str, Any]) -> Image.Image:
    """Return a photo's part as each codec gives it, side by side, with bytes and PSNR above."""
    left, top, right, bottom = shown
    sheet = Image.new("RGB", (len(pictures) * (WIDTH + GAP) + GAP, LABEL + bottom - top + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for number, (codec, picture) in enumerate(pictures.items()):
        x = GAP + number * (WIDTH + GAP)
        label = f"{codec}  {row[codec]['bytes']} bytes  {row[codec]['psnr']:.2f} dB" if codec in row else codec
        draw.text((x, 2), label, "black", font)
        sheet.paste(picture.crop((left, top, right, bottom)).convert("RGB"), (x, LABEL))
    return sheet


def below(first: Image.Image, second: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (first.width, first.height + second.height), "white")
    sheet.paste(first, (0, 0))
    sheet.paste(second, (0, first.height))
    return sheet


if __name__ == "__main__":
    main()
