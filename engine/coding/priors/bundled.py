"""Priors that come with a model: files of unknown origin, read with limits and checked before they are used."""

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.architecture import Architecture, LatentPass, parse_architecture
from sdtrt.engine.coding.priors.latents import KNOTS, LatentPrior, Network, latent_prior
from sdtrt.engine.coding.priors.passes import Phase
from sdtrt.engine.coding.priors.planes import MARGIN
from sdtrt.engine.coding.priors.tables import BINS, FRACTIONS, POINTS, PRECISION, SCALES
from sdtrt.engine.format.index import LEVELS_MASK
from sdtrt.errors import BundleError

LARGEST_NBYTES = 1 << 26  # of all arrays, unpacked: the shipped priors have 2 MB at most
LARGEST_ARCHITECTURE = 1 << 20  # bytes of JSON
MOST_PASSES, MOST_INPUTS = 1 << 10, 1 << 12
MOST_CHANNELS = 255
LARGEST_SPACING = 255  # in 1/64 step
WIDEST = 4  # bytes, of an integer: wider ones would be rounded when they become float32
MOST_CUTS = LEVELS_MASK - 1  # into as many levels as a file's index can tell
SHOWN = 60  # characters of a sequence in a message
STRIDES = (2, 4, 8)  # whose positions repeat within the largest

# What `zipfile` and NumPy raise for what they cannot read.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)

Arrays = dict[str, NDArray[Any]]


@lru_cache(8)
def bundled_prior(data: bytes) -> LatentPrior:
    """Return the prior in the bytes of a prior's file; `BundleError` if they are none, or more than a prior can be."""
    arrays = unpacked(data)
    try:
        if arrays["architecture"].nbytes > LARGEST_ARCHITECTURE:
            raise ValueError(f"an architecture of more than {LARGEST_ARCHITECTURE} bytes")
        architecture = parse_architecture(bytes(arrays["architecture"]).decode())
        require_architecture(architecture)
        require_arrays(architecture, arrays)
        return latent_prior(arrays)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BundleError(f"prior is malformed: {error!r}") from error


def unpacked(data: bytes) -> Arrays:
    """Return the arrays of an `.npz` file; `BundleError` if it is none or too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            nbytes = sum(member.file_size for member in archive.infolist())
            if nbytes > LARGEST_NBYTES:
                raise BundleError(f"prior of {nbytes} bytes, the limit is {LARGEST_NBYTES}")
            return {member.filename.removesuffix(".npy"): array_of(archive, member) for member in archive.infolist()}
    except UNREADABLE as error:
        raise BundleError(f"prior is not an .npz file: {error}") from error


def array_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Return a member's array, which must be of integers; of no more bytes than the archive says are read."""
    with archive.open(member) as file:
        stream = io.BytesIO(file.read(member.file_size))
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{member.filename} is of another version")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    values = stream.read()
    if (
        dtype.kind not in "iu"
        or dtype.itemsize > WIDEST
        or by_columns
        or len(values) != math.prod(shape) * dtype.itemsize
    ):
        raise ValueError(f"{member.filename} holds {dtype} {shape} in {len(values)} bytes, expected integers")
    return np.frombuffer(values, dtype).reshape(shape)


def require_architecture(architecture: Architecture) -> None:
    """Raise `ValueError` unless passes cover every channel at every position once, and look no farther than they may.

    What is looked at and not yet known is 0 to encoder and decoder alike, so nothing is wrong with that.
    """
    channels, passes = len(architecture.order), architecture.passes
    if sorted(architecture.order) != list(range(channels)) or not 0 < channels <= MOST_CHANNELS:
        expected = f"expected each of 0 to {channels - 1} once, for at most {MOST_CHANNELS} channels"
        raise ValueError(f"the channel order {_shortened(architecture.order)} is no permutation: {expected}")
    if not 0 < len(passes) <= MOST_PASSES:
        raise ValueError(f"{len(passes)} passes, expected 1 to {MOST_PASSES}")
    cuts = architecture.cuts
    whole = all(type(cut) is int and 0 < cut < len(passes) for cut in cuts)
    if not whole or len(cuts) > MOST_CUTS or [*cuts] != sorted({*cuts}):
        expected = f"expected at most {MOST_CUTS} numbers from 1 to {len(passes) - 1} in rising order"
        raise ValueError(f"the cuts {_shortened(cuts)} between passes are invalid: {expected}")
    period = max(STRIDES)
    covered = np.zeros((channels, period, period), np.int64)
    for step in passes:
        require_pass(step, channels)
        for y, x in step.phase.origins:
            covered[step.start : step.stop, y :: step.phase.stride, x :: step.phase.stride] += 1
    if (covered != 1).any():
        raise ValueError("the passes do not code each channel at each position exactly once")


