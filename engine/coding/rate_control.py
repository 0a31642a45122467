"""What an encoder is asked for, and rate control: the quality of a size, or of a likeness."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sdtrt.engine.coding.stream_codec import DEFAULT_EFFORT, SEARCH_ITERATIONS
from sdtrt.engine.format.arguments import checked_choice, checked_integer, checked_number

DEFAULT_QUALITY = 50.0
MIN_QUALITY, MAX_QUALITY = (
    -47.0,
    130.0,
)  # qualities that searches try: as far as priors are trained, and steps of a level
MAX_GRID_INDEX = 1e6  # notches that a search may think of: more than there are
QUALITY_GRID = 0.1  # of quality, between files that are tried
SIZE_TOLERANCE = 0.005  # share of the bytes with which a search for a size ends although they are left over
PSNR_TOLERANCE = 0.05  # dB above what is asked for with which a search for a PSNR ends
MAX_NBYTES = 1 << 62  # bytes that are asked for
OCTAVES_PER_QUALITY, DB_PER_QUALITY = 1 / 22, 1 / 7  # by which sizes and PSNR rise, about

Method = Literal["latents", "palette"]
METHODS: tuple[Method, ...] = ("latents", "palette")
CodeFile = Callable[[float], bytes]  # from a quality to a file
Measure = Callable[[bytes], float]  # from a file to the PSNR of its image, in dB


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """What is asked for: one of the first four at most, quality 50 if none. `ValueError` if it makes no sense."""

    quality: float | None = None  # 1 (smallest) to 100 (best)
    max_bytes: int | None = None  # of the whole file, at most
    bpp: float | None = None  # the same, for an image of any size
    target_psnr: float | None = None  # dB of the decoded image, at least
    effort: int = DEFAULT_EFFORT  # 1 (fast) to 9 (slow)
    method: Method = "latents"
    layers: int = 2  # 1: latents alone; 2: with what they cannot hold

    def __post_init__(self) -> None:
        asked = sum(options is not None for options in (self.quality, self.max_bytes, self.bpp, self.target_psnr))
        if asked > 1:
            raise ValueError("quality, max_bytes, bpp and target_psnr: ask for one of them only")
        if self.quality is not None:
            self._set("quality", checked_number("quality", self.quality, 1, 100))
        if self.max_bytes is not None:
            self._set("max_bytes", checked_integer("max_bytes", self.max_bytes, 1))
        for name in ("bpp", "target_psnr"):
            if getattr(self, name) is not None:
                self._set(name, checked_number(name, getattr(self, name), 0, above=True))
        self._set("effort", checked_integer("effort", self.effort, min(SEARCH_ITERATIONS), max(SEARCH_ITERATIONS)))
        self._set("layers", checked_integer("layers", self.layers, 1, 2))
        checked_choice("method", self.method, METHODS)
        if self.method == "palette" and asked:
            raise ValueError("method palette has one rate only: it takes no quality, size or PSNR")

    def _set(self, name: str, number: float) -> None:
        """Keep a checked number as Python's own, whatever type it came in."""
        object.__setattr__(self, name, number)

    @property
    def first_quality(self) -> float:
        """The quality that is asked for, or where a search for a size or a PSNR may well begin."""
        return DEFAULT_QUALITY if self.quality is None else self.quality

    def known_quality(self) -> float:
        """Return the quality that is asked for; `ValueError` if it is a size or a PSNR."""
        if self.method == "palette" or any(
            options is not None for options in (self.max_bytes, self.bpp, self.target_psnr)
        ):
            raise ValueError("rows that come one after the other have a quality, but no size, PSNR or palette")
        return self.first_quality

    def file(self, code_file: CodeFile, width: int, height: int, measure: Measure | None) -> bytes:
        """Return the file that is asked for of a `width` x `height` image.

        Raises `ValueError` if there is none so small or so good, or if a PSNR is asked for and there is no `measure`.
        """
        finest = MAX_QUALITY if self.layers == 2 and measure else 100.0  # beyond it latents alone buy nothing
        if self.target_psnr is not None:
            if measure is None:
                raise ValueError("latents alone have no image whose PSNR could be aimed at")
            return lowest_quality_above(self.target_psnr, finest, code_file, measure)
        if self.bpp is not None:
            nbytes = min(self.bpp * width * height / 8, MAX_NBYTES)
            return highest_quality_within(max(int(nbytes), 1), finest, code_file)
        if self.max_bytes is not None:
            return highest_quality_within(min(self.max_bytes, MAX_NBYTES), finest, code_file)
        return code_file(self.first_quality)


