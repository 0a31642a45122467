"""Terminals: coloured output of commands, on dark and light backgrounds."""

import difflib
import html
from collections.abc import Callable
from pathlib import Path
from random import Random

from browser import Page, View
from sources import Sources

# Background, text, then black, red, green, yellow, blue, magenta, cyan, white.
PALETTES = {
    "training": (
        "#000000 #e5e5e5 #4d4d4d #cd0000 #00cd00 #cdcd00 #3b78ff #cd00cd #00cdcd #ffffff",
        "#2e3436 #d3d7cf #555753 #ef2929 #8ae234 #fce94f #729fcf #ad7fa8 #34e2e2 #eeeeec",
        "#fdf6e3 #657b83 #93a1a1 #dc322f #859900 #b58900 #268bd2 #d33682 #2aa198 #073642",
        "#282828 #ebdbb2 #928374 #fb4934 #b8bb26 #fabd2f #83a598 #d3869b #8ec07c #fbf1c7",
        "#300a24 #eeeeec #555753 #ef2929 #8ae234 #fce94f #739fcf #ad7fa8 #34e2e2 #ffffff",
        "#ffffff #000000 #808080 #b21818 #18a018 #a06800 #1818b2 #b218b2 #108888 #202020",
    ),
    "measuring": (
        "#0c0c0c #cccccc #767676 #e74856 #16c60c #f9f1a5 #61a0ff #b4009e #61d6d6 #f2f2f2",
        "#fafafa #383a42 #a0a1a7 #e45649 #50a14f #c18401 #0184bc #a626a4 #0997b3 #202227",
        "#282a36 #f8f8f2 #6272a4 #ff5555 #50fa7b #f1fa8c #bd93f9 #ff79c6 #8be9fd #ffffff",
    ),
}
RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN = 3, 4, 5, 6, 7, 8
GREY, WHITE = 2, 9
LINES = 90
PAGE = """<body class="mono" style="margin:0;padding:6px;background:{ground};color:{text};min-height:96vh">
<style>{colours} pre {{ margin:0; font-size:{size}px; line-height:{leading}; white-space:{wrap};
 word-break:break-all }}</style><pre>{lines}</pre>"""


def terminal(sources: Sources, view: View, rng: Random, number: int) -> Page:
    """Return a window full of the output of one or a few commands."""
    printers = PRINTERS[sources.name]
    lines: list[str] = []
    while len(lines) < LINES:
        command, printed = printers[(number + len(lines)) % len(printers)](sources, rng)
        lines += [prompt(sources, rng, command), *printed]
    colours = PALETTES[sources.name][number % len(PALETTES[sources.name])].split()
    page = PAGE.format(
        ground=colours[0],
        text=colours[1],
        colours=" ".join(f".c{index} {{ color: {colour} }}" for index, colour in enumerate(colours)),
        size=rng.choice((11, 12, 13, 13, 14, 15, 17)),
        wrap=rng.choice(("pre", "pre-wrap")),
        leading=rng.choice((1.15, 1.2, 1.3)),
        lines="\n".join(lines),
    )
    return Page(page, sources.fonts_css(rng))


def c(colour: int, text: str, bold: bool = False) -> str:
    return f"<span class=c{colour}{' style=font-weight:bold' if bold else ''}>{html.escape(text)}</span>"


def prompt(sources: Sources, rng: Random, command: str) -> str:
    user, host, folder = Random(sources.name + str(rng.random())).choices(sources.words(rng, 20), k=3)
    return f"{c(GREEN, f'{user}@{host}', True)}:{c(BLUE, f'~/{folder}', True)}$ {html.escape(command)}"


def excerpt(sources: Sources, rng: Random, count: int) -> tuple[Path, int, list[str]]:
    """Return (path, number of the first line, lines) of some source code."""
    path = sources.file("code", rng.randrange(10_000))
    lines = path.read_text("utf-8", errors="replace").expandtabs(4).splitlines()
    first = rng.randrange(max(len(lines) - count, 1))
    return path, first, [line[:150] for line in lines[first : first + count]]


def listing(sources: Sources, rng: Random) -> tuple[str, list[str]]:
    lines = []
    for path in (sources.file(rng.choice(("code", "icons", "documents")), rng.randrange(10_000)) for _ in range(24)):
        colour, bits = rng.choice(
            ((BLUE, "drwxr-xr-x"), (GREEN, "-rwxr-xr-x"), (1, "-rw-r--r--"), (MAGENTA, "-rw-r--r--"))
        )
        day = f"{rng.choice(('Jan', 'Mar', 'Jul', 'Oct'))} {rng.randrange(1, 29):2}"
        date = f"{day} {rng.randrange(24):02}:{rng.randrange(60):02}"
        lines.append(f"{bits} 1 root root {path.stat().st_size:8} {date} {c(colour, path.name, colour == BLUE)}")
    return "ls -l --color", lines


