"""Latents to files and back: all between networks and bytes. Needs no model, only the shipped profiles."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine import container, entropy
from sdtrt.engine.container import DEFAULT_LIMITS, File, Header, Limits
from sdtrt.engine.prior import AdaptivePrior, Prior, network_prior
from sdtrt.engine.profile import ADAPTIVE_PRIOR, INLINE, PRIOR_NAMES, LatentProfile, pack, profile_of_file
from sdtrt.errors import FormatError, LimitError
from sdtrt.kernels import reference

Floats = NDArray[np.float32]
Symbols = NDArray[np.int16]

# How much wider, in steps, the zero bin is on either side: 0.3 dB better at equal bytes than none, and the best of
# five widths, on the training photos (benchmarks/dead_zone.py, results/dead_zone.json).
DEAD_ZONE = 0.12


def file_of_latents(
    latents: Floats,
    width: int,
    height: int,
    profile: LatentProfile,
    step_code: int,
    *,
    grey: bool = False,
    chunks: Mapping[int, bytes] | None = None,
) -> File:
    """Return the file of a picture's latents, float32 (C, h, w).

    Raises `ValueError` if the latents are not finite or their shape is not that of a `width` x `height` picture.
    """
    grid = profile.grid(width, height)
    if latents.shape != grid:
        raise ValueError(f"latents of shape {latents.shape}; {width}x{height} in {profile.latent_space} has {grid}")
    header = Header(width, height, profile.id, profile.prior, step_code, grey)
    symbols = reference.quantize(latents, profile.mean, deltas(profile, header), DEAD_ZONE)
    parameters, prior = b"", None
    if profile.prior == ADAPTIVE_PRIOR:
        fitted = entropy.fit_adaptive(symbols)
        parameters, prior = fitted.tobytes(), AdaptivePrior(fitted)
    payload = parameters + entropy.encode(symbols, prior or network_prior(PRIOR_NAMES[profile.prior]), step_code)
    own = {container.PROFILE: pack(profile)} if profile.id == INLINE else {}
    return File(header, payload, {**(chunks or {}), **own})


def latents_of_file(file: File, limits: Limits = DEFAULT_LIMITS) -> Floats:
    """Return a file's latents, float32 (C, h, w); `FormatError` if its payload is damaged."""
    profile = profile_of_file(file)
    return reference.dequantize(
        symbols_of_file(file, limits), profile.mean, deltas(profile, file.header), profile.offset
    )


def symbols_of_file(file: File, limits: Limits = DEFAULT_LIMITS) -> Symbols:
    """Return a file's symbols, int16 (C, h, w).

    Raises `FormatError` if its payload is damaged, `LimitError` if there are more symbols than `limits` has pixels:
    a file's own profile may give each pixel 255 of them.
    """
    header, profile = file.header, profile_of_file(file)
    shape = profile.grid(header.width, header.height)
    if math.prod(shape) > limits.max_pixels:
        raise LimitError(f"latents of shape {shape}, {math.prod(shape)} values; the limit is {limits.max_pixels}")
    prior, payload = _prior_of_file(file, profile)
    return entropy.decode(payload, shape, prior, header.step_code)


def deltas(profile: LatentProfile, header: Header) -> Floats:
    """Return the quantizer's step of each channel in units of its latents, float32 (C,)."""
    return profile.spread * profile.weight * np.float32(header.step)


def _prior_of_file(file: File, profile: LatentProfile) -> tuple[Prior, bytes]:
    """Return the prior that a file names, and what of the payload is left for the entropy coder."""
    identifier = file.header.prior
    if identifier == ADAPTIVE_PRIOR:
        nbytes = AdaptivePrior.PARAMETERS * profile.channels
        if len(file.payload) < nbytes:
            raise FormatError(f"payload of {len(file.payload)} bytes, the prior's parameters alone take {nbytes}")
        parameters = np.frombuffer(file.payload, np.uint8, nbytes).reshape(profile.channels, -1)
        return AdaptivePrior(parameters), file.payload[nbytes:]
    if identifier not in PRIOR_NAMES:
        raise FormatError(f"prior {identifier} is unknown; a later sdtrt may read this file")
    return network_prior(PRIOR_NAMES[identifier]), file.payload