def _shortened(numbers: Sequence[object]) -> str:
    """Return a sequence as text, of a long one the start."""
    text = str(tuple(numbers))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def require_pass(step: LatentPass, channels: int) -> None:
    for window in step.values + step.magnitudes:
        whole = all(type(n) is int for n in (window.first, window.last, window.dy, window.dx))
        near = whole and max(abs(window.dy), abs(window.dx)) <= MARGIN
        if not (near and 0 <= window.first < window.last <= channels):
            expected = f"expected channels within 0 to {channels} and offsets of at most {MARGIN}"
            raise ValueError(f"{window} is invalid: {expected}")
    if not 0 <= step.start < step.stop <= channels or step.inputs > MOST_INPUTS:
        raise ValueError(f"a pass over channels {step.start} to {step.stop}, with {step.inputs} inputs")
    if type(step.predicted) is not bool or type(step.spacing) is not int or not 0 < step.spacing <= LARGEST_SPACING:
        raise ValueError(f"predicted {step.predicted}, with a spacing of {step.spacing}")
    if step.spacing != POINTS and not step.predicted:
        raise ValueError(f"a spacing of {step.spacing} where nothing is predicted")
    require_phase(step.phase)


def require_phase(phase: Phase) -> None:
    inside = all(0 <= y < phase.stride and 0 <= x < phase.stride for y, x in phase.origins)
    if phase.stride not in STRIDES or not inside or len({*phase.origins}) != len(phase.origins):
        expected = f"expected a stride of {', '.join(map(str, STRIDES))} and different origins within it"
        raise ValueError(f"{phase} is invalid: {expected}")


def require_arrays(architecture: Architecture, arrays: Arrays) -> None:
    """Raise `ValueError` unless the arrays are those of the architecture's networks, and tables are distributions."""
    wanted = {"architecture", "tables"} | {
        f"{field}{n}" for n in range(len(architecture.passes)) for field in Network.__slots__
    }
    if arrays.keys() - {"centroids"} != wanted:
        raise ValueError(f"other arrays than expected: {sorted(arrays.keys() ^ wanted)[:3]}")
    for n, step in enumerate(architecture.passes):
        units, outputs = arrays[f"second{n}"].shape[-1], 2 * (step.stop - step.start)
        seconds = len(arrays[f"second{n}"])
        shapes = {
            "first": (units + outputs, step.inputs + KNOTS),
            "first_bias": (units + outputs,),
            "second": (seconds, units),
            "second_bias": (seconds,),
            "output": (outputs, seconds),
        }
        for field, shape in shapes.items():
            if arrays[f"{field}{n}"].shape != shape:
                raise ValueError(f"{field}{n} of shape {arrays[f'{field}{n}'].shape}, expected {shape}")
    tables = arrays["tables"]
    if tables.shape != (SCALES * FRACTIONS, BINS) or tables.dtype != np.uint32 or not tables.all():
        raise ValueError(f"tables {tables.dtype} {tables.shape}, expected uint32 {(SCALES * FRACTIONS, BINS)}, above 0")
    if (tables.sum(1, dtype=np.uint64) != 1 << PRECISION).any():
        raise ValueError("tables whose weights do not sum to 2**24")
    centroids = arrays.get("centroids")
    if centroids is not None and (centroids.shape != tables.shape or centroids.dtype != np.int8):
        raise ValueError(f"centroids {centroids.dtype} {centroids.shape}, expected int8 {tables.shape}")
