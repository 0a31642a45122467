"""Pages of documentation in fonts of the set, at a random scroll position."""

from random import Random

from browser import Page, View
from sources import Sources

# Icon fonts and anchors of headings are hidden, since they are not in the fonts of the set.
PLAIN = """
.fa::before, [class*="fa-"]::before, .headerlink, .icon::before { content: "" !important }
a.headerlink { display: none !important }
html { scroll-behavior: auto !important }
"""
SIZES = (14, 15, 16, 16, 16, 18)


def document(sources: Sources, view: View, rng: Random, number: int) -> Page:
    """Return a page of documentation with the fonts of the set."""
    css = PLAIN + sources.fonts_css(rng) + f"html {{ font-size: {rng.choice(SIZES)}px }}"
    return Page(sources.file("documents", number), css, rng.choice((0.0, rng.random(), rng.random())))
