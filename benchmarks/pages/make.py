"""Render test images of pages, terminals, code, plots, slides, interfaces, icons, drawings and pages with photos.

    python benchmarks/pages/make.py OUT --photos FOLDER [--only measuring|training]

The script writes `OUT/training/*.png` and `OUT/measuring/*.png`, lossless RGB. The two sets share no page, font or
photo. Slides, interfaces and pages with photos have different templates in each set; the other kinds have different
styles and colours. Runs with the same Chromium, Matplotlib and packages give the same images, except for single edges
that Chromium draws lighter or darker by 3 or 4 in 255.

Chromium and Graphviz (`apt-get install chromium graphviz`), the extra `bench`, and about 150 MB of Debian packages are
needed. `apt-get download` fetches the packages listed in `packages.py` that are missing. They are unpacked in
`OUT/packages` (or `--packages FOLDER`) and not installed. `make pages PHOTOS=FOLDER` does all of this.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from browser import Browser, Page, View
from chromium import PROGRAMS
from documents import document
from drawings import drawing
from interfaces import interface
from listings import code
from packages import fetch, fonts_conf, program
from PIL import Image
from plots import plot
from sheets import sheet
from shops import mixed
from slides import slide
from sources import Sources
from terminals import terminal

SCALES = (1.0, 1.25, 1.5, 2.0)
# Hinting and subpixel order of text.
RENDERINGS = (("none", "none"), ("slight", "rgb"), ("full", "none"))
MIN_WIDTH, MIN_HEIGHT = 760, 480  # of a window, in CSS pixels; an image may show a part of it
MIN_DIFFERENT = 0.005  # share of the pixels that differ from the most frequent colour; an image with less is blank
TRIES = 8


@dataclass(frozen=True)
class Kind:
    """A kind of images: the function that draws them, and their number in each set."""

    name: str
    draw: Callable[[Sources, View, Random, int], Page | Image.Image]
    counts: dict[str, int]
    full_window: bool = False  # the image always shows the complete window


KINDS = (
    Kind("document", document, {"training": 48, "measuring": 4}),
    Kind("terminal", terminal, {"training": 24, "measuring": 3}, full_window=True),
    Kind("code", code, {"training": 32, "measuring": 3}, full_window=True),
    Kind("plot", plot, {"training": 28, "measuring": 2}, full_window=True),
    Kind("slide", slide, {"training": 24, "measuring": 2}, full_window=True),
    Kind("interface", interface, {"training": 28, "measuring": 3}),
    Kind("icons", sheet, {"training": 20, "measuring": 3}, full_window=True),
    Kind("drawing", drawing, {"training": 16, "measuring": 2}, full_window=True),
    Kind("mixed", mixed, {"training": 20, "measuring": 2}),
)
# Smallest and largest sizes (width, height), in pixels.
SIZES = {"training": ((512, 384), (1024, 768)), "measuring": ((640, 400), (1280, 800))}


def main() -> None:
    parser = argparse.ArgumentParser(description="Render test images of pages and screens.")
    parser.add_argument("out", type=Path, help="folder for the images")
    parser.add_argument("--only", choices=tuple(SIZES), help="one of the sets")
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], help="one of the kinds")
    parser.add_argument("--photos", type=Path, help="folder of photos, for pages with photos")
    parser.add_argument("--packages", type=Path, help="folder of unpacked Debian packages; default: OUT/packages")
    arguments = parser.parse_args()
    program(*PROGRAMS)  # a missing program is reported before the downloads
    program("dot")
    packages = arguments.packages or arguments.out / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    fetch(packages)
    for name in [arguments.only] if arguments.only else SIZES:
        sources = Sources(name, packages, arguments.photos)
        make(sources, [kind for kind in KINDS if arguments.kind in (None, kind.name)], arguments.out / name)


def make(sources: Sources, kinds: list[Kind], out: Path) -> None:
    """Write the images of some kinds of a set, and replace older ones. Each rendering of text needs its own browser."""
    out.mkdir(parents=True, exist_ok=True)
    for file in (file for kind in kinds for file in out.glob(f"{kind.name}-*.png")):
        file.unlink()
    for shift, (hinting, subpixels) in enumerate(RENDERINGS):
        with Browser(fonts_conf(sources.name, sources.folder, subpixels), hinting) as browser:
            for kind in kinds:
                for number in range(shift, kind.counts[sources.name], len(RENDERINGS)):
                    image = draw_image(kind, sources, number, browser)
                    image.save(out / f"{kind.name}-{number:02}.png", optimize=True)
                print(f"{sources.name}: {kind.name} images, part {shift + 1} of {len(RENDERINGS)}")


def draw_image(kind: Kind, sources: Sources, number: int, browser: Browser) -> Image.Image:
    """Return an image; a blank one is replaced by the next attempt."""
    for trial in range(TRIES):
        rng = Random(f"{sources.name} {kind.name} {number} {trial}")
        scale = SCALES[(number + KINDS.index(kind)) % len(SCALES)]
        smallest, largest = SIZES[sources.name]
        # Windows of high resolution get large images.
        width, height = (
            rng.randint(max(low, int(high * scale / 2)), high) for low, high in zip(smallest, largest, strict=True)
        )
        min_width, min_height = (0, 0) if kind.full_window else (MIN_WIDTH, MIN_HEIGHT)
        view = View(max(int(width / scale), min_width), max(int(height / scale), min_height), scale)
        page = kind.draw(sources, view, rng, number + trial * kind.counts[sources.name])
        window = page if isinstance(page, Image.Image) else browser.screenshot(page, view)
        image = random_crop(window, width, height, rng)
        if not is_blank(image):
            return image
    raise SystemExit(f"{kind.name} {number} of {sources.name}: all {TRIES} attempts gave blank images")


def random_crop(image: Image.Image, width: int, height: int, rng: Random) -> Image.Image:
    """Return a crop of at most the given size."""
    width, height = min(width, image.width), min(height, image.height)
    left = rng.choice((0, rng.randrange(image.width - width + 1)))
    top = rng.choice((0, rng.randrange(image.height - height + 1)))
    return image.crop((left, top, left + width, top + height))


def is_blank(image: Image.Image) -> bool:
    """Return whether nearly all pixels have one colour."""
    pixels = np.asarray(image).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return bool(np.unique(pixels, return_counts=True)[1].max() > (1 - MIN_DIFFERENT) * pixels.size)


if __name__ == "__main__":
    main()
