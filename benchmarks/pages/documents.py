"""Pages of documentation, in fonts of the set, at a random place."""

from random import Random

from browser import Page, View
from sources import Sources

# Icons of fonts are no letters of the set's fonts; what is fixed or floats over the page may cover it all.
PLAIN = """
.fa::before, [class*="fa-"]::before, .headerlink, .icon::before { content: "" !important }
a.headerlink { display: none !important }
html { scroll-behavior: auto !important }
"""
SIZES = (14, 15, 16, 16, 16, 18)


def document(sources: Sources, view: View, rng: Random, number: int) -> Page:
    """Return a page of documentation as its project made it, but for the fonts."""
    css = PLAIN + sources.fonts_css(rng) + f"html {{ font-size: {rng.choice(SIZES)}px }}"
    return Page(sources.file("documents", number), css, rng.choice((0.0, rng.random(), rng.random())))
