"""What an encoder is asked for, and rate control: the step of a quality, of a size, or of a likeness."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sdtrt.engine.coding.entropy import DEFAULT_EFFORT, TRIALS
from sdtrt.engine.format.profile import LatentProfile

DEFAULT_QUALITY = 50.0
BEYOND = 512  # step codes past that of quality 1, a factor of 4: as far as priors are trained
OCTAVE = 256  # step codes: a factor of 2
LARGEST_CODE = 4095
NEAR = 0.02  # dB above what is asked for, with which a search for a PSNR ends

Method = Literal["latents", "palette"]
METHODS: tuple[Method, ...] = ("latents", "palette")
CodeFile = Callable[[int], bytes]  # from a step code to a file
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
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.method == "palette" and asked:
            raise ValueError("method palette has one rate only: it takes no quality, size or PSNR")

    def step_code(self, profile: LatentProfile) -> int:
        """Return the step code of the quality that is asked for; `ValueError` if it is a size or a PSNR."""
        if self.method == "palette" or any(wish is not None for wish in (self.nbytes, self.bits_per_pixel, self.psnr)):
            raise ValueError("rows that come one after the other have a quality, but no size, PSNR or palette")
        return profile.step_code(DEFAULT_QUALITY if self.quality is None else self.quality)

    def file(
        self, code_file: CodeFile, profile: LatentProfile, width: int, height: int, measure: Measure | None
    ) -> bytes:
        """Return the file that is asked for of a `width` x `height` picture.

        Raises `ValueError` if there is none so small or so good, or if a PSNR is asked for and there is no `measure`.
        """
        if self.psnr is not None:
            if measure is None:
                raise ValueError("latents alone have no picture whose PSNR could be aimed at")
            return coarsest_above(self.psnr, profile, code_file, measure)
        if self.bits_per_pixel is not None:
            return finest_within(int(self.bits_per_pixel * width * height / 8), profile, code_file)
        if self.nbytes is not None:
            return finest_within(self.nbytes, profile, code_file)
        return code_file(profile.step_code(DEFAULT_QUALITY if self.quality is None else self.quality))


def finest_within(nbytes: int, profile: LatentProfile, code_file: CodeFile) -> bytes:
    """Return the file with the smallest step among those of at most `nbytes` bytes.

    Steps finer than that of quality 100 are not tried, as they would buy nothing, nor steps coarser than four times
    that of quality 1. The step is found by bisection, some 12 trials. Files of steps next to each other may not be
    ordered by size, so the result may be a step or two from the finest, but is never too large. Raises `ValueError`,
    which tells the smallest possible size, if there is none.
    """
    fine, coarse = bounds(profile)
    best = code_file(fine)
    if len(best) <= nbytes:
        return best
    best = code_file(coarse)
    if len(best) > nbytes:
        raise ValueError(f"{nbytes} bytes are too few for this picture: its smallest file has {len(best)}")
    while coarse - fine > 1:  # the file of `coarse` fits, that of `fine` does not
        middle = (fine + coarse) // 2
        data = code_file(middle)
        if len(data) <= nbytes:
            coarse, best = middle, data
        else:
            fine = middle
    return best


def coarsest_above(psnr: float, profile: LatentProfile, code_file: CodeFile, measure: Measure) -> bytes:
    """Return the file with about the largest step among those whose picture has at least `psnr` dB.

    Steps are tried from the coarsest on, each half of the one before, until one is good enough; from there it goes back
    by interpolation and bisection in turn, as PSNR falls nearly evenly with the step's logarithm, but not for every
    picture. Some 8 trials. Raises `ValueError`, which tells the highest PSNR that was found, if none is so high.
    """
    finest, coarse = bounds(profile)
    highest = below = -math.inf
    for fine in [*range(coarse, finest, -OCTAVE), finest]:
        best = code_file(fine)
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
        data = code_file(middle)
        found = measure(data)
        if found >= psnr:
            fine, above, best = middle, found, data
        else:
            coarse, below = middle, found
    return best


def bounds(profile: LatentProfile) -> tuple[int, int]:
    """Return the finest and the coarsest step code that a search tries."""
    fine, coarse = sorted(profile.step_codes)
    return fine, min(coarse + BEYOND, LARGEST_CODE)
