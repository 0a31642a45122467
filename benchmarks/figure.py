"""Figures of photos beside each other, each codec's version with its bytes and PSNR.

    python benchmarks/figure.py codecs                  docs/strip.webp, and results
    python benchmarks/figure.py layers --model BUNDLE   docs/layers.webp, and results
    python benchmarks/figure.py photo [PHOTO]           demo/PHOTO.png, demo/PHOTO.sdt and a table

codecs   photos of scikit-image by sdtrt, AVIF, WebP and JPEG, at the same number of bytes
layers   the same photos by a bundle of the latent space sd1, by latents alone and with layers, and by WebP
photo    one photo by sdtrt, WebP and JPEG; without PHOTO, scikit-image's astronaut (NASA, public domain)

Each codec compresses the whole photo. The figures of the documentation show crops without scaling: fine texture, a
face, and text, which small autoencoders reproduce worst. A codec uses its highest quality whose file is not larger
than sdtrt's, or its lowest quality.
"""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from baselines import ALL_CODECS, PILLOW_CODECS, decode_rgb, encode_within
from harness import DOCS, Pixels, median_ms, write_results
from PIL import Image, ImageDraw, ImageFont
from skimage import data as photos
from skimage.metrics import structural_similarity

import sdtrt
from sdtrt.compare.page import stack_images
from sdtrt.engine.image import psnr
from sdtrt.images.convert import to_engine_image

Box = tuple[int, int, int, int]  # left, top, right, bottom

CROPS: dict[str, Box] = {
    "chelsea": (60, 20, 360, 260),
    "astronaut": (80, 0, 380, 240),
    "page": (10, 0, 310, 191),
}
CODEC_ROWS = (("chelsea", 0.1), ("chelsea", 0.2), ("astronaut", 0.19), ("page", 0.33))  # photo, bits per pixel
LAYER_ROWS = ("astronaut", "page")
LAYERS_QUALITY = 62
COLUMN, GAP, LABEL = 300, 8, 24  # pixels: width of a column, space between columns, height of the labels


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw photos beside each other.")
    parser.add_argument("what", choices=("codecs", "layers", "photo"))
    parser.add_argument("photo", type=Path, nargs="?", help="with photo: an image file")
    parser.add_argument("-m", "--model", help="with layers: folder of a bundle of the latent space sd1")
    parser.add_argument("--quality", type=float, default=25, help="with photo: sdtrt's quality (default 25)")
    arguments = parser.parse_args()
    if arguments.what == "codecs":
        draw_codecs()
    elif arguments.what == "layers":
        if not arguments.model:
            parser.error("layers needs --model BUNDLE")
        draw_layers(arguments.model)
    else:
        compare_photo(arguments.photo, arguments.quality)


# Figures of the documentation


def draw_codecs() -> None:
    rows, strips = [], []
    for name, bits_per_pixel in CODEC_ROWS:
        original = sample(name)
        file = sdtrt.encode(original, bpp=bits_per_pixel)
        files = {"sdtrt": file}
        files |= {codec: encode_within(ALL_CODECS[codec], original, len(file))[1] for codec in ("AVIF", "WebP", "JPEG")}
        images = {codec: decode(data, original.mode) for codec, data in files.items()}
        figures = {codec: size_and_psnr(original, images[codec], files[codec]) for codec in files}
        strips.append(strip(CROPS[name], {"original": original} | images, figures))
        rows.append({"photo": name, "bpp": bits_per_pixel, **figures})
        print(rows[-1])
    write_results("strip", {"rows": rows})
    stack_images(strips).save(DOCS / "strip.webp", quality=90, method=6)


def draw_layers(model: str) -> None:
    rows, strips = [], []
    with sdtrt.Codec.open(model) as codec:
        for name in LAYER_ROWS:
            original = sample(name)
            files = {
                "latents": codec.encode(original, quality=100, layers=1),
                "with layers": codec.encode(original, quality=LAYERS_QUALITY),
            }
            images = {label: codec.decode(data).convert(original.mode) for label, data in files.items()}
            files["WebP"] = encode_within(PILLOW_CODECS["WebP"], original, len(files["with layers"]))[1]
            images["WebP"] = decode(files["WebP"], original.mode)
            figures = {label: size_and_psnr(original, images[label], files[label]) for label in files}
            strips.append(strip(CROPS[name], {"original": original} | images, figures))
            rows.append({"photo": name, **figures})
            print(rows[-1])
    write_results("layers_strip", {"rows": rows})
    stack_images(strips).save(DOCS / "layers.webp", quality=90, method=6)


def sample(name: str) -> Image.Image:
    """Return a photo of scikit-image."""
    return Image.fromarray(getattr(photos, name)())


def decode(data: bytes, mode: str) -> Image.Image:
    image = sdtrt.decode(data) if data[:3] == b"SDT" else Image.open(io.BytesIO(data))
    return image.convert(mode)


def size_and_psnr(original: Image.Image, other: Image.Image, data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "psnr": round(psnr(np.asarray(original), np.asarray(other)), 2)}


