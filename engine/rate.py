"""Rate control: the step of a quality, or the finest step whose file is not larger than asked."""

from collections.abc import Callable
from dataclasses import dataclass

from sdtrt.engine.profile import LatentProfile

DEFAULT_QUALITY = 50.0
BEYOND = 256  # step codes past that of quality 1, a factor of 2: priors know no coarser steps, files would grow again

CodeFile = Callable[[int], bytes]  # from a step code to a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What is asked for, one of the three at most, quality 50 if none: `ValueError` else."""

    quality: float | None = None  # 1 (smallest) to 100 (best)
    nbytes: int | None = None  # of the whole file, at most
    bits_per_pixel: float | None = None  # the same, for a picture of any size

    def __post_init__(self) -> None:
        if sum(wish is not None for wish in (self.quality, self.nbytes, self.bits_per_pixel)) > 1:
            raise ValueError("quality, nbytes and bits_per_pixel: ask for one of them only")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality {self.quality} is outside 1 to 100")

    def file(self, code_file: CodeFile, profile: LatentProfile, width: int, height: int) -> bytes:
        """Return the file that is asked for of a `width` x `height` picture; `ValueError` if there is none so small."""
        if self.bits_per_pixel is not None:
            return finest_within(int(self.bits_per_pixel * width * height / 8), profile, code_file)
        if self.nbytes is not None:
            return finest_within(self.nbytes, profile, code_file)
        return code_file(profile.step_code(DEFAULT_QUALITY if self.quality is None else self.quality))


def finest_within(nbytes: int, profile: LatentProfile, code_file: CodeFile) -> bytes:
    """Return the file with the smallest step among those of at most `nbytes` bytes.

    Steps finer than that of quality 100 are not tried, as they would buy nothing, nor steps coarser than twice that of
    quality 1. The step is found by bisection, some 12 trials. Files of steps next to each other may not be ordered by
    size, so the result may be a step or two from the finest, but is never too large. Raises `ValueError`, which tells
    the smallest possible size, if there is none.
    """
    fine, coarse = profile.step_code(100), profile.step_code(1) + BEYOND
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
