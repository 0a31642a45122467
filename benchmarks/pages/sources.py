"""The files, fonts, photos and words of a set."""

import hashlib
import html
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from packages import CODE_FONTS, FILES, MIN_NBYTES, TEXT_FONTS

PARAGRAPH = re.compile(r"<p\b[^>]*>(.*?)</p>", re.DOTALL | re.IGNORECASE)
TAG = re.compile(r"<[^>]*>")
PAGES_READ = 12  # of each package, for words
PLAIN = re.compile(r"[A-Z][\x20-\x7e]{60,600}[.]")
WORD = re.compile(r"\b[a-z]{4,11}\b")


@dataclass(frozen=True)
class Sources:
    """The sources of the set `name`: packages unpacked in `folder`, and photos in `photo_folder`."""

    name: str
    folder: Path
    photo_folder: Path | None

    @property
    def training(self) -> bool:
        return self.name == "training"

    def files(self, kind: str) -> list[list[Path]]:
        """Return the files of a kind, a list for each pattern, in a reproducible random order."""
        return [matching_files(self.folder, self.name, kind, pattern) for pattern in FILES[self.name][kind]]

    def file(self, kind: str, number: int) -> Path:
        """Return the number-th file of a kind, from each pattern in turn."""
        lists = self.files(kind)
        files = lists[number % len(lists)]
        return files[number // len(lists) % len(files)]

    def text_font(self, rng: Random) -> str:
        return rng.choice(list(TEXT_FONTS[self.name]))

    def code_font(self, rng: Random) -> str:
        return rng.choice(list(CODE_FONTS[self.name]))

    def fonts_css(self, rng: Random) -> str:
        """Return CSS that sets all text in a font of the set, and code in a monospaced one."""
        text, code = self.text_font(rng), self.code_font(rng)
        code_elements = "pre, pre *, code, code *, tt, tt *, kbd, samp, .mono, .mono *"
        return f'* {{ font-family: "{text}" !important }} {code_elements} {{ font-family: "{code}" !important }}'

    def photos(self) -> list[Path]:
        """Return the set's half of the photos, by the hash of their names."""
        paths = sorted(self.photo_folder.iterdir()) if self.photo_folder else []
        half = [path for path in paths if hashlib.sha256(path.stem.encode()).digest()[0] % 2 == self.training]
        if not half:
            raise SystemExit("pages with photos need --photos FOLDER")
        return half

    def paragraph(self, rng: Random) -> str:
        return rng.choice(paragraphs(self))

    def sentence(self, rng: Random, most: int = 90) -> str:
        """Return the beginning of a paragraph, at most `most` characters, cut between words."""
        text = self.paragraph(rng)
        return text if len(text) <= most else text[:most].rpartition(" ")[0].rstrip(",;:(")

    def words(self, rng: Random, count: int) -> list[str]:
        return [rng.choice(words(self)) for _ in range(count)]

    def title(self, rng: Random, count: int = 3) -> str:
        return " ".join(self.words(rng, count)).capitalize()

    def person(self, rng: Random) -> str:
        """Return two words that look like a name."""
        return " ".join(word.capitalize() for word in self.words(rng, 2))


@cache
def matching_files(folder: Path, name: str, kind: str, pattern: str) -> list[Path]:
    package, _, files = pattern.partition(":")
    paths = sorted(path for path in (folder / package).glob(files) if path.is_file() and not path.is_symlink())
    paths = [path for path in paths if path.stat().st_size >= MIN_NBYTES[kind]]
    if not paths:
        raise SystemExit(f"{pattern}: no such files in {folder}; delete {folder / package} and run again")
    Random(f"{name} {kind} {pattern}").shuffle(paths)
    return paths


@cache
def paragraphs(sources: Sources) -> list[str]:
    """Return paragraphs of plain English from the set's documents."""
    pages = [page for pages in sources.files("documents") for page in pages[:PAGES_READ]]
    parts = [part for page in pages for part in PARAGRAPH.findall(page.read_text("utf-8", errors="replace"))]
    texts = (" ".join(html.unescape(TAG.sub("", part)).split()) for part in parts)
    return [text for text in texts if PLAIN.fullmatch(text)]


@cache
def words(sources: Sources) -> list[str]:
    return WORD.findall(" ".join(paragraphs(sources)))