def difference(sources: Sources, rng: Random) -> tuple[str, list[str]]:
    """Return a diff between some code and a copy with other words."""
    path, _, old = excerpt(sources, rng, 50)
    new = [line for line in (changed(sources, rng, line) for line in old) if line is not None]
    lines = list(difflib.unified_diff(old, new, f"a/{path.name}", f"b/{path.name}", lineterm=""))
    colours = {"+": GREEN, "-": RED, "@": CYAN}
    return f"git diff {path.name}", [c(colours.get(line[:1], 1), line, line[:3] in ("+++", "---")) for line in lines]


def changed(sources: Sources, rng: Random, line: str) -> str | None:
    chance = rng.random()
    if chance < 0.05 or not line.split():
        return None if chance < 0.05 else line
    return line.replace(rng.choice(line.split()), sources.words(rng, 1)[0]) if chance < 0.2 else line


def processes(sources: Sources, rng: Random) -> tuple[str, list[str]]:
    head = f"{'PID':>7} {'USER':<9} {'PR':>3} {'VIRT':>8} {'RES':>7} {'%CPU':>5} {'%MEM':>5} {'TIME+':>9} COMMAND"
    lines = [f'<span style="background:currentColor">{c(0, head.ljust(90))}</span>']
    for load in sorted((min(rng.expovariate(0.2), 99.9) for _ in range(26)), reverse=True):
        numbers = f"{rng.randrange(99999):7} {rng.choice(('root', 'www-data', 'postgres', 'me')):<9} {20:3}"
        sizes = f"{rng.randrange(9999999):8} {rng.randrange(999999):7} {load:5.1f} {rng.random() * 9:5.1f}"
        line = f"{numbers} {sizes} {rng.randrange(99):3}:{rng.random() * 60:05.2f} {'-'.join(sources.words(rng, 2))}"
        lines.append(c(rng.choice((1, 1, 1, YELLOW, GREEN)), line))
    return "top -n 1", lines


def dump(sources: Sources, rng: Random) -> tuple[str, list[str]]:
    path = sources.file("icons", rng.randrange(10_000))
    data = path.read_bytes()[: 16 * 30]
    rows = [data[start : start + 16] for start in range(0, len(data), 16)]
    return f"xxd {path.name}", [
        f"{c(YELLOW, f'{16 * number:08x}')}: {c(1, row.hex(' ', 2).ljust(41))} "
        f"{c(GREEN, ''.join(chr(byte) if 32 <= byte < 127 else '.' for byte in row))}"
        for number, row in enumerate(rows)
    ]


def matches(sources: Sources, rng: Random) -> tuple[str, list[str]]:
    lines, word = [], rng.choice(("return", "if", "for", "and", "name"))
    for _ in range(6):
        path, first, excerpted = excerpt(sources, rng, 60)
        for number, line in enumerate(excerpted, first + 1):
            if word in line:
                marked = html.escape(line).replace(word, c(RED, word, True))
                lines.append(f"{c(MAGENTA, path.name)}:{c(GREEN, str(number))}:{marked}")
    return f"grep -rn {word} .", lines[:30]


def history(sources: Sources, rng: Random) -> tuple[str, list[str]]:
    lines = []
    for _ in range(30):
        graph = rng.choice(("* ", "* ", "* ", "| * ", "|/  ", "*   ", "|\\  "))
        tag = c(YELLOW, f" (tag: v{rng.randrange(9)}.{rng.randrange(20)})", True) if rng.random() < 0.1 else ""
        commit = f"{c(YELLOW, f'{rng.randrange(1 << 28):07x}')}{tag} {html.escape(sources.sentence(rng, 70))}"
        lines.append(c(RED, graph) + (commit if "*" in graph else ""))
    return "git log --graph --oneline", lines


def tests(sources: Sources, rng: Random) -> tuple[str, list[str]]:
    lines = [c(1, "=" * 28 + " test session starts " + "=" * 28, True)]
    for number in range(26):
        name = f"tests/test_{'_'.join(sources.words(rng, 1))}.py::test_{'_'.join(sources.words(rng, 3))}"
        outcome = rng.choice(
            (c(GREEN, "PASSED"), c(GREEN, "PASSED"), c(GREEN, "PASSED"), c(RED, "FAILED"), c(YELLOW, "SKIPPED"))
        )
        lines.append(f"{name} {outcome}{c(CYAN, f' [{4 * number:3}%]')}")
    path, first, code = excerpt(sources, rng, 8)
    lines += [c(1, line) for line in code] + [c(RED, f"E   AssertionError: {sources.sentence(rng, 60)}", True)]
    return "pytest -v", [*lines, f"{c(RED, path.name)}:{first}: AssertionError"]


def manual(sources: Sources, rng: Random) -> tuple[str, list[str]]:
    lines = []
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"):
        lines += [c(CYAN, heading, True), "       " + html.escape(sources.sentence(rng, 80))]
        for word in sources.words(rng, 3):
            lines += [f"       {c(GREEN, f'--{word}', True)}={c(YELLOW, word[:4].upper())}"]
            lines += ["              " + html.escape(sources.sentence(rng, 75)), ""]
    return f"man {sources.words(rng, 1)[0]}", lines


Printer = Callable[[Sources, Random], tuple[str, list[str]]]
PRINTERS: dict[str, tuple[Printer, ...]] = {
    "training": (listing, difference, processes, dump, matches),
    "measuring": (history, tests, manual),
}
