"""The compiled core and NumPy: the same bytes, symbols, parameters and errors."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdtrt.engine.coding.priors import adaptive_fit
from sdtrt.engine.coding.priors.adaptive_fit import fit_adaptive
from sdtrt.engine.coding.priors.core_prior import core_prior, tile_numbers
from sdtrt.engine.coding.priors.network_prior import NetworkPrior, PassNetwork
from sdtrt.engine.coding.priors.passes import InnerEdges
from sdtrt.engine.coding.priors.prior import Prior, shipped_prior
from sdtrt.engine.coding.priors.prior_layout import parse_architecture
from sdtrt.engine.coding.rdoq_search import rd_costs, search_symbols
from sdtrt.engine.coding.streams import core_streams, numpy_streams
from sdtrt.engine.coding.streams.damage import Damage
from sdtrt.engine.coding.streams.decoded import ReadRules, TileParameters
from sdtrt.engine.coding.streams.words import words_of
from sdtrt.engine.format.latent_space import PRIOR_NAMES
from sdtrt.errors import FormatError
from sdtrt.kernels import core

pytestmark = pytest.mark.skipif(core.compiled() is None, reason="no compiled core")

EDGES = st.builds(InnerEdges, st.booleans(), st.booleans(), st.booleans(), st.booleans())
# Sides shorter and longer than what a kernel computes at once, and than a chunk.
SIDES = st.one_of(st.integers(1, 12), st.integers(30, 40), st.sampled_from([100, 300]))
SEEDS, CODES = st.integers(0, 1 << 32), st.integers(0, 4095)
NAMES = st.sampled_from([*PRIOR_NAMES.values(), "adaptive"])


def symbols_of(seed: int, shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """Return int16 symbols: mostly small, some of the full range."""
    rng = np.random.default_rng(seed)
    small = rng.integers(-2, 3, shape) * rng.integers(0, 2, shape) * rng.integers(0, 40)
    return np.where(rng.random(shape) < 0.01, rng.integers(-32768, 32768, shape), small).astype(np.int16)


def latents_of(seed: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return latents in quantization steps, float32, some of them half way between symbols or saturated."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(0, rng.choice([0.5, 3, 40]), shape)
    latents = np.where(rng.random(shape) < 0.1, np.rint(2 * latents) / 2, latents)
    return np.where(rng.random(shape) < 0.001, rng.choice([-32766, 32766], shape), latents).astype(np.float32)


def prior_of(name: str, shape: tuple[int, int, int], edges: InnerEdges, seed: int) -> Prior:
    return fit_adaptive(symbols_of(seed + 1, shape), edges) if name == "adaptive" else shipped_prior(name)


def channels_of(name: str) -> int:
    return {"tiny-1": 40, "sd1-1": 4, "adaptive": 3}[name]


def both(function: str, *arguments: Any) -> list[Any]:
    """Return the results of a function of `core_streams` and of its twin in `numpy_streams`, errors as their texts."""
    results = []
    for module in (core_streams, numpy_streams):
        try:
            results.append(getattr(module, function)(*arguments))
        except FormatError as error:
            results.append(str(error))
    return results


def assert_same(one: Any, other: Any) -> None:
    """Check that two results of `decode` are the same."""
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
        return
    (first, first_end), (second, second_end) = one, other
    np.testing.assert_array_equal(first.symbols, second.symbols)
    assert (first.recon_offsets is None) == (second.recon_offsets is None)
    if first.recon_offsets is not None:
        np.testing.assert_array_equal(first.recon_offsets, second.recon_offsets)
    assert (first.passes_read, first.passes_missing) == (second.passes_read, second.passes_missing)
    assert first_end == second_end


@settings(max_examples=30)
@given(NAMES, SEEDS, SIDES, SIDES, CODES, EDGES)
def test_streams_of_symbols(name: str, seed: int, height: int, width: int, code: int, edges: InnerEdges) -> None:
    shape = channels_of(name), height, width
    prior, tile = prior_of(name, shape, edges, seed), TileParameters(shape, code, edges)
    symbols = symbols_of(seed, shape)
    one, other = both("encode_symbols", symbols, tile, prior)
    assert one == other
    words = words_of(one[0])
    decoded = both("decode", words, tile, prior, ReadRules(len(prior.passes(shape[0]))))
    np.testing.assert_array_equal(decoded[0][0].symbols, symbols)
    assert_same(*decoded)
    for level, cut in enumerate(prior.cuts):
        after = [*one[1][: level + 1], *(0 for _ in prior.cuts[level + 1 :])]
        first_levels = words[: len(words) - after[level]]
        rules = ReadRules(cut, prior.cuts, tuple(n - after[level] for n in after[: level + 1]))
        assert_same(*both("decode", first_levels, tile, prior, rules))


@settings(max_examples=30)
@given(NAMES, SEEDS, SIDES, SIDES, CODES, EDGES, st.sampled_from([0.0, 0.1, 2.0, "map", "wide map"]))
def test_streams_of_latents(
    name: str, seed: int, height: int, width: int, code: int, edges: InnerEdges, lmbda: Any
) -> None:
    shape = channels_of(name), height, width
    prior, tile = prior_of(name, shape, edges, seed), TileParameters(shape, code, edges)
    if isinstance(lmbda, str):
        largest = 0.7 if lmbda == "map" else 5
        lmbda = np.random.default_rng(seed).uniform(0, largest, shape[1:]).astype(np.float32)
    for count in (len(prior.passes(shape[0])), 2):
        one, other = both("encode_latents", latents_of(seed, shape), lmbda, count, tile, prior)
        assert one == other


@settings(max_examples=30)
@given(NAMES, SEEDS, st.integers(1, 20), st.integers(1, 20), CODES, EDGES, st.data())
def test_damaged_streams(
    name: str, seed: int, height: int, width: int, code: int, edges: InnerEdges, data: st.DataObject
) -> None:
    shape = channels_of(name), height, width
    prior, tile = prior_of(name, shape, edges, seed), TileParameters(shape, code, edges)
    rng = np.random.default_rng(seed)
    stream, after = core_streams.encode_symbols((rng.integers(-1, 2, shape) * 2).astype(np.int16), tile, prior)
    damaged = bytearray(stream)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(damaged)[: data.draw(st.integers(1, len(damaged)))]
    try:
        words = words_of(cut, -len(stream) % 4)
    except FormatError:
        words = None
    count = len(prior.passes(shape[0]))
    complete = data.draw(st.integers(0, count))
    assert_same(*both("decode", words, tile, prior, ReadRules(count, complete_passes=complete)))
    if words is not None:
        assert_same(*both("decode", words, tile, prior, ReadRules(count)))
        assert_same(*both("decode", words, tile, prior, ReadRules(count, prior.cuts, tuple(after))))


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 8), SIDES, SIDES, EDGES)
def test_fit_of_the_adaptive_prior(seed: int, channels: int, height: int, width: int, edges: InnerEdges) -> None:
    symbols = symbols_of(seed, (channels, height, width))
    compiled = fit_adaptive(symbols, edges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "compiled", lambda: None)
        np.testing.assert_array_equal(compiled.parameters, adaptive_fit.fit_adaptive(symbols, edges).parameters)


@settings(max_examples=30)
@given(NAMES, SEEDS, st.integers(1, 20), st.integers(1, 20), CODES, EDGES)
def test_search(name: str, seed: int, height: int, width: int, code: int, edges: InnerEdges) -> None:
    shape = channels_of(name), height, width
    prior, scaled = prior_of(name, shape, edges, seed), latents_of(seed, shape)
    lmbda = np.random.default_rng(seed).uniform(0, 1, shape[1:]).astype(np.float32)
    found = search_symbols(scaled, prior, code, lmbda, 2, edges)
    costs = rd_costs(found, scaled, prior, code, edges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "compiled", lambda: None)
        np.testing.assert_array_equal(search_symbols(scaled, prior, code, lmbda, 2, edges), found)
        numpy_costs = rd_costs(found, scaled, prior, code, edges)
    np.testing.assert_array_equal(costs.bits, numpy_costs.bits)
    np.testing.assert_array_equal(costs.distortion, numpy_costs.distortion)
    np.testing.assert_array_equal(costs.remainder, numpy_costs.remainder)


def unusual_prior(units: int, second_units: int, seed: int) -> NetworkPrior:
    """Return a prior with inputs that no shipped one has: listed twice, of one kind alone, stride 8, odd sizes."""
    passes = [
        {"channels": [0, 1], "stride": 8, "origins": [[y, x] for y in range(8) for x in range(8) if (y + x) % 2 == 0]},
        {"channels": [0, 1], "stride": 2, "origins": [[0, 1], [1, 0]], "predicted": True, "spacing": 37},
        {"channels": [1, 3], "stride": 2, "origins": [[0, 0], [1, 1], [0, 1], [1, 0]]},
    ]
    values = [[], [[0, 1, -1, 0], [0, 1, -1, 0], [0, 3, 4, -4]], [[0, 1, 0, 0], [0, 2, -3, 1]]]
    magnitudes = [[[0, 3, 1, 1]], [[0, 1, -1, 0], [0, 1, -1, 0]], [[0, 2, 0, 0]]]
    for coding_pass, of_values, of_magnitudes in zip(passes, values, magnitudes, strict=True):
        coding_pass |= {"values": of_values, "magnitudes": of_magnitudes}
    architecture = parse_architecture(json.dumps({"order": [2, 0, 1], "cuts": [1], "passes": passes}))
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> NDArray[np.float32]:
        return rng.integers(-90, 91, shape).astype(np.float32)

    networks = []
    for coding_pass in architecture.passes:
        outputs = 2 * (coding_pass.stop - coding_pass.start)
        networks.append(
            PassNetwork(
                weights(units + outputs, coding_pass.inputs + 17),
                weights(units + outputs) * 50,
                weights(second_units, units),
                weights(second_units) * 50,
                weights(outputs, second_units),
            )
        )
    shipped = shipped_prior("sd1-1")
    return NetworkPrior(architecture, networks, shipped.tables, shipped.centroids)


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), SEEDS, SIDES, SIDES, CODES, EDGES)
def test_prior_with_unusual_networks(
    units: int, second_units: int, seed: int, height: int, width: int, code: int, edges: InnerEdges
) -> None:
    prior, tile = unusual_prior(units, second_units, seed), TileParameters((3, height, width), code, edges)
    one, other = both("encode_symbols", symbols_of(seed, tile.shape), tile, prior)
    assert one == other
    assert_same(*both("decode", words_of(one[0]), tile, prior, ReadRules(3)))


def test_threads_within_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that share the positions of a tile give the same stream and the same symbols."""
    tile, prior = TileParameters((40, 70, 150), 1700, InnerEdges(bottom=True)), shipped_prior("tiny-1")
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(core, "threads_in_tile", lambda threads=threads: threads)
        stream, _ = core_streams.encode_latents(latents_of(2, tile.shape), 0.1, 23, tile, prior)
        results.append((stream, core_streams.decode(words_of(stream), tile, prior, ReadRules(23))))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])


