"""Parsing of the prior that comes with a model: an untrusted `.npz` file, which is checked completely before use."""

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
from sdtrt.engine.coding.priors.network_prior import ARRAY_NAMES, KNOTS, NetworkPrior, prior_from_arrays
from sdtrt.engine.coding.priors.passes import MARGIN, Phase
from sdtrt.engine.coding.priors.prior_layout import Architecture, LatentPass, parse_architecture
from sdtrt.engine.coding.priors.tables import NUM_BINS, NUM_SCALES, OFFSET_UNITS, PRECISION, SUBSYMBOL_STEPS
from sdtrt.engine.format.index import LEVELS_MASK
from sdtrt.errors import BundleError

MAX_NBYTES = 1 << 26  # of all arrays, unpacked; the shipped priors have at most 2 MB
MAX_ARCHITECTURE = 1 << 20  # bytes of JSON
MAX_PASSES, MAX_INPUTS = 1 << 10, 1 << 12
MAX_CHANNELS = 255
MAX_SPACING = 255  # in 1/64 step
MAX_ITEMSIZE = 4  # bytes of an integer
MAX_CUTS = LEVELS_MASK - 1  # the index of a file has at most 7 levels
MAX_SHOWN = 60  # characters of a sequence in a message
STRIDES = (2, 4, 8)  # powers of two: the pattern of all passes repeats with the largest

