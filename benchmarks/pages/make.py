"""Pictures that are no photos: pages, terminals, code, plots, slides, interfaces, icons, drawings, pages with photos.

    python benchmarks/pages/make.py OUT --photos FOLDER [--only measuring|training]

writes `OUT/training/*.png` and `OUT/measuring/*.png`, lossless RGB. The two sets share no page, no font and no photo;
slides, interfaces and pages with photos have other templates, what else is laid out here other styles and colours. The
same pictures come of every run with the same Chromium, matplotlib and packages, but for an edge now and then that
Chromium draws lighter or darker by 3 or 4 in 255.

Needs Chromium and Graphviz (`apt-get install chromium graphviz`), the extra `bench`, and the Debian packages listed in
`packages.py`, some 150 MB: what is missing of them is fetched by `apt-get download` and unpacked in `OUT/packages` (or
`--packages FOLDER`); nothing is installed. `make pages PHOTOS=FOLDER` does all that.
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
# How letters are fitted to the grid of pixels, and the stripes of a pixel.
RENDERINGS = (("none", "none"), ("slight", "rgb"), ("full", "none"))
NARROWEST, LOWEST = 760, 480  # of a window, in CSS pixels: a picture may show a part of it
BLANK = 0.005  # of the pixels
TRIES = 8


@dataclass(frozen=True)
class Kind:
    """How a kind's pictures are made, and how many of each set."""

    name: str
    draw: Callable[[Sources, View, Random, int], Page | Image.Image]
    counts: dict[str, int]
    whole: bool = False  # never a part of a window


KINDS = (
    Kind("document", document, {"training": 48, "measuring": 4}),
    Kind("terminal", terminal, {"training": 24, "measuring": 3}, whole=True),
    Kind("code", code, {"training": 32, "measuring": 3}, whole=True),
    Kind("plot", plot, {"training": 28, "measuring": 2}, whole=True),
    Kind("slide", slide, {"training": 24, "measuring": 2}, whole=True),
    Kind("interface", interface, {"training": 28, "measuring": 3}),
    Kind("icons", sheet, {"training": 20, "measuring": 3}, whole=True),
    Kind("drawing", drawing, {"training": 16, "measuring": 2}, whole=True),
    Kind("mixed", mixed, {"training": 20, "measuring": 2}),
)
# Least and largest sizes, in pixels.
SIZES = {"training": ((512, 384), (1024, 768)), "measuring": ((640, 400), (1280, 800))}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make pictures that are no photos.")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--only", choices=tuple(SIZES), help="one of the sets")
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], help="one of the kinds")
    parser.add_argument("--photos", type=Path, help="folder of photos, for the pages that have some")
    parser.add_argument("--packages", type=Path, help="folder of unpacked Debian packages; default: OUT/packages")
    arguments = parser.parse_args()
    program(*PROGRAMS)  # missed now, not after minutes
    program("dot")
    packages = arguments.packages or arguments.out / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    fetch(packages)
    for name in [arguments.only] if arguments.only else SIZES:
        sources = Sources(name, packages, arguments.photos)
        make(sources, [kind for kind in KINDS if arguments.kind in (None, kind.name)], arguments.out / name)


def make(sources: Sources, kinds: list[Kind], out: Path) -> None:
    """Write a set's pictures of some kinds, over what was there; each rendering of letters needs its own browser."""
    out.mkdir(parents=True, exist_ok=True)
    for file in (file for kind in kinds for file in out.glob(f"{kind.name}-*.png")):
        file.unlink()
    for shift, (hinting, stripes) in enumerate(RENDERINGS):
        with Browser(fonts_conf(sources.name, sources.folder, stripes), hinting) as browser:
            for kind in kinds:
                for number in range(shift, kind.counts[sources.name], len(RENDERINGS)):
                    picture = drawn(kind, sources, number, browser)
                    picture.save(out / f"{kind.name}-{number:02}.png", optimize=True)
                print(f"{sources.name}: {kind.name} pictures, part {shift + 1} of {len(RENDERINGS)}")


def drawn(kind: Kind, sources: Sources, number: int, browser: Browser) -> Image.Image:
    """Return a picture; another is tried in the place of a blank one."""
    for trial in range(TRIES):
        rng = Random(f"{sources.name} {kind.name} {number} {trial}")
        scale = SCALES[(number + KINDS.index(kind)) % len(SCALES)]
        least, most = SIZES[sources.name]
        # Screens of many pixels show large pictures.
        width, height = (
            rng.randint(max(low, int(high * scale / 2)), high) for low, high in zip(least, most, strict=True)
        )
        narrowest, lowest = (0, 0) if kind.whole else (NARROWEST, LOWEST)
        view = View(max(int(width / scale), narrowest), max(int(height / scale), lowest), scale)
        page = kind.draw(sources, view, rng, number + trial * kind.counts[sources.name])
        shown = page if isinstance(page, Image.Image) else browser.shot(page, view)
        picture = part(shown, width, height, rng)
        if not blank(picture):
            return picture
    raise SystemExit(f"{kind.name} {number} of {sources.name}: nothing but blank pictures")


def part(picture: Image.Image, width: int, height: int, rng: Random) -> Image.Image:
    """Return a part of the given size, or smaller if the picture is."""
    width, height = min(width, picture.width), min(height, picture.height)
    left = rng.choice((0, rng.randrange(picture.width - width + 1)))
    top = rng.choice((0, rng.randrange(picture.height - height + 1)))
    return picture.crop((left, top, left + width, top + height))


def blank(picture: Image.Image) -> bool:
    """Return whether nearly all pixels have one colour."""
    pixels = np.asarray(picture).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return bool(np.unique(pixels, return_counts=True)[1].max() > (1 - BLANK) * pixels.size)


if __name__ == "__main__":
    main()
