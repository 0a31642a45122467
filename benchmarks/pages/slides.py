"""Slides: large type, bullets, gradients, diagrams. The templates and colours of the sets differ."""

import html
from collections.abc import Callable
from random import Random

from browser import Page, View
from sources import Sources

# Background, text, accent, second accent.
THEMES = {
    "training": (
        ("#ffffff", "#222222", "#1f6feb", "#f2a33a"),
        ("linear-gradient(135deg,#1e3c72,#2a5298)", "#ffffff", "#ffd166", "#7bdff2"),
        ("#101418", "#e8e8e8", "#ff6b6b", "#4ecdc4"),
        ("#f7f3e9", "#3b3024", "#a23e48", "#3e7c59"),
        ("linear-gradient(160deg,#ff9a9e,#fecfef 60%)", "#3a1c32", "#7b2cbf", "#0077b6"),
    ),
    "measuring": (
        ("linear-gradient(120deg,#0f2027,#2c5364)", "#f1f5f9", "#facc15", "#38bdf8"),
        ("#fdfdfb", "#1b1b2f", "#c2185b", "#00897b"),
    ),
}
PAGE = """<style>body {{ margin:0; background:{0}; color:{1}; width:100vw; height:100vh; overflow:hidden;
 box-sizing:border-box; padding:5vh 6vw; display:flex; flex-direction:column }}
h1 {{ font-size:7.5vmin; margin:0 0 4vh; line-height:1.1 }} h2 {{ font-size:4.6vmin; margin:0 0 2vh; color:{2} }}
p, li {{ font-size:3.9vmin; line-height:1.35; margin:0 0 1.6vh }} li::marker {{ color:{2} }}
.row {{ display:flex; gap:4vw; flex:1; align-items:center; min-height:0 }} .row > * {{ flex:1 }}
.box {{ background:{2}; color:#fff; padding:3vh 1.2vw; border-radius:14px; text-align:center; font-size:3vmin;
 box-shadow:0 8px 22px #0005 }} .arrow {{ flex:0 0 5vw; height:1vh; background:{3}; position:relative }}
.arrow::after {{ content:""; position:absolute; right:-1vw; top:-1.5vh; border:2vh solid transparent;
 border-left-color:{3} }}
.big {{ font-size:26vmin; font-weight:bold; color:{2}; line-height:1 }}
.foot {{ font-size:2.2vmin; opacity:.7; margin-top:auto }}
.bar {{ background:linear-gradient(90deg,{2},{3}); height:5vh; margin:1vh 0; border-radius:3px }}
.dot {{ width:4vh; height:4vh; border-radius:50%; background:{3}; border:1vh solid {2}; margin:2vh auto }}
blockquote {{ font-size:5.4vmin; font-style:italic; border-left:1.2vw solid {2}; padding-left:3vw; margin:auto 0 }}
table {{ border-collapse:collapse; font-size:3.4vmin; width:100% }} td, th {{ padding:1.6vh 1.5vw;
 border-bottom:2px solid {3}; text-align:left }} th {{ background:{2}; color:#fff }}
</style>{body}<div class=foot>{foot}</div>"""


def slide(sources: Sources, view: View, rng: Random, number: int) -> Page:
    """Return a slide."""
    templates, themes = TEMPLATES[sources.name], THEMES[sources.name]
    body = templates[number % len(templates)](sources, rng)
    foot = f"{sources.person(rng)} &nbsp; {sources.title(rng, 2)} &nbsp; {rng.randrange(2, 60)}"
    return Page(
        PAGE.format(*themes[(number + number // len(templates)) % len(themes)], body=body, foot=foot),
        sources.fonts_css(rng),
    )


def text(sources: Sources, rng: Random, most: int = 60) -> str:
    return html.escape(sources.sentence(rng, most))


def items(sources: Sources, rng: Random, count: int, most: int = 60) -> str:
    return "<ul>" + "".join(f"<li>{text(sources, rng, most)}</li>" for _ in range(count)) + "</ul>"


def bullets(sources: Sources, rng: Random) -> str:
    return f"<h1>{sources.title(rng)}</h1>{items(sources, rng, rng.randrange(4, 7))}"


def columns(sources: Sources, rng: Random) -> str:
    sides = (f"<div><h2>{sources.title(rng, 2)}</h2>{items(sources, rng, 3, 45)}</div>" for _ in range(2))
    return f"<h1>{sources.title(rng)}</h1><div class=row>{''.join(sides)}</div>"


def flow(sources: Sources, rng: Random) -> str:
    boxes = [f"<div class=box>{sources.title(rng, 2)}</div>" for _ in range(4)]
    drawn = "<div class=arrow></div>".join(boxes)
    return f"<h1>{sources.title(rng)}</h1><p>{text(sources, rng)}</p><div class=row style='gap:1.5vw'>{drawn}</div>"


def figure(sources: Sources, rng: Random) -> str:
    number = f"{rng.randrange(11, 99)}{rng.choice(('%', 'x', 'k', ''))}"
    row = f"<div class=big>{number}</div><p>{text(sources, rng, 120)}</p>"
    return f"<h1>{sources.title(rng)}</h1><div class=row>{row}</div>"


def chart(sources: Sources, rng: Random) -> str:
    rows = (
        f"<p style='margin:0'>{sources.title(rng, 2)}</p><div class=bar style='width:{rng.randrange(20, 100)}%'></div>"
        for _ in range(5)
    )
    return f"<h1>{sources.title(rng)}</h1><div>{''.join(rows)}</div>"


def quote(sources: Sources, rng: Random) -> str:
    return f"<blockquote>{text(sources, rng, 150)}</blockquote><h2>{sources.person(rng)}</h2>"


def timeline(sources: Sources, rng: Random) -> str:
    steps = (
        f"<div style='text-align:center'><h2>{1950 + 9 * year + rng.randrange(9)}</h2><div class=dot></div>"
        f"<p style='font-size:2.8vmin'>{text(sources, rng, 35)}</p></div>"
        for year in range(5)
    )
    return f"<h1>{sources.title(rng)}</h1><div class=row style='gap:1vw'>{''.join(steps)}</div>"


def comparison(sources: Sources, rng: Random) -> str:
    head = "".join(f"<th>{word}</th>" for word in ["", *sources.words(rng, 3)])
    rows = (
        f"<tr><td>{sources.title(rng, 2)}" + "".join(f"<td>{rng.random() * 100:.1f}" for _ in range(3))
        for _ in range(5)
    )
    return f"<h1>{sources.title(rng)}</h1><table><tr>{head}{''.join(rows)}</table>"


TEMPLATES: dict[str, tuple[Callable[[Sources, Random], str], ...]] = {
    "training": (bullets, columns, flow, figure, chart),
    "measuring": (timeline, comparison, quote),
}
