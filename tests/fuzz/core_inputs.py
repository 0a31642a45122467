"""Write the priors and the first inputs of `fuzz_core.cpp`, the attack on the compiled core.

    python tests/fuzz/core_inputs.py ARRAYS SEEDS

`make fuzz-core` runs this. ARRAYS is the file that `fuzz_core.cpp` reads at its start. It holds the arguments with
which Python makes the core's priors, tables and residual model. SEEDS is a folder for the inputs. NumPy encodes their
streams, so no compiled module is needed.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

os.environ["SDTRT_PURE"] = "1"

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.adaptive import AdaptivePrior
from sdtrt.engine.coding.priors.adaptive_fit import fit_adaptive
from sdtrt.engine.coding.priors.core_prior import core_prior, tile_numbers
from sdtrt.engine.coding.priors.network_prior import NetworkPrior, PassNetwork
from sdtrt.engine.coding.priors.passes import InnerEdges
from sdtrt.engine.coding.priors.prior import Prior, shipped_prior
from sdtrt.engine.coding.streams.stream_codec import encode_stream
from sdtrt.engine.coding.streams.words import WORD, words_of
from sdtrt.engine.format.profile import PRIOR_NAMES
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import QUANT_MATRIX, forward_dct
from sdtrt.kernels import core

CODES = [*range(0, 4096, 65)]  # of quantization steps; one byte of an input chooses one
SHAPES = [(1, 1), (1, 9), (3, 5), (9, 10), (14, 13), (2, 40)]  # rows and columns of latents, at most 40
MAX_LATENTS = 800  # of a tile
UNITS, SECOND_UNITS = 7, 5  # of the two hidden layers of small networks
EDGES = [InnerEdges(), InnerEdges(top=True, left=True), InnerEdges(True, True, True, True)]
DECODE, SALVAGE, ENCODE = 0, 4, 2  # flags of a header
INSTRUCTION_SET_BIT = 5
MAX_CUTS, NO_CUT = 4, 0xFFFF
# The `Header` of `fuzz_core.cpp`.
HEADER = np.dtype(
    [(name, np.uint8) for name in ("target", "flags", "height", "width", "edges", "step", "end", "complete_passes")]
    + [("words_after_cuts", np.uint16, MAX_CUTS)]
)


class Recorder:
    """A compiled core whose functions return their arguments."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: arguments


def write(file: BinaryIO, value: Any) -> None:
    """Write arrays, each after its number of bytes. A list begins with its length, a tuple does not."""
    if isinstance(value, list):
        write(file, len(value))
    if isinstance(value, list | tuple):
        for item in value:
            write(file, item)
        return
    data = b"" if value is None else np.asarray(value, np.int64 if isinstance(value, int) else None).tobytes()
    file.write(np.int64(len(data)).tobytes() + data)


def write_arrays(file: BinaryIO, network_priors: list[NetworkPrior], adaptive_priors: list[AdaptivePrior]) -> None:
    write(file, [(core_prior(prior), np.array(prior.cuts, np.int32)) for prior in network_priors])
    write(file, [(core_prior(prior), np.array(prior.cuts, np.int32)) for prior in adaptive_priors])
    write(file, residual_codec._make_core_model(QUANT_MATRIX.tobytes()))
    write(file, np.stack([tile_numbers((1, 1, 1), code, InnerEdges())[7:] for code in CODES]))


def small_networks(prior: NetworkPrior) -> NetworkPrior:
    """Return a prior without most hidden units. It has the same passes and inputs, and takes less time."""
    networks = []
    for n in prior.networks:
        shortcut = slice(n.second.shape[1], None)
        networks.append(
            PassNetwork(
                np.concatenate([n.first[:UNITS], n.first[shortcut]]),
                np.concatenate([n.first_bias[:UNITS], n.first_bias[shortcut]]),
                n.second[:SECOND_UNITS, :UNITS],
                n.second_bias[:SECOND_UNITS],
                n.output[:, :SECOND_UNITS],
            )
        )
    return NetworkPrior(prior.architecture, networks, prior.tables, prior.centroids)


def symbols_of(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """Return symbols: mostly small, some of the full range."""
    small = rng.integers(-2, 3, shape) * rng.integers(0, 2, shape) * rng.integers(0, 40)
    return np.where(rng.random(shape) < 0.003, rng.integers(-32768, 32768, shape), small).astype(np.int16)


def stream_seeds(target: int, prior: Prior, channels: int) -> list[bytes]:
    """Return inputs with streams of a prior: complete, truncated and damaged ones."""
    rng, seeds = np.random.default_rng(target), []
    for height, width in SHAPES:
        if channels * height * width > MAX_LATENTS:
            continue
        for number, edges in enumerate(EDGES):
            shape, step = (channels, height, width), int(rng.integers(len(CODES)))
            stream = encode_stream(symbols_of(rng, shape), prior, CODES[step], edges)
            header = np.zeros((), HEADER)
            header["target"], header["height"], header["width"], header["step"] = target, height - 1, width - 1, step
            header["edges"] = sum(int(bit) << n for n, bit in enumerate(tile_numbers(shape, 0, edges)[3:7]))
            header["end"] = len(prior.passes(channels))
            header["words_after_cuts"] = NO_CUT
            words = words_of(stream.data)
            seeds.append(header.tobytes() + words.tobytes())
            after = [(len(stream.data) - end) // WORD for end in stream.ends[:-1]]
            header["words_after_cuts"][: len(after)] = after
            header["flags"] = [DECODE, SALVAGE, ENCODE][number] | number << INSTRUCTION_SET_BIT
            header["complete_passes"] = rng.integers(len(prior.passes(channels)))
            seeds.append(header.tobytes() + words.tobytes())
            seeds.append(header.tobytes() + words[: words.size // 2].tobytes())
            words[words.size // 3 :][:1] ^= 1 << rng.integers(32, dtype=np.uint32)
            seeds.append(header.tobytes() + words.tobytes())
    return seeds


def residual_seeds(target: int) -> list[bytes]:
    """Return inputs with streams of the residual layer."""
    rng, seeds = np.random.default_rng(0), []
    for rows, columns in ((1, 1), (2, 3), (4, 4)):
        for residual_step in (1, 20, 300):
            residual = rng.normal(0, 3 * residual_step**0.5, (8 * rows, 8 * columns, 3)).clip(-255, 255)
            stream = residual_codec.encode_residual(forward_dct(residual.astype(np.int16)), residual_step, 0.01)
            header = np.zeros((), HEADER)
            header["target"], header["height"], header["width"] = target, rows - 1, columns - 1
            header["words_after_cuts"] = residual_step - 1
            seeds.append(header.tobytes() + words_of(stream).tobytes())
    return seeds


def main(arrays: Path, folder: Path) -> None:
    network_priors = [small_networks(shipped_prior(name)) for name in PRIOR_NAMES.values()]
    adaptive_prior = fit_adaptive(symbols_of(np.random.default_rng(1), (3, 30, 30)))
    seeds = []
    for target, prior in enumerate(network_priors):
        seeds += stream_seeds(target, prior, len(prior.architecture.order))
    seeds += stream_seeds(len(network_priors), adaptive_prior, len(adaptive_prior.parameters))
    seeds += residual_seeds(len(network_priors) + 1)
    for number, seed in enumerate(seeds):
        (folder / str(number)).write_bytes(seed)
    core.compiled = Recorder  # type: ignore[assignment]
    with arrays.open("wb") as file:
        write_arrays(file, network_priors, [adaptive_prior])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