def strip(crop: Box, images: dict[str, Image.Image], figures: dict[str, dict[str, Any]]) -> Image.Image:
    """Return the crop of each image side by side, with bytes and PSNR above."""
    left, top, right, bottom = crop
    sheet = Image.new("RGB", (len(images) * (COLUMN + GAP) + GAP, LABEL + bottom - top + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for number, (name, image) in enumerate(images.items()):
        x = GAP + number * (COLUMN + GAP)
        label = f"{name}  {figures[name]['bytes']} bytes  {figures[name]['psnr']:.2f} dB" if name in figures else name
        draw.text((x, 2), label, "black", font)
        sheet.paste(image.crop((left, top, right, bottom)).convert("RGB"), (x, LABEL))
    return sheet


# One photo

DEMO = Path("demo")
ZOOM = 3
COLUMNS = {  # of the table, with their formats
    "bytes": "d",
    "bpp": ".3f",
    "PSNR dB": ".2f",
    "SSIM": ".4f",
    "encode ms": ".0f",
    "decode ms": ".0f",
}

Row = dict[str, float]


def compare_photo(path: Path | None, quality: float) -> None:
    """Print a table, and write the `.sdt` file and an image that shows the photo and a detail by each codec."""
    original = photos.astronaut() if path is None else to_engine_image(path).pixels
    name = "astronaut" if path is None else path.stem
    with sdtrt.Codec.open() as codec:
        data = codec.encode(original, quality=quality)
        decoded = {"sdtrt": np.asarray(codec.decode(data).convert("RGB"))}
        encode_ms = median_ms(lambda: codec.encode(original, quality=quality))
        decode_ms = median_ms(lambda: codec.decode(data))
    rows = {"sdtrt": table_row(original, decoded["sdtrt"], len(data), encode_ms, decode_ms)}
    image = Image.fromarray(original)
    for other, encode in PILLOW_CODECS.items():
        other_quality, file = encode_within(encode, image, len(data))
        decoded[other] = decode_rgb(file)
        encode_ms = median_ms(lambda e=encode, q=other_quality: e(image, q))
        decode_ms = median_ms(lambda f=file: decode_rgb(f))
        rows[other] = table_row(original, decoded[other], len(file), encode_ms, decode_ms)
    print(table(rows))
    DEMO.mkdir(exist_ok=True)
    (DEMO / f"{name}.sdt").write_bytes(data)
    side_by_side(original, decoded, rows).save(DEMO / f"{name}.png")
    print(f"\n{DEMO / name}.sdt, {DEMO / name}.png")


def table_row(original: Pixels, decoded: Pixels, nbytes: int, encode_ms: float, decode_ms: float) -> Row:
    bpp = 8 * nbytes / (original.shape[0] * original.shape[1])
    ssim = float(structural_similarity(original, decoded, channel_axis=2))
    return dict(zip(COLUMNS, (nbytes, bpp, psnr(original, decoded), ssim, encode_ms, decode_ms), strict=True))


def table(rows: dict[str, Row]) -> str:
    lines = ["codec " + "".join(f"{name:>11}" for name in COLUMNS)]
    for codec, row in rows.items():
        lines.append(f"{codec:6}" + "".join(f"{row[name]:11{form}}" for name, form in COLUMNS.items()))
    return "\n".join(lines)


def side_by_side(original: Pixels, decoded: dict[str, Pixels], rows: dict[str, Row]) -> Image.Image:
    """Return the versions in a row, each above the same detail, enlarged."""
    labels = {name: f"{name}  {row['bytes']} bytes  {row['PSNR dB']:.2f} dB" for name, row in rows.items()}
    panels = {"original": original} | decoded
    height, width = original.shape[:2]
    top, left, side = busiest_square(original, max(min(width, height) // ZOOM, 1))
    zoomed = min(width, height) // ZOOM * ZOOM or ZOOM
    sheet = Image.new("RGB", (len(panels) * (width + GAP) + GAP, height + zoomed + 2 * GAP + LABEL), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for number, (name, pixels) in enumerate(panels.items()):
        x = GAP + number * (width + GAP)
        draw.text((x, 2), labels.get(name, name), "black", font)
        sheet.paste(Image.fromarray(pixels), (x, LABEL))
        detail = Image.fromarray(pixels[top : top + side, left : left + side])
        sheet.paste(detail.resize((zoomed, zoomed), Image.Resampling.NEAREST), (x, LABEL + height + GAP))
    return sheet


def busiest_square(pixels: Pixels, side: int) -> tuple[int, int, int]:
    """Return (top, left, side) of the square with the largest mean gradient, on a grid of 16 pixels."""
    brightness = pixels.mean(2)
    gradient = np.hypot(*np.gradient(brightness)) if min(brightness.shape) > 1 else brightness
    height, width = brightness.shape
    corners = [(y, x) for y in range(0, height - side + 1, 16) for x in range(0, width - side + 1, 16)]
    top, left = max(corners, key=lambda c: float(gradient[c[0] : c[0] + side, c[1] : c[1] + side].mean()))
    return top, left, side


if __name__ == "__main__":
    main()
