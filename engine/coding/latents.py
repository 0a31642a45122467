"""Latents to files and back: all between networks and bytes. Needs no model, only the shipped profiles."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding import entropy, palette
from sdtrt.engine.coding.entropy import DEFAULT_EFFORT, Decoded
from sdtrt.engine.coding.prior import Prior, network_prior
from sdtrt.engine.coding.prior_adaptive import AdaptivePrior, fit_adaptive
from sdtrt.engine.coding.quantized import Contents, Quantized, latents_of
from sdtrt.engine.format import container
from sdtrt.engine.format.container import DEFAULT_LIMITS, File, Header, Limits
from sdtrt.engine.format.profile import (
    ADAPTIVE_PRIOR,
    INLINE,
    PALETTE,
    PRIOR_NAMES,
    LatentProfile,
    pack,
    profile_of_file,
)
from sdtrt.errors import FormatError, LimitError
from sdtrt.kernels import reference

Floats = NDArray[np.float32]
Symbols = NDArray[np.int16]


def file_of_latents(
    latents: Floats,
    width: int,
    height: int,
    profile: LatentProfile,
    step_code: int,
    *,
    effort: int = DEFAULT_EFFORT,
    grey: bool = False,
    chunks: Mapping[int, bytes] | None = None,
) -> File:
    """Return the file of a picture's latents, float32 (C, h, w); `effort` 1 (fast) to 9 (slow).

    Raises `ValueError` if the latents are not finite or their shape is not that of a `width` x `height` picture.
    """
    require_shape(latents, width, height, profile)
    header = Header(width, height, profile.id, profile.prior, step_code, grey)
    prior: Prior
    scaled = reference.normalise(latents, profile.mean, deltas(profile, header))
    if profile.prior == ADAPTIVE_PRIOR:
        fitted = fit_adaptive(np.rint(scaled).astype(np.int16))
        parameters, prior = fitted.parameters.tobytes(), fitted
    else:
        parameters, prior = b"", network_prior(PRIOR_NAMES[profile.prior])
    payload = parameters + entropy.encode_best(scaled, prior, step_code, effort)
    own = {container.PROFILE: pack(profile)} if profile.id == INLINE else {}
    return File(header, payload, {**(chunks or {}), **own})


def palette_file(
    latents: Floats,
    width: int,
    height: int,
    profile: LatentProfile,
    *,
    grey: bool = False,
    chunks: Mapping[int, bytes] | None = None,
) -> File:
    """Return a file by the method of `palette`; errors as in `file_of_latents`, and for other than 4 channels."""
    require_shape(latents, width, height, profile)
    if profile.channels != palette.CHANNELS or profile.id == INLINE:
        raise ValueError(f"method palette is for known latent spaces of 4 channels; {profile.latent_space} is none")
    if not np.isfinite(latents).all():
        raise ValueError("latents hold values that are not finite")
    return File(Header(width, height, profile.id, PALETTE, 0, grey), palette.encode(latents), dict(chunks or {}))


def require_shape(latents: Floats, width: int, height: int, profile: LatentProfile) -> None:
    """Raise `ValueError` if latents do not have the shape of a `width` x `height` picture's."""
    grid = profile.grid(width, height)
    if latents.shape != grid:
        raise ValueError(f"latents of shape {latents.shape}; {width}x{height} in {profile.latent_space} has {grid}")


def latents_of_file(file: File, limits: Limits = DEFAULT_LIMITS) -> Floats:
    """Return a file's latents, float32 (C, h, w); errors as in `symbols_of_file`."""
    return latents_of(quantized_of_file(file, limits))


def quantized_of_file(file: File, limits: Limits = DEFAULT_LIMITS) -> Contents:
    """Return a file's latents in quantized form, those of method palette as float32 (C, h, w); errors as above."""
    profile = profile_of_file(file)
    if file.header.prior == PALETTE:
        if profile.channels != palette.CHANNELS:
            raise FormatError(f"method palette is for 4 channels, {profile.latent_space} has {profile.channels}")
        return palette.decode(file.payload, _shape(file.header, profile, limits))
    decoded = decoded_file(file, limits)
    points = profile.offset if decoded.points is None else decoded.points
    return Quantized(decoded.symbols, profile.mean, deltas(profile, file.header), points)


def symbols_of_file(file: File, limits: Limits = DEFAULT_LIMITS) -> Symbols:
    """Return a file's symbols, int16 (C, h, w).

    Raises `FormatError` if its payload is damaged or a palette's, `LimitError` if there are more symbols than
    `limits` has pixels: a file's own profile may give each pixel 255 of them.
    """
    return decoded_file(file, limits).symbols


def decoded_file(file: File, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """Return a file's symbols and what its prior tells of their latents; errors as in `symbols_of_file`."""
    profile = profile_of_file(file)
    shape = _shape(file.header, profile, limits)
    prior, payload = _prior_of_file(file, profile)
    return entropy.decode(payload, shape, prior, file.header.step_code)


def _shape(header: Header, profile: LatentProfile, limits: Limits) -> tuple[int, int, int]:
    shape = profile.grid(header.width, header.height)
    if math.prod(shape) > limits.max_pixels:
        raise LimitError(f"latents of shape {shape}, {math.prod(shape)} values; the limit is {limits.max_pixels}")
    return shape


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
    if identifier == PALETTE:
        raise FormatError("the file was made by method palette: it has latents, but no symbols")
    if identifier not in PRIOR_NAMES:
        raise FormatError(f"prior {identifier} is unknown; a later sdtrt may read this file")
    return network_prior(PRIOR_NAMES[identifier]), file.payload
