"""User interfaces: forms, tables, dashboards and others. The templates and colours of the sets differ."""

import html
from collections.abc import Callable
from random import Random

from browser import Page, View
from sources import Sources

# Background, surface, text, line, accent.
THEMES = {
    "training": (
        ("#f0f2f5", "#ffffff", "#1c1e21", "#d8dbe0", "#1877f2"),
        ("#1e1f22", "#2b2d30", "#dfe1e5", "#43454a", "#4a88c7"),
        ("#eceff1", "#fafafa", "#263238", "#cfd8dc", "#00897b"),
        ("#d4d0c8", "#ece9e2", "#000000", "#9a968c", "#0a246a"),
        ("#f6f5f4", "#ffffff", "#2e3436", "#cdc7c2", "#3584e4"),
    ),
    "measuring": (
        ("#0d1117", "#161b22", "#c9d1d9", "#30363d", "#238636"),
        ("#f3e9f7", "#fffdfd", "#33202f", "#e0c9de", "#9c27b0"),
        ("#e8e8e8", "#fbfbfb", "#222222", "#c4c4c4", "#d9480f"),
    ),
}
PAGE = """<style>body {{ margin:0; background:{0}; color:{2}; font-size:14px; min-height:100vh }}
* {{ box-sizing:border-box }} h1 {{ font-size:22px; margin:0 0 12px }} h2 {{ font-size:16px; margin:0 0 10px }}
.top {{ background:linear-gradient({4},color-mix(in srgb,{4},#000 18%)); color:#fff; padding:12px 20px; display:flex;
 gap:22px; align-items:center; box-shadow:0 2px 6px #0004 }}
.main {{ padding:20px; display:flex; gap:18px; flex-wrap:wrap }}
.card {{ background:{1}; border:1px solid {3}; border-radius:8px; padding:16px; box-shadow:0 2px 8px #0002;
 flex:1 1 220px }}
.side {{ width:200px; border-right:1px solid {3}; padding:12px; line-height:2.2; background:{1}; min-height:100vh;
 flex:none }}
input, select, textarea {{ width:100%; padding:7px 9px; border:1px solid {3}; border-radius:4px; background:{1};
 color:{2}; font-size:14px; margin:3px 0 11px }}
input[type=checkbox], input[type=radio] {{ width:auto; accent-color:{4} }}
input[type=range] {{ accent-color:{4}; padding:0 }} label {{ font-size:13px; opacity:.8 }}
button {{ background:linear-gradient(color-mix(in srgb,{4},#fff 14%),{4}); color:#fff; border:1px solid #0003;
 font-size:14px; border-radius:5px; padding:7px 16px; box-shadow:0 1px 3px #0004; margin:3px }}
button.quiet {{ background:{1}; color:{2} }}
table {{ border-collapse:collapse; width:100%; font-size:13px }} td, th {{ padding:6px 9px; border-bottom:1px solid {3};
 text-align:left }} th {{ background:{3}66 }} tr:nth-child(even) td {{ background:{3}33 }} .num {{ font-size:32px;
 color:{4} }}
.pill {{ border-radius:10px; padding:1px 9px; color:#fff; font-size:12px }} .dim {{ opacity:.65; font-size:12px }}
.bar {{ height:8px; border-radius:4px; background:{3}; overflow:hidden; margin:6px 0 }} .bar div {{ height:8px;
 background:{4} }}
.round {{ width:36px; height:36px; border-radius:50%; flex:none }} .line {{ display:flex; gap:10px; align-items:center;
 padding:8px 0; border-bottom:1px solid {3} }} .switch {{ width:38px; height:20px; border-radius:10px; background:{3};
 padding:2px; margin-left:auto; flex:none }} .switch div {{ width:16px; height:16px; border-radius:8px; background:#fff;
 box-shadow:0 1px 2px #0006 }} .on {{ background:{4} }} .on div {{ margin-left:18px }}
.say {{ border-radius:14px; padding:8px 14px; margin:5px 0; max-width:70%; width:fit-content;
 background:{3} }} .mine {{ background:{4};
 color:#fff; margin-left:auto }} .days {{ display:grid; grid-template-columns:repeat(7,1fr); flex:1 }} .days > div {{
 border:1px solid {3}; min-height:84px; padding:4px; background:{1}; font-size:12px; overflow:hidden }}
.event {{ color:#fff; border-radius:3px; padding:1px 4px; margin:2px 0; font-size:11px; white-space:nowrap;
 overflow:hidden }}
</style>{body}"""