# The exceptions of `zipfile` and NumPy for malformed input.
READ_ERRORS = (
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
    """Return the prior in the bytes of a prior's file; `BundleError` if they are malformed or exceed a limit."""
    arrays = read_npz(data)
    try:
        nbytes = arrays["architecture"].nbytes
        if nbytes > MAX_ARCHITECTURE:
            raise ValueError(f"an architecture of {nbytes} bytes, the limit is {MAX_ARCHITECTURE}")
        architecture = parse_architecture(bytes(arrays["architecture"]).decode())
        check_architecture(architecture)
        check_arrays(architecture, arrays)
        return prior_from_arrays(arrays)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BundleError(f"prior is malformed: {error!r}") from error


def read_npz(data: bytes) -> Arrays:
    """Return the arrays of an `.npz` file; `BundleError` if it is malformed or too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            nbytes = sum(member.file_size for member in archive.infolist())
            if nbytes > MAX_NBYTES:
                raise BundleError(f"prior of {nbytes} bytes, the limit is {MAX_NBYTES}")
            return {member.filename.removesuffix(".npy"): read_npy(archive, member) for member in archive.infolist()}
    except READ_ERRORS as error:
        raise BundleError(f"prior is not an .npz file: {error}") from error


def read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> AnyArray:
    """Return the integer array of a member of an `.npz` file; at most its declared size is read."""
    with archive.open(member) as file:
        stream = io.BytesIO(file.read(member.file_size))
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{member.filename} has version {version} of the .npy format, expected (1, 0)")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    values = stream.read()
    # Wider integers would be rounded when they become float32.
    if dtype.kind not in "iu" or dtype.itemsize > MAX_ITEMSIZE or fortran_order:
        expected = f"expected C-ordered integers of at most {MAX_ITEMSIZE} bytes"
        raise ValueError(f"{member.filename} is {dtype} {shape}{' in Fortran order' * fortran_order}, {expected}")
    if len(values) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{member.filename} is {dtype} {shape}, but has {len(values)} bytes")
    return np.frombuffer(values, dtype).reshape(shape)


def check_architecture(architecture: Architecture) -> None:
    """Raise `ValueError` unless the passes code each channel at each position once, with windows within the margin.

    A window may include positions of later passes: they are 0 in the encoder and the decoder.
    """
    channels, passes = len(architecture.order), architecture.passes
    if sorted(architecture.order) != list(range(channels)) or not 0 < channels <= MAX_CHANNELS:
        expected = f"expected each of 0 to {channels - 1} once, for at most {MAX_CHANNELS} channels"
        raise ValueError(f"the channel order {_shortened(architecture.order)} is no permutation: {expected}")
    if not 0 < len(passes) <= MAX_PASSES:
        raise ValueError(f"{len(passes)} passes, expected 1 to {MAX_PASSES}")
    cuts = architecture.cuts
    are_valid = all(type(cut) is int and 0 < cut < len(passes) for cut in cuts)
    if not are_valid or len(cuts) > MAX_CUTS or [*cuts] != sorted({*cuts}):
        expected = f"expected at most {MAX_CUTS} numbers from 1 to {len(passes) - 1} in rising order"
        raise ValueError(f"the cuts {_shortened(cuts)} between passes are invalid: {expected}")
    period = max(STRIDES)
    times_coded = np.zeros((channels, period, period), np.int64)
    for coding_pass in passes:
        check_pass(coding_pass, channels)
        stride = coding_pass.phase.stride
        for y, x in coding_pass.phase.offsets:
            times_coded[coding_pass.start : coding_pass.stop, y::stride, x::stride] += 1
    if (times_coded != 1).any():
        raise ValueError("the passes do not code each channel at each position exactly once")


def _shortened(numbers: Sequence[object]) -> str:
    """Return a sequence as text, cut off after `MAX_SHOWN` characters."""
    text = str(tuple(numbers))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def check_pass(coding_pass: LatentPass, channels: int) -> None:
    for window in coding_pass.values + coding_pass.magnitudes:
        are_integers = all(type(n) is int for n in (window.first, window.last, window.dy, window.dx))
        is_within_margin = are_integers and max(abs(window.dy), abs(window.dx)) <= MARGIN
        if not (is_within_margin and 0 <= window.first < window.last <= channels):
            expected = f"expected channels within 0 to {channels} and offsets of at most {MARGIN}"
            raise ValueError(f"{window} is invalid: {expected}")
    if not 0 <= coding_pass.start < coding_pass.stop <= channels or coding_pass.inputs > MAX_INPUTS:
        raise ValueError(
            f"a pass over channels {coding_pass.start} to {coding_pass.stop} with {coding_pass.inputs} inputs, "
            f"expected channels within 0 to {channels} and at most {MAX_INPUTS} inputs"
        )
    if (
        type(coding_pass.predicted) is not bool
        or type(coding_pass.spacing) is not int
        or not 0 < coding_pass.spacing <= MAX_SPACING
    ):
        raise ValueError(
            f"a pass with predicted {coding_pass.predicted!r} and spacing {coding_pass.spacing!r}, "
            f"expected a truth value and a spacing of 1 to {MAX_SPACING}"
        )
    if coding_pass.spacing != OFFSET_UNITS and not coding_pass.predicted:
        raise ValueError(f"a spacing of {coding_pass.spacing} in a pass that is not predicted, expected {OFFSET_UNITS}")
    check_phase(coding_pass.phase)


def check_phase(phase: Phase) -> None:
    are_inside = all(0 <= y < phase.stride and 0 <= x < phase.stride for y, x in phase.offsets)
    if phase.stride not in STRIDES or not are_inside or len({*phase.offsets}) != len(phase.offsets):
        expected = f"expected a stride of {', '.join(map(str, STRIDES))} and different origins within it"
        raise ValueError(f"{phase} is invalid: {expected}")


def check_arrays(architecture: Architecture, arrays: Arrays) -> None:
    """Raise `ValueError` unless the arrays fit the architecture, and each row of the tables is a distribution."""
    names = {"architecture", "tables"} | {f"{name}{n}" for n in range(len(architecture.passes)) for name in ARRAY_NAMES}
    if missing := names - arrays.keys():
        raise ValueError(f"missing arrays: {sorted(missing)[:3]}")
    if unknown := arrays.keys() - names - {"centroids"}:
        raise ValueError(f"unknown arrays: {sorted(unknown)[:3]}")
    for n, coding_pass in enumerate(architecture.passes):
        units, outputs = arrays[f"second{n}"].shape[-1], 2 * (coding_pass.stop - coding_pass.start)
        second_units = len(arrays[f"second{n}"])
        shapes = {
            "first": (units + outputs, coding_pass.inputs + KNOTS),
            "first_bias": (units + outputs,),
            "second": (second_units, units),
            "second_bias": (second_units,),
            "output": (outputs, second_units),
        }
        for name in ARRAY_NAMES:
            if arrays[f"{name}{n}"].shape != shapes[name]:
                raise ValueError(f"{name}{n} of shape {arrays[f'{name}{n}'].shape}, expected {shapes[name]}")
    tables = arrays["tables"]
    if tables.shape != (NUM_SCALES * SUBSYMBOL_STEPS, NUM_BINS) or tables.dtype != np.uint32 or not tables.all():
        raise ValueError(
            f"tables {tables.dtype} {tables.shape}, expected uint32 {(NUM_SCALES * SUBSYMBOL_STEPS, NUM_BINS)} "
            "without zeros"
        )
    if (tables.sum(1, dtype=np.uint64) != 1 << PRECISION).any():
        raise ValueError("a row of the tables does not sum to 2**24")
    centroids = arrays.get("centroids")
    if centroids is not None and (centroids.shape != tables.shape or centroids.dtype != np.int8):
        raise ValueError(f"centroids {centroids.dtype} {centroids.shape}, expected int8 {tables.shape}")
