"""Source code in an editor: syntax colours, line numbers, tabs."""

import html
from random import Random

from browser import Page, View
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from sources import Sources

STYLES = {
    "training": "default monokai friendly gruvbox-dark gruvbox-light material vs"
    " tango zenburn solarized-light paraiso-dark xcode",
    "measuring": "one-dark solarized-dark github-dark dracula emacs lightbulb",
}
LINES = 120
PAGE = """<style>{css} body {{ margin:0; background:{ground} }}
pre {{ margin:0; line-height:{leading}; font-size:{size}px }}
.tabs {{ display:flex; font-size:13px; background:#8882; border-bottom:1px solid #8886; color:#888 }}
.tabs div {{ padding:7px 16px; border-right:1px solid #8886 }} .tabs .on {{ background:{ground};
 border-top:2px solid #48f }}
.side {{ position:fixed; left:0; top:0; bottom:0; width:170px; font-size:13px; padding:10px; color:#888;
 background:linear-gradient({ground}, {ground}) , #8883; border-right:1px solid #8886; line-height:1.7;
 overflow:hidden }}
.main {{ margin-left:{left}px }} .highlight {{ padding:8px }} .linenos {{ color:#888 !important;
 background:none !important }}
td.linenos {{ padding-right:12px; vertical-align:top }} .highlighttable {{ border-spacing:0 }}
</style>{side}<div class=main>{tabs}{code}</div>"""


def code(sources: Sources, view: View, rng: Random, number: int) -> Page:
    """Return a part of a source file as in an editor or on a web page."""
    path = sources.file("code", number)
    lines = path.read_text("utf-8", errors="replace").expandtabs(4).splitlines()
    first = rng.randrange(max(len(lines) - LINES, 1))
    styles = STYLES[sources.name].split()
    formatter = HtmlFormatter(
        style=styles[number % len(styles)], linenos="table" if rng.random() < 0.6 else False, linenostart=first + 1
    )
    side, tabs = rng.random() < 0.3, rng.random() < 0.6
    names = [sources.file("code", number + other).name for other in range(24)]
    page = PAGE.format(
        css=formatter.get_style_defs(".highlight"),
        ground=formatter.style.background_color,
        size=rng.choice((11, 12, 13, 14, 15, 16)),
        leading=rng.choice((1.25, 1.4, 1.5)),
        left=192 if side else 0,
        side=f"<div class=side>{'<br>'.join(html.escape(name) for name in names)}</div>" if side else "",
        tabs=tabs_of(names) if tabs else "",
        code=highlight("\n".join(lines[first : first + LINES]), get_lexer_for_filename(path.name), formatter),
    )
    return Page(page, sources.fonts_css(rng))


def tabs_of(names: list[str]) -> str:
    shown = "".join(
        f"<div{' class=on' if not index else ''}>{html.escape(name)}</div>" for index, name in enumerate(names[:4])
    )
    return f"<div class=tabs>{shown}</div>"