def interface(sources: Sources, view: View, rng: Random, number: int) -> Page:
    """Return a window of an application."""
    templates, themes = TEMPLATES[sources.name], THEMES[sources.name]
    body = templates[number % len(templates)](sources, rng)
    theme = themes[(number + number // len(templates)) % len(themes)]
    return Page(PAGE.format(*theme, body=body), sources.fonts_css(rng))


def colour(rng: Random) -> str:
    return f"hsl({rng.randrange(360)},{rng.randrange(45, 80)}%,{rng.randrange(35, 55)}%)"


def top(sources: Sources, rng: Random) -> str:
    names = "".join(f"<span>{word.capitalize()}</span>" for word in sources.words(rng, 4))
    return f"<div class=top><b>{sources.title(rng, 1)}</b>{names}</div>"


def side(sources: Sources, rng: Random) -> str:
    return f"<div class=side>{'<br>'.join(sources.title(rng, rng.choice((1, 2))) for _ in range(20))}</div>"


def text(sources: Sources, rng: Random, most: int) -> str:
    return html.escape(sources.sentence(rng, most))


def form(sources: Sources, rng: Random) -> str:
    fields = "".join(
        f"<label>{sources.title(rng, 2)}</label>"
        + rng.choice((f"<input value='{word}'>", f"<select><option>{word}</select>"))
        for word in sources.words(rng, 5)
    )
    checks = "".join(
        f"<div><input type={kind} {rng.choice(('', 'checked'))}> {text(sources, rng, 40)}</div>"
        for kind in ("checkbox", "checkbox", "radio", "radio")
    )
    note = f"<textarea rows=4>{text(sources, rng, 200)}</textarea>"
    buttons = f"<button>{sources.title(rng, 1)}</button><button class=quiet>{sources.title(rng, 1)}</button>"
    cards = (
        f"<div class=card><h1>{sources.title(rng)}</h1>{fields}</div><div class=card>{checks}<br>{note}{buttons}</div>"
    )
    return f"{top(sources, rng)}<div class=main>{cards}</div>"


def table(sources: Sources, rng: Random) -> str:
    head = "".join(f"<th>{sources.title(rng, 1)}" for _ in range(6))
    rows = "".join(
        f"<tr><td><input type=checkbox style='margin:0' {rng.choice(('', 'checked'))}><td>{sources.person(rng)}"
        f"<td>{text(sources, rng, 30)}<td>{rng.random() * 1000:,.2f}<td>{rng.randrange(1, 29)}.{rng.randrange(1, 13)}."
        f"<td><span class=pill style='background:{colour(rng)}'>{sources.words(rng, 1)[0]}</span>"
        for _ in range(24)
    )
    tools = f"<button>{sources.title(rng, 1)}</button><button class=quiet>{sources.title(rng, 1)}</button>"
    return f"{top(sources, rng)}<div class=main><div class=card>{tools}<table><tr>{head}{rows}</table></div></div>"


def dashboard(sources: Sources, rng: Random) -> str:
    cards = "".join(
        f"<div class=card><span class=dim>{sources.title(rng, 2)}</span>"
        f"<div class=num>{rng.randrange(10, 9999):,}</div>"
        f"<div class=bar><div style='width:{rng.randrange(100)}%'></div></div></div>"
        for _ in range(4)
    )
    charts = "".join(
        f"<div class=card style='flex-basis:320px'><h2>{sources.title(rng)}</h2>{curve(rng)}</div>" for _ in range(4)
    )
    return f"{top(sources, rng)}<div class=main>{cards}{charts}</div>"


def curve(rng: Random) -> str:
    """Return a small chart, as SVG."""
    heights = [rng.randrange(10, 110) for _ in range(16)]
    if rng.random() < 0.5:
        bars = (f"<rect x={20 * x} y={120 - y} width=14 height={y} />" for x, y in enumerate(heights))
        return f"<svg viewBox='0 0 320 120' width=100% fill='{colour(rng)}'>{''.join(bars)}</svg>"
    points = " ".join(f"{21 * x},{120 - y}" for x, y in enumerate(heights))
    tint = colour(rng)
    area = f"<polygon points='0,120 {points} 315,120' fill='{tint}' opacity=.25 />"
    line = f"<polyline points='{points}' fill=none stroke='{tint}' stroke-width=2 />"
    return f"<svg viewBox='0 0 320 120' width=100%>{area}{line}</svg>"


def mail(sources: Sources, rng: Random) -> str:
    rows = "".join(
        f"<div class=line><div class=round style='background:{colour(rng)}'></div><div><b>{sources.person(rng)}</b> "
        f"<span class=dim>{rng.randrange(24)}:{rng.randrange(60):02}</span><br>"
        f"<span class=dim>{text(sources, rng, 70)}</span></div></div>"
        for _ in range(14)
    )
    read = f"<h1>{sources.title(rng, 4)}</h1><p>{'</p><p>'.join(text(sources, rng, 400) for _ in range(5))}</p>"
    cards = f"<div class=card style='flex:0 0 300px'>{rows}</div><div class=card>{read}</div>"
    return f"{top(sources, rng)}<div class=main style='flex-wrap:nowrap'>{cards}</div>"


def chat(sources: Sources, rng: Random) -> str:
    said = "".join(
        f"<div class='say {rng.choice(('', 'mine'))}'>{text(sources, rng, rng.randrange(20, 160))}</div>"
        for _ in range(16)
    )
    talk = f"<div style='flex:1;padding:16px'>{said}<input value='...'></div>"
    return f"<div style='display:flex'>{side(sources, rng)}{talk}</div>"


def settings(sources: Sources, rng: Random) -> str:
    rows = "".join(
        f"<div class=line><div><b>{sources.title(rng, 2)}</b><br><span class=dim>{text(sources, rng, 70)}</span></div>"
        f"<div class='switch {rng.choice(('', 'on'))}'><div></div></div></div>"
        for _ in range(9)
    )
    slider = f"<label>{sources.title(rng, 2)}</label><input type=range value={rng.randrange(100)}>"
    card = f"<div class=card><h1>{sources.title(rng)}</h1>{slider}{rows}<button>{sources.title(rng, 1)}</button></div>"
    return f"<div style='display:flex'>{side(sources, rng)}<div class=main style='flex:1'>{card}</div></div>"


def calendar(sources: Sources, rng: Random) -> str:
    days = "".join(
        f"<div>{day % 31 + 1}"
        + "".join(
            f"<div class=event style='background:{colour(rng)}'>{text(sources, rng, 22)}</div>"
            for _ in range(rng.randrange(4))
        )
        + "</div>"
        for day in range(42)
    )
    return f"{top(sources, rng)}<div class=main><div class=days>{days}</div></div>"


def board(sources: Sources, rng: Random) -> str:
    columns = "".join(
        f"<div style='flex:1'><h2>{sources.title(rng, 1)}</h2>"
        + "".join(
            f"<div class=card style='margin-bottom:10px;border-left:4px solid {colour(rng)}'>"
            f"{text(sources, rng, 60)}<br><span class=dim>{sources.person(rng)}</span></div>"
            for _ in range(5)
        )
        + "</div>"
        for _ in range(4)
    )
    return f"{top(sources, rng)}<div class=main style='flex-wrap:nowrap'>{columns}</div>"


TEMPLATES: dict[str, tuple[Callable[[Sources, Random], str], ...]] = {
    "training": (form, table, dashboard, mail, chat),
    "measuring": (settings, calendar, board),
}
