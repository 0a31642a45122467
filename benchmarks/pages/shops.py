"""Mixed pages: text with photos as thumbnails and banners. The templates of the sets differ."""

import html
from collections.abc import Callable, Iterator
from random import Random

from browser import Page, View
from sources import Sources

PAGE = """<style>body {{ margin:0; background:{ground}; color:{ink}; font-size:14px; line-height:1.45 }}
img {{ object-fit:cover; display:block; width:100% }} h1 {{ font-size:26px; line-height:1.15; margin:8px 0 }}
h2 {{ font-size:16px; margin:6px 0 }} .top {{ background:{accent}; color:#fff; padding:12px 22px; display:flex;
 gap:24px }}
.grid {{ display:grid; gap:16px; padding:18px; grid-template-columns:repeat(auto-fill,minmax(190px,1fr)) }}
.card {{ border:1px solid #8884; border-radius:8px; overflow:hidden; box-shadow:0 2px 6px #0003; background:#8881 }}
.card div {{ padding:8px 12px }} .price {{ color:{accent}; font-size:20px; font-weight:bold }}
.buy {{ background:{accent}; color:#fff; border-radius:4px; padding:5px 12px; display:inline-block }}
.text {{ max-width:820px; margin:0 auto; padding:14px 24px; columns:{columns} }}
.line {{ display:flex; gap:14px; padding:10px 20px; border-bottom:1px solid #8884 }}
.dim {{ opacity:.65; font-size:12px }}
</style>{body}"""
COLOURS = {
    "training": (
        ("#ffffff", "#1a1a1a", "#b12704"),
        ("#fafaf7", "#222222", "#2a6f4e"),
        ("#17181c", "#e4e4e4", "#5c7cfa"),
    ),
    "measuring": (("#fffefa", "#20242a", "#6a1b9a"), ("#202225", "#dcddde", "#0097a7")),
}


def mixed(sources: Sources, view: View, rng: Random, number: int) -> Page:
    """Return a page of text with photos in it."""
    templates, colours = TEMPLATES[sources.name], COLOURS[sources.name]
    ground, ink, accent = colours[(number + number // len(templates)) % len(colours)]
    photos = images(sources, number)
    body = templates[number % len(templates)](sources, rng, photos)
    page = PAGE.format(ground=ground, ink=ink, accent=accent, columns=rng.choice((1, 2)), body=body)
    return Page(page, sources.fonts_css(rng), rng.choice((0.0, 0.0, 0.5)))


def images(sources: Sources, number: int) -> Iterator[str]:
    """Yield the addresses of the set's photos, from a position that depends on the number of the page."""
    photos = sources.photos()
    Random(sources.name).shuffle(photos)
    start = 24 * number
    while True:
        yield photos[start % len(photos)].resolve().as_uri()
        start += 1


def image(photos: Iterator[str], height: int, style: str = "") -> str:
    return f"<img src='{next(photos)}' decoding=sync style='height:{height}px;{style}'>"


def text(sources: Sources, rng: Random, most: int) -> str:
    return html.escape(sources.sentence(rng, most))


def top(sources: Sources, rng: Random) -> str:
    names = "".join(f"<span>{sources.title(rng, 1)}</span>" for _ in range(5))
    return f"<div class=top><b>{sources.title(rng, 1)}</b>{names}</div>"


def shop(sources: Sources, rng: Random, photos: Iterator[str]) -> str:
    cards = (
        f"<div class=card>{image(photos, 150)}<div><h2>{sources.title(rng)}</h2>"
        f"<span class=dim>{text(sources, rng, 60)}</span><br>"
        f"<span class=price>{rng.randrange(3, 400)}.{rng.randrange(100):02}</span> "
        "<span class=buy>Buy</span></div></div>"
        for _ in range(16)
    )
    return f"{top(sources, rng)}<div class=grid>{''.join(cards)}</div>"


def article(sources: Sources, rng: Random, photos: Iterator[str]) -> str:
    parts = "".join(
        f"<p>{text(sources, rng, 500)}</p>" + (image(photos, rng.randrange(120, 320)) if index % 4 == 1 else "")
        for index in range(16)
    )
    return f"{image(photos, 240)}<div class=text><h1>{sources.title(rng, 6)}</h1>{parts}</div>"


def feed(sources: Sources, rng: Random, photos: Iterator[str]) -> str:
    lines = (
        f"<div class=line>{image(photos, 48, 'width:48px;border-radius:50%;flex:none')}"
        f"<div><b>{sources.person(rng)}</b> <span class=dim>{rng.randrange(2, 59)} min</span>"
        f"<br>{text(sources, rng, 200)}"
        + (image(photos, 180, "border-radius:10px;width:320px;margin-top:8px") if rng.random() < 0.5 else "")
        + "</div></div>"
        for _ in range(12)
    )
    return f"{top(sources, rng)}<div style='max-width:720px;margin:auto'>{''.join(lines)}</div>"


def results(sources: Sources, rng: Random, photos: Iterator[str]) -> str:
    lines = (
        f"<div class=line>{image(photos, 110, 'width:160px;flex:none')}"
        f"<div><h2 style='color:#3a7bd5'>{sources.title(rng, 4)}</h2>"
        f"<span class=dim>{'/'.join(sources.words(rng, 3))}</span><br>{text(sources, rng, 220)}</div></div>"
        for _ in range(10)
    )
    return f"{top(sources, rng)}{''.join(lines)}"


def news(sources: Sources, rng: Random, photos: Iterator[str]) -> str:
    cards = "".join(
        f"<div>{image(photos, 120)}<h2>{sources.title(rng, 5)}</h2>{text(sources, rng, 160)}</div>" for _ in range(9)
    )
    headline = f"<h1>{sources.title(rng, 5)}</h1>{text(sources, rng, 300)}"
    lead = f"<div style='grid-column:span 2'>{image(photos, 280)}{headline}</div>"
    return f"{top(sources, rng)}<div class=grid>{lead}{cards}</div>"


TEMPLATES: dict[str, tuple[Callable[[Sources, Random, Iterator[str]], str], ...]] = {
    "training": (shop, article, feed),
    "measuring": (results, news),
}
