"""What an encoder is asked for, and rate control: the quality of a size, or of a likeness."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sdtrt.engine.coding.entropy import DEFAULT_EFFORT, TRIALS

DEFAULT_QUALITY = 50.0
COARSEST, FINEST = -47.0, 130.0  # qualities that searches try: as far as priors are trained, and steps of a level
NOTCH = 0.1  # of quality, between files that are tried
LEAP = 260  # notches, at first
NEAR = 0.02  # dB above what is asked for, with which a search for a PSNR ends

Method = Literal["latents", "palette"]
METHODS: tuple[Method, ...] = ("latents", "palette")
CodeFile = Callable[[float], bytes]  # from a quality to a file
Measure = Callable[[bytes], float]  # from a file to the PSNR of its picture, in dB


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for: one of the first four at most, quality 50 if none. `ValueError` if it makes no sense."""

    quality: float | None = None  # 1 (smallest) to 100 (best)
    nbytes: int | None = None  # of the whole file, at most
    bits_per_pixel: float | None = None  # the same, for a picture of any size
    psnr: float | None = None  # dB of the decoded picture, at least
    effort: int = DEFAULT_EFFORT  # 1 (fast) to 9 (slow)
    method: Method = "latents"
    layers: int = 2  # 1: latents alone; 2: with what they cannot hold

    def __post_init__(self) -> None:
        asked = sum(wish is not None for wish in (self.quality, self.nbytes, self.bits_per_pixel, self.psnr))
        if asked > 1:
            raise ValueError("quality, nbytes, bits_per_pixel and psnr: ask for one of them only")
        for name, wish in (("nbytes", self.nbytes), ("bits_per_pixel", self.bits_per_pixel), ("psnr", self.psnr)):
            if wish is not None and not 0 < wish < math.inf:
                raise ValueError(f"{name} {wish}, expected a positive number")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality {self.quality} is outside 1 to 100")
        if self.effort not in TRIALS:
            raise ValueError(f"effort {self.effort} is not a whole number from 1 to 9")
        if self.layers not in (1, 2):
            raise ValueError(f"layers {self.layers}, expected 1 or 2")
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.method == "palette" and asked:
            raise ValueError("method palette has one rate only: it takes no quality, size or PSNR")

    @property
    def first_quality(self) -> float:
        """The quality that is asked for, or where a search for a size or a PSNR may well begin."""
        return DEFAULT_QUALITY if self.quality is None else self.quality

    def known_quality(self) -> float:
        """Return the quality that is asked for; `ValueError` if it is a size or a PSNR."""
        if self.method == "palette" or any(wish is not None for wish in (self.nbytes, self.bits_per_pixel, self.psnr)):
            raise ValueError("rows that come one after the other have a quality, but no size, PSNR or palette")
        return self.first_quality

    def file(self, code_file: CodeFile, width: int, height: int, measure: Measure | None) -> bytes:
        """Return the file that is asked for of a `width` x `height` picture.

        Raises `ValueError` if there is none so small or so good, or if a PSNR is asked for and there is no `measure`.
        """
        finest = FINEST if self.layers == 2 and measure else 100.0  # beyond it latents alone buy nothing
        if self.psnr is not None:
            if measure is None:
                raise ValueError("latents alone have no picture whose PSNR could be aimed at")
            return coarsest_above(self.psnr, finest, code_file, measure)
        if self.bits_per_pixel is not None:
            return finest_within(int(self.bits_per_pixel * width * height / 8), finest, code_file)
        if self.nbytes is not None:
            return finest_within(self.nbytes, finest, code_file)
        return code_file(self.first_quality)


def finest_within(nbytes: int, finest: float, code_file: CodeFile) -> bytes:
    """Return the file of the highest quality, up to `finest`, among those of at most `nbytes` bytes.

    The quality is found by bisection, some 12 trials. Files of qualities next to each other may not be ordered by size,
    so the result may be a notch or two from the best, but is never too large. Raises `ValueError`, which tells the
    smallest possible size, if there is none.
    """
    best = code_file(finest)
    if len(best) <= nbytes:
        return best
    best = code_file(COARSEST)
    if len(best) > nbytes:
        raise ValueError(f"{nbytes} bytes are too few for this picture: its smallest file has {len(best)}")
    fine, coarse = 0, round((finest - COARSEST) / NOTCH)  # notches below the finest
    while coarse - fine > 1:  # the file of `coarse` fits, that of `fine` does not
        middle = (fine + coarse) // 2
        data = code_file(finest - NOTCH * middle)
        if len(data) <= nbytes:
            coarse, best = middle, data
        else:
            fine = middle
    return best


def coarsest_above(psnr: float, finest: float, code_file: CodeFile, measure: Measure) -> bytes:
    """Return the file of about the lowest quality, up to `finest`, among those whose picture has at least `psnr` dB.

    Qualities are tried from the lowest on, in leaps, until one is good enough; from there it goes back by interpolation
    and bisection in turn, as PSNR rises nearly evenly with quality, but not for every picture. Some 8 trials. Raises
    `ValueError`, which tells the highest PSNR that was found, if none is so high.
    """
    coarse = round((finest - COARSEST) / NOTCH)  # notches below the finest
    highest = below = -math.inf
    for fine in [*range(coarse, 0, -LEAP), 0]:
        best = code_file(finest - NOTCH * fine)
        above = measure(best)
        if above >= psnr:
            break
        coarse, below, highest = fine, above, max(highest, above)
    else:
        found = math.floor(100 * highest) / 100
        raise ValueError(f"{psnr} dB are too many for this picture and model: the best file found has {found:.2f}")
    interpolate = True
    while coarse - fine > 1 and above - psnr > NEAR:  # the file of `fine` is good enough, that of `coarse` is not
        share = (above - psnr - NEAR / 2) / (above - below) if interpolate and above < math.inf else 0.5
        interpolate = not interpolate
        middle = fine + min(max(round(share * (coarse - fine)), 1), coarse - fine - 1)
        data = code_file(finest - NOTCH * middle)
        found = measure(data)
        if found >= psnr:
            fine, above, best = middle, found, data
        else:
            coarse, below = middle, found
    return best
