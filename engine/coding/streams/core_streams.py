"""Streams of tiles by the compiled core, see `kernels.core`. `numpy_streams` does the same in NumPy.

A call does not hold Python's lock while it works, so that threads may decode several tiles at once.
"""

import math
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, I16Array, U32Array
from sdtrt.engine.coding.priors.core_prior import core_prior, tile_numbers
from sdtrt.engine.coding.priors.passes import non_empty
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.rdoq import LambdaMap
from sdtrt.engine.coding.streams.damage import Damage, error_of
from sdtrt.engine.coding.streams.decoded import DecodedStream, ReadRules, StreamEnd, TileParameters
from sdtrt.kernels import core

MIN_SYMBOLS_FOR_THREADS = 50_000


def decode(
    words: U32Array | None, tile: TileParameters, prior: Prior, rules: ReadRules
) -> tuple[DecodedStream, StreamEnd]:
    """Decode the passes of a stream; arguments and errors are those of `numpy_streams.decode`."""
    prior.order(tile.shape[0])  # raises for another number of channels
    symbols = np.zeros(tile.shape, np.int16)
    offsets = np.zeros(tile.shape, np.int32) if prior.has_recon_offsets else None
    code, announced, passes_read, passes_missing, *end = _module().decode_stream(
        core_prior(prior),
        tile_numbers(*tile),
        np.empty(0, np.uint32) if words is None else words,
        rules.end,
        np.array(rules.cuts, np.int32),
        np.array(rules.words_after_cuts, np.int64),
        rules.complete_passes is not None,
        rules.complete_passes or 0,
        words is None,
        _threads(tile),
        symbols,
        offsets,
    )
    damage = Damage(code)
    if damage is Damage.TOO_MANY_PASSES:
        raise error_of(damage, announced, len(non_empty(prior.passes(tile.shape[0]), *tile.shape[1:])))
    if damage is not Damage.NONE:
        raise error_of(damage)
    return DecodedStream(symbols, offsets, passes_read, passes_missing), StreamEnd(*map(bool, end))


def encode_symbols(symbols: I16Array, tile: TileParameters, prior: Prior) -> tuple[bytes, list[int]]:
    """Encode symbols; arguments and result are those of `numpy_streams.encode_symbols`."""
    count = len(prior.passes(tile.shape[0]))
    return _encode(np.ascontiguousarray(symbols, np.int16), None, 0.0, None, count, tile, prior)


def encode_latents(
    scaled: F32Array, lmbda: LambdaMap, count: int, tile: TileParameters, prior: Prior
) -> tuple[bytes, list[int]]:
    """Quantize and encode latents; arguments and result are those of `numpy_streams.encode_latents`."""
    return _encode(None, np.ascontiguousarray(scaled, np.float32), *_lambdas(lmbda), count, tile, prior)


def quantize(scaled: F32Array, lmbda: LambdaMap, tile: TileParameters, prior: Prior) -> I16Array:
    """Quantize latents by RDOQ, pass by pass; arguments as of `encode_latents`. Returns int16 (C, h, w)."""
    symbols = np.empty(tile.shape, np.int16)
    latents = np.ascontiguousarray(scaled, np.float32)
    _module().quantize(core_prior(prior), tile_numbers(*tile), latents, *_lambdas(lmbda), _threads(tile), symbols)
    return symbols


def rate_and_distortion(
    symbols: I16Array, scaled: F32Array, tile: TileParameters, prior: Prior
) -> tuple[F32Array, F32Array, F32Array]:
    """Compute rate and error of symbols, float32 (C, h, w) each.

    Arguments:
        symbols: int16 (C, h, w).
        scaled: float32 (C, h, w), latents in quantization steps.
        tile: shape, quantization step and edges of the tile.
        prior: the entropy model.

    Returns the bits of each symbol; latent minus symbol; and latent minus reconstruction, both in distances of
    neighbouring symbols.
    """
    bits, remainder, error = (np.empty(tile.shape, np.float32) for _ in range(3))
    arrays = np.ascontiguousarray(symbols, np.int16), np.ascontiguousarray(scaled, np.float32)
    _module().rate_and_distortion(
        core_prior(prior), tile_numbers(*tile), *arrays, _threads(tile), bits, remainder, error
    )
    return bits, remainder, error


def _encode(
    symbols: I16Array | None,
    scaled: F32Array | None,
    lmbda: float,
    lambda_map: F32Array | None,
    count: int,
    tile: TileParameters,
    prior: Prior,
) -> tuple[bytes, list[int]]:
    prior.order(tile.shape[0])  # raises for another number of channels
    cuts = np.array(prior.cuts, np.int32)
    numbers = tile_numbers(*tile)
    stream: tuple[bytes, list[int]] = _module().encode_stream(
        core_prior(prior), numbers, symbols, scaled, lmbda, lambda_map, count, cuts, _threads(tile)
    )
    return stream


def _threads(tile: TileParameters) -> int:
    """Return how many threads share the positions of a tile; small tiles are not worth a second one."""
    return core.threads_in_tile() if math.prod(tile.shape) >= MIN_SYMBOLS_FOR_THREADS else 1


def _lambdas(lmbda: LambdaMap) -> tuple[float, F32Array | None]:
    """Return a lambda for all positions, and a map in its place or None."""
    return (lmbda, None) if isinstance(lmbda, float) else (0.0, np.ascontiguousarray(lmbda, np.float32))


def _module() -> Any:
    return core.compiled()
