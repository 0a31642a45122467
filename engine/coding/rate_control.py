"""Rate control: the search for the quality whose file has a given size or PSNR."""

import math
from collections.abc import Callable
from typing import NamedTuple

from sdtrt.engine.coding.encode_options import DEFAULT_QUALITY, EncodeOptions

MIN_QUALITY = -47.0  # of a search: priors are trained for quantization steps up to it
MAX_QUALITY = 130.0  # of a search: from there on residual steps are below one 8-bit value
MAX_LATENT_QUALITY = 100.0  # of a search without a residual layer: finer latents gain nothing
QUALITY_GRID = 0.1  # distance of the qualities that a search tries
MAX_GRID_INDEX = 1e6  # bound of extrapolations, far above the number of qualities
SIZE_TOLERANCE = 0.005  # a search for a size ends with a file that is smaller by less than this share
PSNR_TOLERANCE = 0.05  # a search for a PSNR ends with an image that is better by less than this, in dB
MAX_NBYTES = 1 << 62  # larger targets are reduced to it
OCTAVES_PER_QUALITY = 1 / 22  # approximate slope of log2(file size)
DB_PER_QUALITY = 1 / 7  # approximate slope of PSNR

EncodeAt = Callable[[float], bytes]  # from a quality to a file
PsnrOfFile = Callable[[bytes], float]  # from a file to the PSNR of its image, in dB


def encode_to_target(
    options: EncodeOptions, width: int, height: int, encode_at: EncodeAt, psnr_of_file: PsnrOfFile | None
) -> bytes:
    """Encode an image at the rate target of the options.

    Arguments:
        options: one rate target, or none for the default quality.
        width, height: size of the image in pixels.
        encode_at: encodes the image at a quality.
        psnr_of_file: measures a file, or None for latents without an image.

    Raises:
        ValueError: if no file is that small or that good, or a PSNR is asked for without `psnr_of_file`.
    """
    max_quality = MAX_QUALITY if options.layers == 2 and psnr_of_file else MAX_LATENT_QUALITY
    if options.target_psnr is not None:
        if psnr_of_file is None:
            raise ValueError("latents alone have no image whose PSNR could be aimed at")
        return lowest_quality_above(options.target_psnr, max_quality, encode_at, psnr_of_file)
    if options.bpp is not None:
        nbytes = min(options.bpp * width * height / 8, MAX_NBYTES)
        return highest_quality_within(max(int(nbytes), 1), max_quality, encode_at)
    if options.max_bytes is not None:
        return highest_quality_within(min(options.max_bytes, MAX_NBYTES), max_quality, encode_at)
    return encode_at(options.first_quality)


def highest_quality_within(nbytes: int, max_quality: float, encode_at: EncodeAt) -> bytes:
    """Find the file of about the highest quality among those of at most `nbytes` bytes.

    The search takes about 4 files, because the logarithm of the size rises almost linearly with quality. The sizes of
    neighbouring qualities may be out of order. The result may then be a grid point or two from the best, but it is
    never too large.

    Arguments:
        nbytes: largest size in bytes.
        max_quality: upper bound of the search.
        encode_at: encodes the image at a quality.

    Raises:
        ValueError: if even the smallest file is too large; the message says its size.
    """

    def excess(data: bytes) -> float:
        return math.log2((len(data) - 0.5) / nbytes)  # a file of exactly `nbytes` bytes is below the target

    fits, exceeds = _search(encode_at, excess, max_quality, OCTAVES_PER_QUALITY, (math.log2(1 - SIZE_TOLERANCE), 0.0))
    if fits:
        return fits.data
    smallest = len(exceeds.data) if exceeds else 0
    raise ValueError(f"{nbytes} bytes are too few for this image: its smallest file has {smallest}")


def lowest_quality_above(psnr: float, max_quality: float, encode_at: EncodeAt, psnr_of_file: PsnrOfFile) -> bytes:
    """Find the file of about the lowest quality among those whose image has at least a PSNR.

    The search takes about 4 files, because PSNR rises almost linearly with quality for most images.

    Arguments:
        psnr: smallest PSNR in dB.
        max_quality: upper bound of the search.
        encode_at: encodes the image at a quality.
        psnr_of_file: measures a file.

    Raises:
        ValueError: if no file is that good; the message says the best PSNR that was tried.
    """
    measured: list[float] = []

    def excess(data: bytes) -> float:
        measured.append(psnr_of_file(data))
        return measured[-1] - psnr

    _, enough = _search(encode_at, excess, max_quality, DB_PER_QUALITY, (0.0, PSNR_TOLERANCE))
    if enough:
        return enough.data
    best = math.floor(100 * max(measured)) / 100
    raise ValueError(f"{psnr} dB cannot be reached for this image and model: the best file found has {best:.2f} dB")


class _Trial(NamedTuple):
    grid_index: int  # of the quality, 0 for the lowest one
    excess: float
    data: bytes


def _search(
    encode_at: EncodeAt,
    excess: Callable[[bytes], float],
    max_quality: float,
    slope: float,
    tolerance: tuple[float, float],
) -> tuple[_Trial | None, _Trial | None]:
    """Return the trial of highest quality with negative excess, and that of lowest quality without; None for neither.

    The search ends with a trial whose excess is within the tolerance, with two trials of neighbouring qualities, or at
    an end of the range.

    Arguments:
        encode_at: encodes the image at a quality.
        excess: distance of a file above the target; it rises with quality, by about `slope` per unit.
        max_quality: upper bound of the search.
        slope: see `excess`.
        tolerance: smallest and largest excess to end with.
    """
    last, goal, rise = round((max_quality - MIN_QUALITY) / QUALITY_GRID), sum(tolerance) / 2, slope * QUALITY_GRID
    index, leap, halved = round((min(DEFAULT_QUALITY, max_quality) - MIN_QUALITY) / QUALITY_GRID), 1, False
    below: _Trial | None = None
    above: _Trial | None = None
    trials: list[_Trial] = []  # nearest to the goal first
    while True:
        data = encode_at(max_quality - QUALITY_GRID * (last - index))
        trial = _Trial(index, excess(data), data)
        below, above = (below, trial) if trial.excess >= 0 else (trial, above)
        if tolerance[0] <= trial.excess < tolerance[1]:
            return below, above
        is_slow = bool(trials) and 2 * abs(trial.excess - goal) > abs(trials[0].excess - goal)
        trials = sorted([*trials, trial], key=lambda one: abs(one.excess - goal))
        next_index = _extrapolate(trials, goal, rise)
        if below and above:
            if above.grid_index - below.grid_index < 2:
                return below, above
            halved = is_slow and not halved  # interpolation has gained little: bisect once
            next_index = (below.grid_index + above.grid_index) // 2 if halved else next_index
            index = min(max(next_index, below.grid_index + 1), above.grid_index - 1)
        else:
            if index == (0 if above else last):
                return below, above
            next_index = min(next_index, index - leap) if above else max(next_index, index + leap)
            leap *= 2
            index = min(max(next_index, 0), last)


def _extrapolate(trials: list[_Trial], goal: float, rise: float) -> int:
    """Return the grid index of the goal on the line through the first two trials, or on one of slope `rise`."""
    first, *others = trials
    if math.isinf(first.excess):
        return 0
    if others:
        slope = (first.excess - others[0].excess) / (first.grid_index - others[0].grid_index)
        rise = min(max(slope, rise / 4), 4 * rise)
    return first.grid_index + round(min(max((goal - first.excess) / rise, -MAX_GRID_INDEX), MAX_GRID_INDEX))
