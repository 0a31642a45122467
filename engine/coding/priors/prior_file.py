"""Priors that come with a model: files of unknown origin, read with limits and checked before they are used."""

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sdtrt._arrays import AnyArray
from sdtrt.engine.coding.priors.network_prior import KNOTS, NetworkPrior, PassNetwork, prior_from_arrays
from sdtrt.engine.coding.priors.padded_planes import MARGIN
from sdtrt.engine.coding.priors.passes import Phase
from sdtrt.engine.coding.priors.prior_layout import Architecture, LatentPass, parse_architecture
from sdtrt.engine.coding.priors.tables import NUM_BINS, NUM_SCALES, OFFSET_UNITS, PRECISION, SUBSYMBOL_STEPS
from sdtrt.engine.format.index import LEVELS_MASK
from sdtrt.errors import BundleError

MAX_NBYTES = 1 << 26  # of all arrays, unpacked: the shipped priors have 2 MB at most
MAX_ARCHITECTURE = 1 << 20  # bytes of JSON
MAX_PASSES, MAX_INPUTS = 1 << 10, 1 << 12
MAX_CHANNELS = 255
MAX_SPACING = 255  # in 1/64 step
MAX_ITEMSIZE = 4  # bytes, of an integer: wider ones would be rounded when they become float32
MAX_CUTS = LEVELS_MASK - 1  # into as many levels as a file's index can tell
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

Arrays = dict[str, AnyArray]


@lru_cache(8)
def parse_prior(data: bytes) -> NetworkPrior:
    """Return the prior in the bytes of a prior's file; `BundleError` if they are none, or more than a prior can be."""
    arrays = read_npz(data)
    try:
        if arrays["architecture"].nbytes > MAX_ARCHITECTURE:
            raise ValueError(f"an architecture of more than {MAX_ARCHITECTURE} bytes")
        architecture = parse_architecture(bytes(arrays["architecture"]).decode())
        check_architecture(architecture)
        check_arrays(architecture, arrays)
        return prior_from_arrays(arrays)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BundleError(f"prior is malformed: {error!r}") from error


def read_npz(data: bytes) -> Arrays:
    """Return the arrays of an `.npz` file; `BundleError` if it is none or too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            nbytes = sum(member.file_size for member in archive.infolist())
            if nbytes > MAX_NBYTES:
                raise BundleError(f"prior of {nbytes} bytes, the limit is {MAX_NBYTES}")
            return {member.filename.removesuffix(".npy"): read_npy(archive, member) for member in archive.infolist()}
    except UNREADABLE as error:
        raise BundleError(f"prior is not an .npz file: {error}") from error


def read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> AnyArray:
    """Return a member's array, which must be of integers; of no more bytes than the archive says are read."""
    with archive.open(member) as file:
        stream = io.BytesIO(file.read(member.file_size))
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{member.filename} is of another version")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    values = stream.read()
    if (
        dtype.kind not in "iu"
        or dtype.itemsize > MAX_ITEMSIZE
        or by_columns
        or len(values) != math.prod(shape) * dtype.itemsize
    ):
        raise ValueError(f"{member.filename} holds {dtype} {shape} in {len(values)} bytes, expected integers")
    return np.frombuffer(values, dtype).reshape(shape)


def check_architecture(architecture: Architecture) -> None:
    """Raise `ValueError` unless passes cover every channel at every position once, and look no farther than they may.

    What is looked at and not yet known is 0 to encoder and decoder alike, so nothing is wrong with that.
    """
    channels, passes = len(architecture.order), architecture.passes
    if sorted(architecture.order) != list(range(channels)) or not 0 < channels <= MAX_CHANNELS:
        expected = f"expected each of 0 to {channels - 1} once, for at most {MAX_CHANNELS} channels"
        raise ValueError(f"the channel order {_shortened(architecture.order)} is no permutation: {expected}")
    if not 0 < len(passes) <= MAX_PASSES:
        raise ValueError(f"{len(passes)} passes, expected 1 to {MAX_PASSES}")
    cuts = architecture.cuts
    whole = all(type(cut) is int and 0 < cut < len(passes) for cut in cuts)
    if not whole or len(cuts) > MAX_CUTS or [*cuts] != sorted({*cuts}):
        expected = f"expected at most {MAX_CUTS} numbers from 1 to {len(passes) - 1} in rising order"
        raise ValueError(f"the cuts {_shortened(cuts)} between passes are invalid: {expected}")
    period = max(STRIDES)
    covered = np.zeros((channels, period, period), np.int64)
    for coding_pass in passes:
        check_pass(coding_pass, channels)
        for y, x in coding_pass.phase.offsets:
            covered[
                coding_pass.start : coding_pass.stop, y :: coding_pass.phase.stride, x :: coding_pass.phase.stride
            ] += 1
    if (covered != 1).any():
        raise ValueError("the passes do not code each channel at each position exactly once")


