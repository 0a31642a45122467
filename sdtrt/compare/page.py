"""Reports: comparisons as a self-contained HTML file, and as a contact sheet."""

import base64
import html
import io
from collections.abc import Sequence
from importlib import resources
from string import Template

import PIL
from PIL import Image, ImageDraw, ImageFont

from sdtrt._arrays import U8Array
from sdtrt._version import __version__
from sdtrt.compare.comparison import OURS, Comparison

COLOURS = {OURS: "#d1410c", "JPEG": "#7a7a7a", "WebP": "#2e8b57", "AVIF": "#3a6fd8"}
PLOT_WIDTH, PLOT_HEIGHT, MARGIN = 420, 260, 44
RATE_TICKS = (0.05, 0.1, 0.2, 0.25)  # bits per pixel between ticks; the smallest with at most seven ticks is used
PANEL, GAP, LABEL = 512, 8, 26  # sizes in the contact sheet, in pixels


def page(comparisons: Sequence[Comparison]) -> str:
    """Return an HTML document. It contains all images and needs no network."""
    template = Template(resources.files("sdtrt.compare").joinpath("page.html").read_text("utf-8"))
    title = comparisons[0].name if len(comparisons) == 1 else f"{len(comparisons)} images"
    return template.substitute(
        title=f"sdtrt compare: {html.escape(title)}",
        sections="\n".join(_section(comparison, number) for number, comparison in enumerate(comparisons)),
        version=__version__,
        pillow=PIL.__version__,
    )


def _section(comparison: Comparison, number: int) -> str:
    height, width = comparison.pixels.shape[:2]
    name = html.escape(comparison.name)
    is_whole = (width, height) == (comparison.width, comparison.height)
    part = "" if is_whole else f"; compared is the middle, {width}x{height}"
    sources = {result.codec: _data_uri(result.pixels) for result in comparison.results}
    choices = "".join(
        f'<label><input type="radio" class="codec" name="codec{number}" value="{codec}"> {codec}</label>'
        for codec in sources
    ).replace(f'value="{OURS}"', f'value="{OURS}" checked')
    hidden = "".join(f'<template data-codec="{codec}" data-src="{uri}"></template>' for codec, uri in sources.items())
    return f"""<section>
<h2>{name} ({comparison.width}x{comparison.height}{part})</h2>
<div class="view" style="--width: {width}"><div class="stage"><div class="pair">
<img class="original" alt="original" src="{_data_uri(comparison.pixels)}">
<img class="other" alt="{OURS}" src="{sources[OURS]}">
</div></div>
<input class="split" type="range" min="0" max="100" step="0.1" value="50" aria-label="line between the images"></div>
<div class="controls">{choices}
<label>zoom <select class="zoom"><option value="0">fit</option><option>1</option><option>2</option><option>4</option>
</select></label>
<label><input type="checkbox" class="difference-on"> difference, four times</label></div>
<div class="figures">{_table(comparison)}{_gain(comparison)}{_plot(comparison)}</div>
{hidden}
</section>"""


def _table(comparison: Comparison) -> str:
    rows = [_cells("th", "codec", "bytes", "bits/pixel", "PSNR dB", "SSIM")]
    for r in comparison.results:
        figures = f"{r.nbytes:,}", f"{r.bits_per_pixel:.3f}", f"{r.psnr:.2f}", f"{r.ssim:.4f}"
        rows.append(_cells("td", r.codec, *figures))
    marked = [f'<tr class="ours">{row}</tr>' if f">{OURS}<" in row else f"<tr>{row}</tr>" for row in rows]
    return f"<table>{''.join(marked)}</table>"


def _gain(comparison: Comparison) -> str:
    gain = comparison.roi
    if gain is None:
        return ""
    rest = [("-" if figure is None else f"{figure:.2f}") for figure in (gain.rest_with, gain.rest_without)]
    rows = (
        _cells("th", f"PSNR dB, weight {gain.weight:g}", "region", "rest"),
        _cells("td", "with region of interest", f"{gain.region_with:.2f}", rest[0]),
        _cells("td", "without, at most as many bytes", f"{gain.region_without:.2f}", rest[1]),
    )
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _cells(tag: str, *texts: str) -> str:
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts)