def highest_quality_within(nbytes: int, finest: float, code_file: CodeFile) -> bytes:
    """Return the file of about the highest quality, up to `finest`, among those of at most `nbytes` bytes.

    Some 4 trials: the logarithm of sizes rises nearly evenly with quality. Files of qualities next to each other may
    not be ordered by size, so the result may be a notch or two from the best, but is never too large. Raises
    `ValueError`, which tells the smallest possible size, if there is none.
    """

    def excess(data: bytes) -> float:
        return math.log2((len(data) - 0.5) / nbytes)  # so that a file of just so many bytes falls short

    near = math.log2(1 - SIZE_TOLERANCE), 0.0
    fits, exceeds = _search(code_file, excess, finest, OCTAVES_PER_QUALITY, near)
    if fits:
        return fits.data
    smallest = len(exceeds.data) if exceeds else 0
    raise ValueError(f"{nbytes} bytes are too few for this image: its smallest file has {smallest}")


def lowest_quality_above(psnr: float, finest: float, code_file: CodeFile, measure: Measure) -> bytes:
    """Return the file of about the lowest quality, up to `finest`, among those whose image has at least `psnr` dB.

    Some 4 trials: PSNR rises nearly evenly with quality, but not for every image. Raises `ValueError`, which tells
    the highest PSNR that was found, if none is so high.
    """
    found: list[float] = []

    def excess(data: bytes) -> float:
        found.append(measure(data))
        return found[-1] - psnr

    _, enough = _search(code_file, excess, finest, DB_PER_QUALITY, (0.0, PSNR_TOLERANCE))
    if enough:
        return enough.data
    most = math.floor(100 * max(found)) / 100
    raise ValueError(f"{psnr} dB cannot be reached for this image and model: the best file found has {most:.2f} dB")


class _Trial(NamedTuple):
    grid_index: int  # 0 for the coarsest quality
    excess: float
    data: bytes


def _search(
    code_file: CodeFile, excess: Measure, finest: float, slope: float, near: tuple[float, float]
) -> tuple[_Trial | None, _Trial | None]:
    """Return the finest trial that falls short of what is asked for, and the coarsest that does not, None without one.

    `excess` is by how much a file does not fall short; it rises with quality, by about `slope` for each. The search
    ends with a trial whose excess lies within `near`, with trials that are neighbours, or at an end of all qualities.
    """
    last, goal, rise = round((finest - MIN_QUALITY) / QUALITY_GRID), sum(near) / 2, slope * QUALITY_GRID
    grid_index, leap, halved = round((min(DEFAULT_QUALITY, finest) - MIN_QUALITY) / QUALITY_GRID), 1, False
    below: _Trial | None = None
    above: _Trial | None = None
    trials: list[_Trial] = []  # those nearest to the goal first
    while True:
        data = code_file(finest - QUALITY_GRID * (last - grid_index))
        trial = _Trial(grid_index, excess(data), data)
        below, above = (below, trial) if trial.excess >= 0 else (trial, above)
        if near[0] <= trial.excess < near[1]:
            return below, above
        slow = bool(trials) and 2 * abs(trial.excess - goal) > abs(trials[0].excess - goal)
        trials = sorted([*trials, trial], key=lambda one: abs(one.excess - goal))
        aim = _aim(trials, goal, rise)
        if below and above:
            if above.grid_index - below.grid_index < 2:
                return below, above
            halved = slow and not halved  # lines through trials have not told much
            aim = (below.grid_index + above.grid_index) // 2 if halved else aim
            grid_index = min(max(aim, below.grid_index + 1), above.grid_index - 1)
        else:
            if grid_index == (0 if above else last):
                return below, above
            aim = min(aim, grid_index - leap) if above else max(aim, grid_index + leap)
            leap *= 2
            grid_index = min(max(aim, 0), last)


def _aim(trials: list[_Trial], goal: float, rise: float) -> int:
    """Return the notch whose excess is the goal on a line through the first two trials, or one of about that rise."""
    first, *others = trials
    if math.isinf(first.excess):
        return 0
    if others:
        rise = min(
            max((first.excess - others[0].excess) / (first.grid_index - others[0].grid_index), rise / 4), 4 * rise
        )
    return first.grid_index + round(min(max((goal - first.excess) / rise, -MAX_GRID_INDEX), MAX_GRID_INDEX))
