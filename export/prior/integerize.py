"""Conversion of trained networks to integers, and tables and reconstruction offsets fitted to their contexts."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from sdtrt.engine.coding.priors.network_prior import INDEX_SHIFT, NetworkPrior, PassNetwork
from sdtrt.engine.coding.priors.passes import gather, gather_plane, walk_passes
from sdtrt.engine.coding.priors.prior_layout import Architecture
from sdtrt.engine.coding.priors.tables import PRECISION, bins_of, bit_costs
from sdtrt.engine.coding.rdoq import quantize_rdo
from sdtrt.export.prior.tables import integer_weights, logistic_centroids, logistic_tables

PSEUDO_COUNTS = 300  # weight of a logistic distribution against counted symbols
PSEUDO_POINTS = 30  # weight of its centroids against measured offsets


def integerize_networks(networks: Iterable[Any]) -> list[PassNetwork]:
    """Return trained networks (`network.TrainablePassNetwork`) with integer weights."""
    return [
        integerize_network({k: v.detach().numpy().astype(np.float64) for k, v in n.named_parameters()})
        for n in networks
    ]


def integerize_network(trained: dict[str, np.ndarray]) -> PassNetwork:
    """Return one network; biases include one half, which turns rounding down into rounding to nearest."""
    hidden = np.concatenate([trained["hidden"], trained["hidden_features"]], axis=1)
    direct = np.concatenate([trained["direct"], trained["direct_features"]], axis=1)
    group = len(direct) // 2
    halves = np.array([0] * group + [1 << (INDEX_SHIFT - 1)] * group)
    scaled = (
        np.concatenate([128 * hidden, 1024 * direct]),
        np.concatenate([128 * trained["hidden_bias"] + 32, 1024 * trained["output_bias"] + halves]),
        128 * trained["second"],
        1024 * trained["second_bias"] + 256,
        128 * trained["output"],
    )
    return PassNetwork(*(np.round(weights).astype(np.float32) for weights in scaled))


def fit_tables_and_offsets(
    architecture: Architecture,
    networks: list[PassNetwork],
    crops: Iterable[tuple[np.ndarray, int, np.ndarray]],
    fit_offsets: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return tables, and reconstruction offsets or None, fitted to crops.

    Arguments:
        architecture: The coding passes.
        networks: The integer networks, one for each pass.
        crops: Normalised latents, float32 (C, h, w), with their step code and their lambda, float32 (h, w).
        fit_offsets: Whether reconstruction offsets are fitted. Without them, RDOQ reconstructs latents at the symbols.
    """
    prior = NetworkPrior(architecture, networks, logistic_tables(), logistic_centroids() if fit_offsets else None)
    costs = bit_costs(prior.tables)
    counts = np.zeros(prior.tables.shape, np.int64)
    errors = np.zeros(prior.tables.shape)
    for latents, code, lmbda in crops:
        scaled = latents[list(architecture.order)] * np.float32(2.0 ** ((2048 - code) / 256))
        for visit in walk_passes(prior, latents.shape, code):
            coding_pass, context = visit.coding_pass, visit.context()
            values = gather(scaled, coding_pass)
            symbols = quantize_rdo(values, context, costs, prior.centroids, gather_plane(lmbda, coding_pass))
            visit.put(symbols)
            entries = context.table_rows(), bins_of(symbols - context.base(), context.low_bits())
            np.add.at(counts, entries, 1)
            np.add.at(errors, entries, context.to_symbol_units(values) - symbols)
    return smooth_tables(counts), smooth_offsets(counts, errors) if fit_offsets else None


def smooth_tables(counts: np.ndarray) -> np.ndarray:
    """Return tables of counts, int64 (rows, BINS), smoothed by logistic distributions where counts are small."""
    logistic = logistic_tables() / (1 << PRECISION)
    return np.stack([integer_weights(row + PSEUDO_COUNTS * prior) for row, prior in zip(counts, logistic, strict=True)])


def smooth_offsets(counts: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return mean errors in 1/64 symbol, int8 (rows, BINS), smoothed by logistic centroids where counts are small."""
    mean = (64 * errors + PSEUDO_POINTS * logistic_centroids()) / (counts + PSEUDO_POINTS)
    return np.clip(np.round(mean), -64, 64).astype(np.int8)
