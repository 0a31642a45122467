"""Rate control: the finest step whose file is not larger than asked."""

from collections.abc import Callable

from sdtrt.engine.profile import LatentProfile

BEYOND = 256  # step codes past that of quality 1, a factor of 2: priors know no coarser steps, files would grow again


def finest_within(nbytes: int, profile: LatentProfile, code_file: Callable[[int], bytes]) -> bytes:
    """Return the file with the smallest step among those of at most `nbytes` bytes.

    `code_file` makes the file of a step code. Steps finer than that of quality 100 are not tried, as they would buy
    nothing, nor steps coarser than twice that of quality 1. The step is found by bisection, some 12 trials. Files of
    steps next to each other may not be ordered by size, so the result may be a step or two from the finest, but is
    never too large. Raises `ValueError`, which tells the smallest possible size, if there is none.
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
