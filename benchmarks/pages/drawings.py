"""Line drawings: diagrams of documentation, graphs by Graphviz, maps of Natural Earth."""

import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

from browser import Page, View
from packages import MAPS, program
from sources import Sources

COUNTRIES = "usr/lib/python3/dist-packages/geopandas/datasets/naturalearth_lowres/naturalearth_lowres.shp"
POLYGON = 5
# West, south, east and north of the regions of each set, in degrees.
REGIONS = {
    "training": ((-130, 10, -60, 55), (-85, -55, -33, 12), (92, -45, 155, 10), (-12, 35, 40, 60)),
    "measuring": ((-18, -35, 52, 34), (40, 5, 92, 42)),
}
LOOKS = (("#aad3df", "#f2efe9", "#7a6a5c"), ("#ffffff", "none", "#222222"), ("#1b2838", "#31465c", "#8fb7d8"))
PAGE = "<body style='margin:0;background:{ground}'>{body}"

SIZE = re.compile(r"""\bwidth=["']([\d.]+).*?\bheight=["']([\d.]+)""", re.DOTALL)

Ring = list[tuple[float, float]]


def drawing(sources: Sources, view: View, rng: Random, number: int) -> Page:
    """Return a drawing: a map, or a diagram or graph of a package."""
    draw = DRAWS[number % len(DRAWS)]
    return Page(draw(sources, view, rng, number // len(DRAWS)), sources.fonts_css(rng))


def diagram(sources: Sources, view: View, rng: Random, number: int) -> str:
    """Return an SVG image of a package on white, or a graph drawn by Graphviz."""
    path = sources.file("drawings", number)
    svg = path.read_text("utf-8", errors="replace") if path.suffix == ".svg" else graph(path.read_bytes(), sources, rng)
    return PAGE.format(ground="#fff", body=filling(svg))


def filling(svg: str) -> str:
    """Return an SVG image that fills the window; a viewBox is added, without which an image keeps its size."""
    svg = svg[svg.index("<svg") :]
    root = svg[: svg.index(">")]
    size = SIZE.search(root)
    box = f'viewBox="0 0 {size[1]} {size[2]}"' if size and "viewBox" not in root else ""
    return f"<style>svg {{ width:100vw; height:100vh }}</style><svg {box}{svg[4:]}"


def graph(source: bytes, sources: Sources, rng: Random) -> str:
    font = sources.text_font(rng)
    fonts = [f"-{of}fontname={font}" for of in "GNE"]
    return subprocess.run(
        [program("dot"), "-Tsvg", *fonts], input=source, capture_output=True, check=True
    ).stdout.decode()


def network(sources: Sources, view: View, rng: Random, number: int) -> str:
    """Return a graph of random words."""
    names = sources.words(rng, 18)
    shape = rng.choice(("box", "ellipse", "record", "hexagon"))
    nodes = [f'"{name}" [shape={shape} style=filled fillcolor="{rng.random():.2f} 0.3 0.95"]' for name in names]
    edges = [f'"{rng.choice(names)}" -> "{rng.choice(names)}" [label={rng.choice(names)}]' for _ in range(24)]
    layout = rng.choice(("LR", "TB"))
    svg = graph(f"digraph {{ rankdir={layout} {' '.join(nodes + edges)} }}".encode(), sources, rng)
    return PAGE.format(ground="#fff", body=filling(svg))


def map_(sources: Sources, view: View, rng: Random, number: int) -> str:
    """Return a map of a part of the world with words at random places."""
    west, south, east, north = REGIONS[sources.name][number % len(REGIONS[sources.name])]
    zoom = max(view.width / (east - west), view.height / (north - south)) * rng.uniform(1, 1.8)
    left = west + rng.random() * (east - west - view.width / zoom)
    top = north - rng.random() * (north - south - view.height / zoom)
    sea, land, line = LOOKS[number % len(LOOKS)]
    path = "".join(outline([((x - left) * zoom, (top - y) * zoom) for x, y in ring]) for ring in rings(sources.folder))
    grid = "".join(f"M{x} 0V{view.height}" for x in range(0, view.width, 90))
    grid += "".join(f"M0 {y}H{view.width}" for y in range(0, view.height, 90))
    places = "".join(
        f"<circle cx={x} cy={y} r=2.5 fill='{line}' /><text x={x + 5} y={y + 4}>{sources.title(rng, 1)}</text>"
        for x, y in ((rng.randrange(view.width), rng.randrange(view.height)) for _ in range(40))
    )
    drawn = f"<path d='{path}' fill='{land}' stroke='{line}' /><path d='{grid}' stroke='{line}' opacity=.3 />"
    svg = f"<svg width={view.width} height={view.height} font-size=12 fill='{line}'>{drawn}{places}</svg>"
    return PAGE.format(ground=sea, body=svg)


def outline(ring: Ring) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ring) + "Z"


@cache
def rings(folder: Path) -> list[Ring]:
    """Return the outlines of all countries."""
    data = (folder / MAPS / COUNTRIES).read_bytes()
    return list(shapefile_rings(data))


def shapefile_rings(data: bytes) -> Iterator[Ring]:
    """Yield the rings of a shapefile of polygons. Records of kind, box, counts, starts and points follow 100 bytes."""
    position = 100
    while position < len(data):
        length = 2 * int.from_bytes(data[position + 4 : position + 8], "big")
        kind, *_, parts, points = struct.unpack_from("<i4dii", data, position + 8)
        if kind == POLYGON:
            starts = [*struct.unpack_from(f"<{parts}i", data, position + 52), points]
            places = list(struct.iter_unpack("<dd", data[position + 52 + 4 * parts :][: 16 * points]))
            yield from (places[first:last] for first, last in pairwise(starts))
        position += 8 + length


DRAWS: tuple[Callable[[Sources, View, Random, int], str], ...] = (diagram, map_, network)
