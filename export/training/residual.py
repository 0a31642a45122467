"""Fit the tables of the residual layer to the errors of decoded photos.

    python -m sdtrt.export.training.residual PHOTOS --out engine/data/priors/residual-1.npz

Photos are scaled down to remove compression artefacts, and coded at random qualities and quantization steps. Their
residuals are quantized as an encoder does it: in the first round with a dead zone, in later rounds by RDOQ with the
tables of the round before. A pass predicts the mean magnitude of a symbol as a log-linear function of its features,
fitted as the mean of a geometric distribution. Each table holds the symbol counts of one bin of predicted means. The
shipped tables are fitted to 120 photos (`--count 120`).
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sdtrt._arrays import F32Array, F64Array, I8Array, I32Array, I64Array
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.quality_scale import RESIDUAL_LAMBDA, RESIDUAL_START, STEP_UNIT, operating_point
from sdtrt.engine.image import ImageData
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import forward_dct
from sdtrt.engine.layers.residual_contexts import (
    BANDS,
    CHANNELS,
    ESCAPE,
    GROUP_EDGES,
    LAST_GROUP_ROWS,
    MAX_BIN,
    NUM_BINS,
    NUM_FEATURES,
    NUM_GROUPS,
    NUM_LAST_GROUPS,
    NUM_ROWS,
    NUM_SCORE_BINS,
    SCORE_SHIFT,
    BlockContexts,
    ResidualTables,
)
from sdtrt.export.prior.tables import integer_weights
from sdtrt.export.training.tiny.photos import load_photos

ROUNDS = 3
PER_PASS = 200  # sampled blocks of each pass of each image
LARGEST = 20000  # blocks of a regression
LOWEST, BIN = -7.0, 0.44  # log2 of the first bin's mean magnitude, and the distance of bins in log2
WIDEST = 3.0  # a mean magnitude; above it low bits are coded without a table

Key = tuple[int, int, int]  # channel, group, phase


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the tables of the residual layer.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("--count", type=int, default=200, help="number of photos used")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    samples = list(samples_of_photos(arguments.photos, arguments.model, arguments.count, rng))
    tables = None
    for _ in range(ROUNDS):
        tables = fit_tables(samples, tables, rng)
        print(
            f"{sum(len(residual_codec.encode_residual(*sample, tables=tables)) for sample in samples[::4])} bytes",
            flush=True,
        )
    assert tables is not None
    np.savez_compressed(
        arguments.out,
        tables=tables.tables,
        low_bits=tables.low_bits.astype(np.uint8),
        points=tables.recon_offsets,
        weights=tables.weights,
        offsets=tables.offsets,
    )


def samples_of_photos(
    folder: Path, model: str, fill_tables: int, rng: np.random.Generator
) -> Iterator[tuple[F32Array, int]]:
    """Yield DCT coefficients of the residuals of photos at random qualities, and quantization steps for them."""
    codec, photos = EngineCodec(model), load_photos(folder, 256)
    for number in rng.permutation(len(photos))[:fill_tables]:
        height, width = (int(side * rng.choice([0.5, 0.6, 0.75])) for side in photos[number].shape[:2])
        pixels = np.asarray(Image.fromarray(photos[number]).resize((width, height), Image.Resampling.LANCZOS))
        for quality in (float(rng.uniform(RESIDUAL_START, 100)), float(rng.uniform(10, 100))):
            point = operating_point(quality, layers=2)
            options = EncodeOptions(quality=point.latent_quality, layers=1)
            decoded = codec.decode(codec.encode(ImageData(pixels), options)).pixels
            residual = forward_dct(pixels.astype(np.int16) - decoded)
            near, any_step = point.residual_step * rng.uniform(0.7, 1.4), np.exp2(rng.uniform(np.log2(3), np.log2(90)))
            for quant_step in (near, any_step):
                yield residual, round(STEP_UNIT * float(quant_step))


def fit_tables(
    samples: list[tuple[F32Array, int]], last: ResidualTables | None, rng: np.random.Generator
) -> ResidualTables:
    """Return tables fitted to the symbols of samples, chosen by RDOQ with the tables `last`, or by a dead zone.

    Arguments:
        samples: Coefficients and quantization steps, as `samples_of_photos` yields them.
        last: The tables of the last round; None in the first round.
        rng: The random generator for sampling blocks.
    """
    observed: defaultdict[Key, list[tuple[F32Array, I32Array]]] = defaultdict(list)
    extents = np.zeros((LAST_GROUP_ROWS, NUM_BINS))
    for residual, quant_step in samples:
        scaled = residual_codec.scale_coefficients(residual, quant_step)
        chosen = residual_codec.choose_last_groups(scaled, np.full(scaled.shape[2], RESIDUAL_LAMBDA, np.float32))
        blocks = BlockContexts(residual.shape[2], residual.shape[3], last or untrained_tables())
        for part in blocks.passes():
            if part.group < 0:
                values = chosen[part.channel, part.blocks]
                np.add.at(extents, (blocks.rows(part), values), 1)
                blocks.put(part, values)
                continue
            coefficients = scaled[part.channel][part.bands, part.blocks]
            if last is None:
                values = (np.sign(coefficients) * np.floor(np.abs(coefficients) + 0.36)).astype(np.int32)
            else:
                lmbda = np.full(len(part.blocks), RESIDUAL_LAMBDA, np.float32)
                values, *_ = residual_codec.quantize_rdo(
                    coefficients, blocks.rows(part), last, residual_codec.bit_costs(last), lmbda
                )
            some = rng.permutation(len(part.blocks))[:PER_PASS]
            features = blocks.features(part)[some]
            repeated = np.broadcast_to(features[None], (len(values), *features.shape))
            luma = blocks.luma_magnitudes(part)[:, some, None] * (part.channel > 0)
            all_features = np.concatenate([repeated, luma], 2).astype(np.float32)
            targets = np.stack([values[:, some], np.rint(coefficients[:, some] * 1024).astype(np.int32)], 2)
            observed[part.channel, part.group, part.phase].append((all_features, targets))
            blocks.put(part, values)
    return tables_of(observed, extents)


def tables_of(observed: dict[Key, list[tuple[F32Array, I32Array]]], extents: F64Array) -> ResidualTables:
    """Return tables fitted to observations.

    Arguments:
        observed: For each pass its features, and its symbols and coefficients in 1/1024 step.
        extents: Counts of extents.
    """
    tables = untrained_tables()
    tables.tables[:LAST_GROUP_ROWS] = [integer_weights(row) for row in smoothed_extents(extents)]
    for channel in range(CHANNELS):
        for group in range(NUM_GROUPS):
            bins, targets = [], []
            for phase in (0, 1):
                parts = observed.get((channel, group, phase))
                if not parts:
                    continue
                features = np.concatenate([one for one, _ in parts], 1)
                values = np.concatenate([one for _, one in parts], 1)
                weights, offsets = regression(features[:, :LARGEST], np.abs(values[:, :LARGEST, 0]))
                tables.weights[channel, group, phase] = weights
                tables.offsets[channel, phase, GROUP_EDGES[group] : GROUP_EDGES[group + 1]] = offsets
                scores = features.astype(np.int64) @ weights + offsets[:, None]
                bins.append(np.clip(scores >> SCORE_SHIFT, 0, NUM_SCORE_BINS - 1).ravel())
                targets.append(values.reshape(-1, 2))
            first = LAST_GROUP_ROWS + (channel * NUM_GROUPS + group) * NUM_SCORE_BINS
            fill_tables(tables, first, np.concatenate(bins), np.concatenate(targets))
    return tables


def regression(features: F32Array, magnitudes: I32Array) -> tuple[I32Array, I32Array]:
    """Return weights, int32 (NUM_FEATURES + 1,), and offsets, int32 (bands,), of the scores of features.

    They maximise the likelihood of magnitudes, (bands, n), under geometric distributions with the means
    exp(features @ weights + offset).
    """
    x = torch.tensor(features / 16)
    y = torch.tensor(magnitudes.astype(np.float32))
    weights = torch.zeros(x.shape[2], requires_grad=True)
    offsets = torch.log(y.mean(1) + 1e-3).requires_grad_()
    optimizer = torch.optim.LBFGS([weights, offsets], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        log_mean = (x @ weights + offsets[:, None]).clamp(-12, 8)
        log_more = torch.nn.functional.softplus(log_mean)  # of 1 + mean
        loss = (log_more + y * (log_more - log_mean)).mean() + 1e-4 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call, arg-type]
    unit = (1 << SCORE_SHIFT) / (BIN * np.log(2))
    integer_offsets = np.rint((offsets.detach().numpy() - LOWEST * np.log(2)) * unit).astype(np.int32)
    return np.rint(weights.detach().numpy() / 16 * unit).astype(np.int32), integer_offsets


def fill_tables(tables: ResidualTables, first: int, bins: I64Array, targets: I32Array) -> None:
    """Fill the tables from row `first` on with symbol counts of each bin, smoothed by geometric distributions.

    Arguments:
        tables: The tables to fill.
        first: Row of the first bin.
        bins: Bin of each observation, int64 (n,).
        targets: Symbol, and coefficient in 1/1024 step, of each observation, int32 (n, 2).
    """
    for number in range(NUM_SCORE_BINS):
        symbols, coefficients = targets[bins == number].T
        mean = 2.0 ** (LOWEST + BIN * (number + 0.5))
        low = max(0, int(np.ceil(np.log2(mean / WIDEST))))
        entries = (symbols >> low) + MAX_BIN
        outside = (entries < 0) | (entries >= ESCAPE)
        counts = np.bincount(np.where(outside, ESCAPE, entries), minlength=NUM_BINS).astype(float)
        if not low:  # single symbols are symmetric; entries of several symbols are not
            counts[:ESCAPE] = (counts[:ESCAPE] + counts[:ESCAPE][::-1]) / 2
        expected = geometric(mean, low)
        tables.tables[first + number] = integer_weights(counts + 30 * expected)
        tables.low_bits[first + number] = low
        if not low:
            tables.recon_offsets[first + number] = fit_offsets(symbols, coefficients)


def geometric(mean: float, low: int) -> F64Array:
    """Return the probabilities of entries under a geometric distribution of magnitudes with equally likely signs."""
    symbols = np.arange(-(MAX_BIN << low), (MAX_BIN + 1) << low)
    chances = (mean / (1 + mean)) ** np.abs(symbols) / (1 + mean) * np.where(symbols == 0, 1, 0.5)
    probabilities = np.append(chances.reshape(2 * MAX_BIN + 1, -1).sum(1), 0)
    probabilities[ESCAPE] = max(1 - probabilities.sum(), 1e-6)
    return probabilities


def fit_offsets(symbols: I32Array, coefficients: I32Array) -> I8Array:
    """Return the symmetric reconstruction offset of each symbol, in 1/64 step."""
    offsets = np.zeros(NUM_BINS, np.int8)
    for magnitude in range(1, MAX_BIN + 1):
        of_symbol = np.abs(symbols) == magnitude
        if of_symbol.sum() >= 50:
            distance = (np.abs(coefficients[of_symbol]) / 16 - 64 * magnitude).mean()
            offsets[MAX_BIN + magnitude] = round(float(distance))
            offsets[MAX_BIN - magnitude] = -offsets[MAX_BIN + magnitude]
    return offsets


def smoothed_extents(counts: F64Array) -> F64Array:
    """Return counts of extents, smoothed by counts at the same mean with any extent below, and by uniform counts."""
    parts = counts.reshape(CHANNELS, 3, NUM_LAST_GROUPS, NUM_LAST_GROUPS, NUM_BINS)
    alike = parts.sum(3, keepdims=True)
    alike = alike / np.maximum(alike.sum(-1, keepdims=True), 1)
    spread = parts + 20 * alike + 0.3 * (np.arange(NUM_BINS) < NUM_LAST_GROUPS)
    return spread.reshape(LAST_GROUP_ROWS, NUM_BINS)


def untrained_tables() -> ResidualTables:
    """Return uniform tables."""
    return ResidualTables(
        np.full((NUM_ROWS, NUM_BINS), (1 << 24) // NUM_BINS, np.uint32),
        np.zeros(NUM_ROWS, np.int32),
        np.zeros((NUM_ROWS, NUM_BINS), np.int8),
        np.zeros((CHANNELS, NUM_GROUPS, 2, NUM_FEATURES + 1), np.int32),
        np.zeros((CHANNELS, 2, BANDS), np.int32),
    )


if __name__ == "__main__":
    main()