def test_threads_within_a_tile_only_from_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "available_cpus", lambda: 16)
    with ThreadPoolExecutor(1) as pool:
        assert (core.threads_in_tile(), pool.submit(core.threads_in_tile).result()) == (4, 1)


@pytest.mark.parametrize("instructions", core.compiled().instruction_sets() if core.compiled() else [])
def test_instruction_sets(instructions: str) -> None:
    """Every set of instructions that this processor has gives the same stream."""
    compiled = core.compiled()
    assert compiled is not None
    fastest = compiled.instruction_set()
    tile = TileParameters((40, 19, 37), 1900, InnerEdges(top=True, right=True))
    prior, latents = shipped_prior("tiny-1"), latents_of(5, tile.shape)
    expected = core_streams.encode_latents(latents, 0.1, 23, tile, prior)
    try:
        compiled.use_instruction_set(instructions)
        assert core_streams.encode_latents(latents, 0.1, 23, tile, prior) == expected
    finally:
        compiled.use_instruction_set(fastest)


def test_unknown_instruction_set() -> None:
    compiled = core.compiled()
    assert compiled is not None
    with pytest.raises(ValueError, match="no instruction set MMX"):
        compiled.use_instruction_set("MMX")


@pytest.mark.parametrize("name", ["tiny-1", "sd1-1", "adaptive"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_latents_that_are_no_numbers_end_no_process(name: str, value: float) -> None:
    """Callers refuse such latents before; the core must not index by them."""
    shape = channels_of(name), 5, 6
    tile = TileParameters(shape, 2048, InnerEdges())
    scaled = latents_of(1, shape)
    scaled[:, 2:4] = value
    lambdas = np.full(shape[1:], value, np.float32)
    prior = prior_of(name, shape, tile.edges, 1)
    for lmbda in (0.1, lambdas):
        stream, _ = core_streams.encode_latents(scaled, lmbda, len(prior.passes(shape[0])), tile, prior)
        core_streams.decode(words_of(stream), tile, prior, ReadRules(len(prior.passes(shape[0]))))
    core_streams.rate_and_distortion(symbols_of(1, shape), scaled, tile, prior)


@pytest.mark.parametrize("shape", [(4, 1, (1 << 20) + 1), (4, (1 << 20) + 1, 1)])
def test_very_long_tiles(shape: tuple[int, int, int]) -> None:
    """A file may have a tile of 2**24 latents in a row."""
    tile, prior = TileParameters(shape, 2048, InnerEdges()), shipped_prior("sd1-1")
    symbols = np.zeros(shape, np.int16)
    symbols[:, ::777, ::777] = 3
    stream, _ = core_streams.encode_symbols(symbols, tile, prior)
    decoded, end = core_streams.decode(words_of(stream), tile, prior, ReadRules(len(prior.passes(4))))
    assert end.is_at_end
    np.testing.assert_array_equal(decoded.symbols, symbols)


def test_another_number_of_channels() -> None:
    tile, prior = TileParameters((5, 3, 3), 2048, InnerEdges()), shipped_prior("sd1-1")
    one, other = both("encode_symbols", np.zeros(tile.shape, np.int16), tile, prior)
    assert one == other == "the prior is for 4 channels, found 5"


@pytest.mark.parametrize(
    "words", [np.zeros(3, ">u4"), np.zeros(3, np.int32), np.zeros(3, np.float32), np.zeros(6, np.uint32)[::2]]
)
def test_arrays_of_another_kind_are_refused(words: NDArray[Any]) -> None:
    compiled = core.compiled()
    assert compiled is not None
    tile, none = tile_numbers((4, 2, 2), 2048, InnerEdges()), np.empty(0, np.int32)
    prior, symbols = core_prior(shipped_prior("sd1-1")), np.zeros((4, 2, 2), np.int16)
    with pytest.raises((ValueError, BufferError)):
        compiled.decode_stream(prior, tile, words, 1, none, none.astype(np.int64), 0, 0, 0, 1, symbols, None)


def test_damage_has_the_numbers_of_the_core() -> None:
    source = (Path(core.__file__).parent / "host" / "symbols.h").read_text("utf-8")
    names = re.findall(r"^    ([A-Z_]+)(?: = 0)?,", source[source.index("enum class Damage") :], re.MULTILINE)
    assert names == [damage.name for damage in Damage]
    assert [*Damage] == [*range(len(names))]