def _shortened(numbers: Sequence[object]) -> str:
    """Return a sequence as text, of a long one the start."""
    text = str(tuple(numbers))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def check_pass(coding_pass: LatentPass, channels: int) -> None:
    for window in coding_pass.values + coding_pass.magnitudes:
        whole = all(type(n) is int for n in (window.first, window.last, window.dy, window.dx))
        near = whole and max(abs(window.dy), abs(window.dx)) <= MARGIN
        if not (near and 0 <= window.first < window.last <= channels):
            expected = f"expected channels within 0 to {channels} and offsets of at most {MARGIN}"
            raise ValueError(f"{window} is invalid: {expected}")
    if not 0 <= coding_pass.start < coding_pass.stop <= channels or coding_pass.inputs > MAX_INPUTS:
        raise ValueError(
            f"a pass over channels {coding_pass.start} to {coding_pass.stop}, with {coding_pass.inputs} inputs"
        )
    if (
        type(coding_pass.predicted) is not bool
        or type(coding_pass.spacing) is not int
        or not 0 < coding_pass.spacing <= MAX_SPACING
    ):
        raise ValueError(f"predicted {coding_pass.predicted}, with a spacing of {coding_pass.spacing}")
    if coding_pass.spacing != OFFSET_UNITS and not coding_pass.predicted:
        raise ValueError(f"a spacing of {coding_pass.spacing} where nothing is predicted")
    check_phase(coding_pass.phase)


def check_phase(phase: Phase) -> None:
    inside = all(0 <= y < phase.stride and 0 <= x < phase.stride for y, x in phase.offsets)
    if phase.stride not in STRIDES or not inside or len({*phase.offsets}) != len(phase.offsets):
        expected = f"expected a stride of {', '.join(map(str, STRIDES))} and different origins within it"
        raise ValueError(f"{phase} is invalid: {expected}")


def check_arrays(architecture: Architecture, arrays: Arrays) -> None:
    """Raise `ValueError` unless the arrays are those of the architecture's networks, and tables are distributions."""
    wanted = {"architecture", "tables"} | {
        f"{field}{n}" for n in range(len(architecture.passes)) for field in PassNetwork.__slots__
    }
    if arrays.keys() - {"centroids"} != wanted:
        raise ValueError(f"other arrays than expected: {sorted(arrays.keys() ^ wanted)[:3]}")
    for n, coding_pass in enumerate(architecture.passes):
        units, outputs = arrays[f"second{n}"].shape[-1], 2 * (coding_pass.stop - coding_pass.start)
        seconds = len(arrays[f"second{n}"])
        shapes = {
            "first": (units + outputs, coding_pass.inputs + KNOTS),
            "first_bias": (units + outputs,),
            "second": (seconds, units),
            "second_bias": (seconds,),
            "output": (outputs, seconds),
        }
        for field, shape in shapes.items():
            if arrays[f"{field}{n}"].shape != shape:
                raise ValueError(f"{field}{n} of shape {arrays[f'{field}{n}'].shape}, expected {shape}")
    tables = arrays["tables"]
    if tables.shape != (NUM_SCALES * SUBSYMBOL_STEPS, NUM_BINS) or tables.dtype != np.uint32 or not tables.all():
        raise ValueError(
            f"tables {tables.dtype} {tables.shape}, expected uint32 {(NUM_SCALES * SUBSYMBOL_STEPS, NUM_BINS)}, above 0"
        )
    if (tables.sum(1, dtype=np.uint64) != 1 << PRECISION).any():
        raise ValueError("tables whose weights do not sum to 2**24")
    centroids = arrays.get("centroids")
    if centroids is not None and (centroids.shape != tables.shape or centroids.dtype != np.int8):
        raise ValueError(f"centroids {centroids.dtype} {centroids.shape}, expected int8 {tables.shape}")
