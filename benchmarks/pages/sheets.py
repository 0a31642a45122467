"""Sheets of icons and flags of open icon sets."""

from itertools import cycle, islice
from random import Random

from browser import Page, View
from sources import Sources

GROUNDS = (
    "#ffffff",
    "#f4f4f4",
    "#1d1f21",
    "linear-gradient(135deg,#89f7fe,#66a6ff)",
    "#3a6ea5",
    "linear-gradient(#fdfbfb,#ebedee)",
    "repeating-conic-gradient(#ddd 0 25%,#fff 0 50%) 0 0/24px 24px",
)
PAGE = """<style>body {{ margin:0; padding:14px; background:{ground}; min-height:96vh; display:flex; flex-wrap:wrap;
 gap:{gap}px; align-content:flex-start }} div {{ width:{cell}px; text-align:center; font-size:11px; color:{ink};
 overflow:hidden; white-space:nowrap; text-overflow:ellipsis }}
img {{ width:{size}px; height:{size}px; object-fit:contain }}
</style>{icons}"""


def sheet(sources: Sources, view: View, rng: Random, number: int) -> Page:
    """Return a sheet of icons of one set, in one size, with or without their names."""
    size = rng.choice((24, 32, 48, 48, 64, 96, 160))
    cell, gap = max(size, 72), rng.choice((6, 10, 16))
    icons = sources.files("icons")[number % len(sources.files("icons"))]
    count = (view.width // (cell + gap) + 1) * (view.height // (size + gap) + 1)
    captions = rng.random() < 0.6
    ground = GROUNDS[number % len(GROUNDS)]
    cells = (
        f"<div><img src='{path.resolve().as_uri()}' decoding=sync>{'<br>' + path.stem if captions else ''}</div>"
        for path in islice(cycle(rng.sample(icons, len(icons))), count)
    )
    ink = "#eee" if ground in ("#1d1f21", "#3a6ea5") else "#222"
    page = PAGE.format(ground=ground, gap=gap, cell=cell, size=size, ink=ink, icons="".join(cells))
    return Page(page, sources.fonts_css(rng))
