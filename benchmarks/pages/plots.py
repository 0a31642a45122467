"""Plots by Matplotlib: lines, bars, points, heat maps, contours and others."""

import io
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from browser import View
from matplotlib import font_manager
from matplotlib.figure import Figure
from packages import TEXT_FONTS
from PIL import Image
from sources import Sources

STYLES = {
    "training": ("default", "ggplot", "seaborn-v0_8-whitegrid", "dark_background", "bmh", "Solarize_Light2", "classic"),
    "measuring": ("fivethirtyeight", "seaborn-v0_8-darkgrid", "tableau-colorblind10"),
}
MAPS = {
    "training": ("viridis", "plasma", "coolwarm", "terrain", "jet", "Greys", "hot"),
    "measuring": ("magma", "RdYlBu", "turbo", "Blues"),
}
GRIDS = ((1, 1), (1, 1), (1, 2), (2, 2))  # rows and columns
MIN_WIDTH, MIN_HEIGHT = 300, 220  # of one plot, in CSS pixels
Draw = Callable[[Any, Sources, Random, np.random.Generator], None]


def plot(sources: Sources, view: View, rng: Random, number: int) -> Image.Image:
    """Return a figure of one to four plots."""
    register_fonts(sources)
    family = sources.text_font(rng)
    settings: Any = {
        "font.family": family,
        "mathtext.fontset": "custom",
        "mathtext.rm": family,
        "axes.unicode_minus": False,
        "font.size": min(10, view.width / 64, view.height / 44),
    }
    style = STYLES[sources.name][number % len(STYLES[sources.name])]
    with mpl.style.context(style), mpl.rc_context(settings):
        figure = Figure(figsize=(view.width / 100, view.height / 100), dpi=100 * view.scale, layout="constrained")
        fitting = [grid for grid in GRIDS if view.width > MIN_WIDTH * grid[1] and view.height > MIN_HEIGHT * grid[0]]
        rows, columns = rng.choice(fitting)
        for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            DRAWS[(number + index) % len(DRAWS)](axes, sources, rng, np.random.default_rng(rng.randrange(1 << 32)))
            axes.set_title(sources.title(rng))
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi="figure")
    return Image.open(file).convert("RGB")


@cache
def register_fonts(sources: Sources) -> None:
    """Register the fonts of the set with Matplotlib, in place of other fonts of the same names."""
    fonts = font_manager.fontManager
    fonts.ttflist = [font for font in fonts.ttflist if font.name not in TEXT_FONTS[sources.name]]
    for package in sorted(set(TEXT_FONTS[sources.name].values())):
        for file in sorted((sources.folder / package).rglob("*.[ot]tf")):
            fonts.addfont(file)


def label(axes: Any, sources: Sources, rng: Random) -> None:
    axes.set_xlabel(sources.title(rng, 2))
    axes.set_ylabel(sources.title(rng, 1))


def lines(axes: Any, sources: Sources, rng: Random, numbers: np.random.Generator) -> None:
    x = np.linspace(0, 10, 60)
    for marker in rng.sample(("", "", "o", "s", "^"), rng.randrange(2, 5)):
        y = np.cumsum(numbers.normal(size=60)) + 10 * numbers.random()
        axes.plot(
            x, y, marker=marker, markevery=5, linestyle=rng.choice(("-", "--", "-.")), label=sources.words(rng, 1)[0]
        )
    axes.legend()
    axes.grid(rng.random() < 0.5)
    label(axes, sources, rng)


def bars(axes: Any, sources: Sources, rng: Random, numbers: np.random.Generator) -> None:
    names = sources.words(rng, 6)
    for group in range(groups := rng.randrange(1, 4)):
        heights = numbers.random(6) * 80 + 10
        drawn = axes.bar(np.arange(6) + 0.8 * group / groups, heights, 0.8 / groups, label=sources.words(rng, 1)[0])
        axes.bar_label(drawn, fmt="%.0f", fontsize=7)
    axes.set_xticks(np.arange(6), names, rotation=30)
    axes.legend()


def points(axes: Any, sources: Sources, rng: Random, numbers: np.random.Generator) -> None:
    for _ in range(3):
        x, y = numbers.normal(3 * numbers.random(2)[:, None], 0.5, (2, 60))
        axes.scatter(x, y, s=60 * numbers.random(60), alpha=0.7, label=sources.words(rng, 1)[0])
    axes.legend()
    label(axes, sources, rng)


def heat(axes: Any, sources: Sources, rng: Random, numbers: np.random.Generator) -> None:
    values = numbers.random((8, 8))
    drawn = axes.imshow(values, cmap=rng.choice(MAPS[sources.name]), aspect="auto")
    axes.figure.colorbar(drawn, ax=axes)
    if rng.random() < 0.5:
        for y, x in np.ndindex(8, 8):
            axes.text(x, y, f"{values[y, x]:.1f}", ha="center", va="center", fontsize=7, color="grey")
    axes.set_xticks(range(8), sources.words(rng, 8), rotation=60)
    axes.set_yticks(range(8), sources.words(rng, 8))


def contours(axes: Any, sources: Sources, rng: Random, numbers: np.random.Generator) -> None:
    y, x = np.mgrid[-3:3:80j, -3:3:80j]
    centres = numbers.uniform(-2, 2, (5, 2))
    z = sum(np.exp(-((x - cx) ** 2) - (y - cy) ** 2) * numbers.normal() for cx, cy in centres)
    cmap = rng.choice(MAPS[sources.name])
    if rng.random() < 0.6:
        axes.figure.colorbar(axes.contourf(x, y, z, 12, cmap=cmap), ax=axes)
    drawn = axes.contour(x, y, z, 10, cmap=cmap)
    axes.clabel(drawn, fontsize=7)
    label(axes, sources, rng)


def histogram(axes: Any, sources: Sources, rng: Random, numbers: np.random.Generator) -> None:
    for _ in range(2):
        axes.hist(numbers.normal(numbers.normal(), 1, 500), 30, alpha=0.6, label=sources.words(rng, 1)[0])
    axes.legend()
    label(axes, sources, rng)


def areas(axes: Any, sources: Sources, rng: Random, numbers: np.random.Generator) -> None:
    axes.stackplot(np.arange(40), np.abs(np.cumsum(numbers.normal(size=(4, 40)), 1)) + 1, labels=sources.words(rng, 4))
    axes.legend(loc="upper left")
    label(axes, sources, rng)


def shares(axes: Any, sources: Sources, rng: Random, numbers: np.random.Generator) -> None:
    axes.pie(numbers.random(6) + 0.2, labels=sources.words(rng, 6), autopct="%.0f%%")


def boxes(axes: Any, sources: Sources, rng: Random, numbers: np.random.Generator) -> None:
    axes.boxplot(numbers.normal(numbers.normal(size=6), 1, (80, 6)), notch=rng.random() < 0.5)
    axes.set_xticks(range(1, 7), sources.words(rng, 6))
    axes.errorbar(range(1, 7), numbers.normal(size=6), numbers.random(6), fmt="o", capsize=4)


DRAWS: tuple[Draw, ...] = (lines, heat, bars, contours, points, histogram, areas, shares, boxes)
