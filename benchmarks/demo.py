"""One photo through sdtrt, beside JPEG and WebP of as many bytes, or as few as they can: a table, and `demo/`.

    python benchmarks/demo.py [PHOTO]

Without PHOTO it takes scikit-image's astronaut (NASA, public domain).
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rivals import RIVALS, decoded, encode_within, psnr
from skimage.data import astronaut
from skimage.metrics import structural_similarity

import sdtrt
from sdtrt.images.convert import to_engine_image

OUT = Path("demo")
QUALITY = 25
ZOOM = 3
GAP, LABEL = 8, 28

Pixels = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A codec's figures; times in milliseconds."""

    codec: str
    bytes: int
    bpp: float
    psnr: float
    ssim: float
    encode_ms: float
    decode_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Compress a photo and show what came of it.")
    parser.add_argument("photo", type=Path, nargs="?", help="default: scikit-image's astronaut")
    parser.add_argument("--quality", type=float, default=QUALITY, help="of sdtrt; JPEG and WebP follow in bytes")
    arguments = parser.parse_args()
    original = astronaut() if arguments.photo is None else to_engine_image(arguments.photo).pixels
    name = "astronaut" if arguments.photo is None else arguments.photo.stem
    OUT.mkdir(exist_ok=True)

    with sdtrt.Codec.open() as codec:
        codec.decode(codec.encode(original, quality=arguments.quality))  # networks are loaded at first use
        data, encode_ms = timed(lambda: codec.encode(original, quality=arguments.quality))
        image, decode_ms = timed(lambda: codec.decode(data))
    (OUT / f"{name}.sdt").write_bytes(data)
    pictures = {"sdtrt": np.asarray(image.convert("RGB"))}
    rows = [row("sdtrt", original, pictures["sdtrt"], len(data), encode_ms, decode_ms)]
    for rival, encode in RIVALS.items():
        quality, file = encode_within(encode, Image.fromarray(original), len(data))
        _, encode_ms = timed(lambda e=encode, q=quality: e(Image.fromarray(original), q))
        pictures[rival], decode_ms = timed(lambda f=file: decoded(f))
        rows.append(row(rival, original, pictures[rival], len(file), encode_ms, decode_ms))

    print(table(rows))
    sheet = side_by_side(original, pictures, rows)
    sheet.save(OUT / f"{name}.png")
    print(f"\n{OUT / name}.sdt, {OUT / name}.png")


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return a call's result and the median of its time over five calls, in milliseconds."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - started)
    return result, 1000 * float(np.median(times))


def row(codec: str, original: Pixels, pixels: Pixels, nbytes: int, encode_ms: float, decode_ms: float) -> Row:
    height, width = original.shape[:2]
    ssim = float(structural_similarity(original, pixels, channel_axis=2))
    return Row(codec, nbytes, 8 * nbytes / (width * height), psnr(original, pixels), ssim, encode_ms, decode_ms)


def table(rows: list[Row]) -> str:
    lines = ["codec    bytes    bpp   PSNR dB   SSIM   encode ms  decode ms"]
    lines += [
        f"{r.codec:6} {r.bytes:7} {r.bpp:6.3f} {r.psnr:8.2f} {r.ssim:8.4f} {r.encode_ms:9.0f} {r.decode_ms:10.0f}"
        for r in rows
    ]
    return "\n".join(lines)


def side_by_side(original: Pixels, pictures: dict[str, Pixels], rows: list[Row]) -> Image.Image:
    """Return the pictures in a row, each above the same detail of it, enlarged."""
    labels = {"original": "original"} | {r.codec: f"{r.codec}  {r.bytes} bytes  {r.psnr:.2f} dB" for r in rows}
    panels = {"original": original} | pictures
    height, width = original.shape[:2]
    top, left, side = busiest(original, max(min(width, height) // ZOOM, 1))
    zoomed = min(width, height) // ZOOM * ZOOM or ZOOM
    sheet = Image.new("RGB", (len(panels) * (width + GAP) + GAP, height + zoomed + 2 * GAP + LABEL), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for number, (name, pixels) in enumerate(panels.items()):
        x = GAP + number * (width + GAP)
        draw.text((x, 3), labels[name], "black", font)
        sheet.paste(Image.fromarray(pixels), (x, LABEL))
        detail = Image.fromarray(pixels[top : top + side, left : left + side])
        sheet.paste(detail.resize((zoomed, zoomed), Image.Resampling.NEAREST), (x, LABEL + height + GAP))
    return sheet


def busiest(pixels: Pixels, side: int) -> tuple[int, int, int]:
    """Return (top, left, side) of the square with the most fine detail, on a coarse grid."""
    brightness = pixels.mean(2)
    detail = np.hypot(*np.gradient(brightness)) if min(brightness.shape) > 1 else brightness
    height, width = brightness.shape
    corners = [(y, x) for y in range(0, height - side + 1, 16) for x in range(0, width - side + 1, 16)]
    top, left = max(corners, key=lambda c: float(detail[c[0] : c[0] + side, c[1] : c[1] + side].mean()))
    return top, left, side


if __name__ == "__main__":
    main()