def _plot(comparison: Comparison) -> str:
    """Return an SVG plot of PSNR against bits per pixel, up to 1.5 bits per pixel."""
    points = [point for curve in comparison.curves.values() for point in curve]
    right = max(0.2, min(max(rate for rate, _ in points), 1.5))
    inside = [psnr for rate, psnr in points if rate <= right and psnr < 99]
    bottom, top = (min(inside, default=20) // 2 * 2, max(inside, default=40) // 2 * 2 + 2)

    def place(rate: float, psnr: float) -> tuple[float, float]:
        x = MARGIN + (PLOT_WIDTH - MARGIN - 60) * rate / right
        y = PLOT_HEIGHT - MARGIN + (MARGIN + 10 - PLOT_HEIGHT) * (psnr - bottom) / (top - bottom)
        return round(x, 1), round(y, 1)

    parts, names = [], []
    for tick in range(int(bottom), int(top) + 1, 2 if top - bottom <= 16 else 4):
        (x0, y), (x1, _) = place(0, tick), place(right, tick)
        parts.append(
            f'<path class="grid" d="M{x0} {y}H{x1}"/><text x="{x0 - 6}" y="{y + 4}" text-anchor="end">{tick}</text>'
        )
    spacing = next(spacing for spacing in RATE_TICKS if right <= 6 * spacing)
    for rate in (n * spacing for n in range(int(right / spacing) + 1)):
        x, y = place(rate, bottom)
        parts.append(f'<text x="{x}" y="{y + 16}" text-anchor="middle">{rate:.2g}</text>')
    for codec, curve in comparison.curves.items():
        visible = [place(*point) for point in sorted(curve) if point[0] <= right and bottom <= point[1] <= top]
        if visible:
            line = " ".join(f"{x},{y}" for x, y in visible)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[codec]}" stroke-width="2"/>')
            parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{COLOURS[codec]}"/>' for x, y in visible]
            x, y = visible[-1]
            names.append(f'<text class="name" x="{x + 6}" y="{y + 4}" style="fill: {COLOURS[codec]}">{codec}</text>')
    middle = (MARGIN + PLOT_WIDTH - 60) / 2
    parts.append(
        f'<text x="{middle}" y="{PLOT_HEIGHT - 8}" text-anchor="middle">PSNR in dB against bits per pixel</text>'
    )
    return (
        f'<svg viewBox="0 0 {PLOT_WIDTH} {PLOT_HEIGHT}" width="{PLOT_WIDTH}" role="img" '
        f'aria-label="PSNR against bits per pixel">{"".join(parts + names)}</svg>'
    )


def _data_uri(pixels: U8Array) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def contact_sheet(comparisons: Sequence[Comparison]) -> Image.Image:
    """Return an image with a row for each comparison: the middle of the original, then of each codec's result."""
    return stack_images([_row(comparison) for comparison in comparisons])


def stack_images(images: Sequence[Image.Image]) -> Image.Image:
    """Return one RGB image: the images below each other, on white."""
    sheet = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), "white")
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


def _row(comparison: Comparison) -> Image.Image:
    panels = {"original": comparison.pixels}
    panels |= {f"{r.codec}  {r.nbytes} bytes  {r.psnr:.2f} dB": r.pixels for r in comparison.results}
    height, width = (min(side, PANEL) for side in comparison.pixels.shape[:2])
    column = max(width, PANEL // 2)
    row = Image.new("RGB", (len(panels) * (column + GAP) + GAP, LABEL + height + GAP), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(16)
    for number, (label, pixels) in enumerate(panels.items()):
        x = GAP + number * (column + GAP)
        draw.text((x, 3), label, "black", font)
        top, left = ((side - size) // 2 for side, size in zip(pixels.shape[:2], (height, width), strict=True))
        row.paste(Image.fromarray(pixels[top : top + height, left : left + width]), (x, LABEL))
    return row
