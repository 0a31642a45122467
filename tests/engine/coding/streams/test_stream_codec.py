"""Streams: round trips of symbols, a second decoder in plain Python, and damaged payloads."""

import os
import subprocess
import sys

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.adaptive import AdaptivePrior, adaptive_tables
from sdtrt.engine.coding.priors.adaptive_fit import fit_adaptive
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, PYRAMID, InnerEdges, gather, scatter, undo_channel_order
from sdtrt.engine.coding.priors.prior import Prior, shipped_prior
from sdtrt.engine.coding.priors.symbol_planes import AdaptivePass, SymbolPlanes, adaptive_passes
from sdtrt.engine.coding.priors.tables import ESCAPE, LOW_BITS, MAX_BIN, NUM_SCALES, Context, bins_of
from sdtrt.engine.coding.rdoq import RDOQ_LAMBDA
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.engine.coding.streams.ans import AnsDecoder, AnsEncoder
from sdtrt.engine.coding.streams.words import words_of
from sdtrt.engine.format.latent_space import PRIOR_NAMES
from sdtrt.engine.layers.residual_contexts import residual_tables
from sdtrt.errors import FormatError

CHANNELS = {"tiny-1": 40, "sd1-1": 4}
PRIORS = pytest.mark.parametrize("name", PRIOR_NAMES.values())
TABLES = adaptive_tables()


def noise(seed: int, shape: tuple[int, ...], kind: str) -> NDArray[np.int16]:
    """Return int16 symbols: small values, the full range, a mix of both, only the two extreme values, or zeros."""
    rng = np.random.default_rng(seed)
    small, full = rng.integers(-2, 3, shape), rng.integers(-32768, 32768, shape)
    mixed = np.where(rng.random(shape) < 0.1, full, small * rng.integers(0, 40, shape))
    ends = rng.choice([-32768, 32767], shape)
    values = {"small": small, "full": full, "mixed": mixed, "ends": ends, "zero": np.zeros(shape)}
    return values[kind].astype(np.int16)


KINDS = st.sampled_from(["small", "full", "mixed", "ends", "zero"])
SIDES = st.integers(1, 9)


@PRIORS
@settings(max_examples=40)
@given(st.integers(0, 1 << 32), SIDES, SIDES, KINDS, st.integers(0, 4095))
def test_network_prior_round_trip(name: str, seed: int, height: int, width: int, kind: str, step_code: int) -> None:
    symbols = noise(seed, (CHANNELS[name], height, width), kind)
    prior = shipped_prior(name)
    payload = stream_codec.encode_stream(symbols, prior, step_code).data
    decoded = stream_codec.decode_stream(payload, symbols.shape, prior, step_code)
    np.testing.assert_array_equal(decoded.symbols, symbols, strict=True)
    assert (decoded.recon_offsets is None) == (not prior.has_recon_offsets)
    if decoded.recon_offsets is not None:
        assert (decoded.recon_offsets.shape, decoded.recon_offsets.dtype) == (symbols.shape, np.int32)


@settings(max_examples=60)
@given(st.integers(0, 1 << 32), st.integers(1, 16), SIDES, SIDES, KINDS, st.booleans())
def test_adaptive_prior_round_trip(seed: int, channels: int, height: int, width: int, kind: str, fit: bool) -> None:
    symbols = noise(seed, (channels, height, width), kind)
    if fit:
        prior = fit_adaptive(symbols)
    else:
        parameters = (
            np.random.default_rng(seed).integers(0, [9, NUM_SCALES, NUM_SCALES], (channels, 3)).astype(np.uint8)
        )
        prior = AdaptivePrior(parameters)
    assert prior.parameters.shape == (channels, 3)
    payload = stream_codec.encode_stream(symbols, prior, 0).data
    np.testing.assert_array_equal(stream_codec.decode_stream(payload, symbols.shape, prior, 0).symbols, symbols)


@PRIORS
def test_network_prior_round_trip_of_larger_planes(name: str) -> None:
    symbols = noise(0, (CHANNELS[name], 33, 70), "mixed")
    payload = stream_codec.encode_stream(symbols, shipped_prior(name), 2048).data
    np.testing.assert_array_equal(
        stream_codec.decode_stream(payload, symbols.shape, shipped_prior(name), 2048).symbols, symbols
    )


def test_fit_adaptive_is_near_entropy_and_beats_random_parameters() -> None:
    """Fitted parameters code Laplacian noise near its entropy. Random parameters are not better by over 4 bytes."""
    rng = np.random.default_rng(2)
    symbols = np.rint(rng.laplace(0, [[[1.0]], [[12.0]]], (2, 40, 40))).astype(np.int16)
    fitted = len(stream_codec.encode_stream(symbols, fit_adaptive(symbols), 0).data)
    histograms = [np.unique(plane, return_counts=True)[1] / 1600 for plane in symbols]
    entropy_nbytes = sum(-1600 * (p * np.log2(p)).sum() / 8 for p in histograms)
    assert fitted < 1.08 * entropy_nbytes
    for _ in range(20):
        parameters = rng.integers(0, [9, NUM_SCALES, NUM_SCALES], (2, 3)).astype(np.uint8)
        assert fitted <= len(stream_codec.encode_stream(symbols, AdaptivePrior(parameters), 0).data) + 4


class ArbitraryPrior:
    """A prior whose contexts are seeded noise over the whole range of locations and scales."""

    centroids, has_recon_offsets = None, False
    cuts = (1, 4)

    def __init__(self, channels: int) -> None:
        self.tables = TABLES
        self._order = np.random.default_rng(channels).permutation(channels)

    def passes(self, channels: int) -> list[AdaptivePass]:
        return adaptive_passes(channels, PYRAMID, reach=2)

    def order(self, channels: int) -> NDArray[np.intp]:
        return self._order

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: InnerEdges = NO_INNER_EDGES) -> SymbolPlanes:
        return SymbolPlanes(shape, inner)

    def context(self, coding_pass: AdaptivePass, planes: SymbolPlanes, number: int) -> Context:
        rng = np.random.default_rng(number)
        shape = coding_pass.stop, planes.positions(coding_pass)
        location = rng.integers(-200, 200, shape)
        return Context(location.astype(np.int32), rng.integers(0, NUM_SCALES, shape).astype(np.int32))


class FixedPrior(ArbitraryPrior):
    """A prior with the same location at every position."""

    def __init__(self, location: int) -> None:
        super().__init__(1)
        self._location = location

    def context(self, coding_pass: AdaptivePass, planes: SymbolPlanes, number: int) -> Context:
        flat = np.zeros((coding_pass.stop, planes.positions(coding_pass)), np.int32)
        return Context(flat + self._location * 8, flat)


@pytest.mark.parametrize(("symbol", "location_out_of_range"), [(32767, 32768), (-32768, -32769)])
def test_decode_stream_symbol_outside_int16_raises_format_error(symbol: int, location_out_of_range: int) -> None:
    symbols = np.full((1, 2, 2), symbol, np.int16)
    payload = stream_codec.encode_stream(symbols, FixedPrior(symbol), 0).data
    np.testing.assert_array_equal(
        stream_codec.decode_stream(payload, symbols.shape, FixedPrior(symbol), 0).symbols, symbols
    )
    with pytest.raises(FormatError, match="16 bits"):
        stream_codec.decode_stream(payload, symbols.shape, FixedPrior(location_out_of_range), 0)


class Ans:
    """An ANS decoder in plain Python, with 64 bits of state, words of 32 bits and probabilities of 24 bits."""

    def __init__(self, payload: bytes) -> None:
        padded = bytes(-len(payload) % 4) + payload
        self.words = [int.from_bytes(padded[n : n + 4], "big") for n in range(0, len(padded), 4)][::-1]
        self.state = 0
        self.refill()

    def refill(self) -> None:
        while self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()

    def take(self, weights: list[int]) -> int:
        quantile, cumulative = self.state & ((1 << 24) - 1), 0
        index = 0
        while quantile >= cumulative + weights[index]:
            cumulative += weights[index]
            index += 1
        self.state = (self.state >> 24) * weights[index] + quantile - cumulative
        self.refill()
        return index

    def take_bins(self, tables: list[list[int]]) -> list[int]:
        """Read one bin from each table.

        The flags come first: one for each table whose mode has more than half of the weight. A flag of 0 is the mode.
        The bins of all other tables follow.
        """
        half = 1 << 23
        mode_tables = [[max(weights), (1 << 24) - max(weights)] if max(weights) > half else None for weights in tables]
        is_other = [table is None or self.take(table) == 1 for table in mode_tables]
        return [
            self.take(escape_weights(weights)) if other else weights.index(max(weights))
            for weights, other in zip(tables, is_other, strict=True)
        ]

    def take_number(self, size: int) -> int:
        weight = (1 << 24) // size
        quantile = self.state & ((1 << 24) - 1)
        index = quantile // weight
        self.state = (self.state >> 24) * weight + quantile - index * weight
        self.refill()
        return index


def escape_weights(weights: list[int]) -> list[int]:
    """Return the weights of a table without its mode, unchanged if the mode has at most half of the weight."""
    mode_weight, total = max(weights), 1 << 24
    if mode_weight <= total // 2:
        return weights
    mode = weights.index(mode_weight)
    scaled = [0 if n == mode else weight * (total - 1) // (total - mode_weight) for n, weight in enumerate(weights)]
    scaled[scaled.index(max(scaled))] += total - 1 - sum(scaled)
    return [*scaled[:mode], 1, *scaled[mode + 1 :]]


def decode_in_python(payload: bytes, shape: tuple[int, int, int], prior: Prior) -> NDArray[np.int64]:
    ans = Ans(payload)
    symbols = np.zeros(shape, np.int64)
    pass_numbers = [n for n, one in enumerate(prior.passes(shape[0])) if one.phase.slices(*shape[1:])]
    num_coded = ans.take_number(1 << len(pass_numbers).bit_length())
    for number in pass_numbers[:num_coded]:
        coding_pass = prior.passes(shape[0])[number]
        positions = [
            (channel, y, x)
            for channel in prior.order(shape[0])
            for first_y, first_x in coding_pass.phase.offsets
            for y in range(first_y, shape[1], coding_pass.phase.stride)
            for x in range(first_x, shape[2], coding_pass.phase.stride)
        ]
        context = prior.context(coding_pass, prior.planes(shape, 0), number)
        contexts = list(zip(context.location.ravel().tolist(), context.scale.ravel().tolist(), strict=True))
        bins = ans.take_bins([prior.tables[scale * 8 + location % 8].tolist() for location, scale in contexts])
        coded = [(*context_, bin_) for context_, bin_ in zip(contexts, bins, strict=True)]
        values = [
            None if bin_ == ESCAPE else (location // 8) + (bin_ - MAX_BIN) * 2 ** int(LOW_BITS[scale])
            for location, scale, bin_ in coded
        ]
        for n, (_, scale, _) in enumerate(coded):
            if values[n] is not None and LOW_BITS[scale]:
                values[n] += ans.take_number(1 << int(LOW_BITS[scale]))
        for position, value in zip(positions, values, strict=True):
            symbols[position] = ans.take_number(1 << 16) - (1 << 15) if value is None else value
    assert ans.state == 0
    assert not ans.words
    return symbols


@pytest.mark.parametrize("kind", ["small", "mixed", "full", "zero"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (2, 8, 6)])
def test_encode_stream_is_decoded_by_the_plain_python_decoder(kind: str, shape: tuple[int, int, int]) -> None:
    symbols = noise(9, shape, kind)
    prior = ArbitraryPrior(shape[0])
    payload = stream_codec.encode_stream(symbols, prior, 0).data
    np.testing.assert_array_equal(decode_in_python(payload, shape, prior), symbols)


@pytest.mark.parametrize("tables", [TABLES, residual_tables().tables], ids=["latents", "residual"])
def test_ans_encoder_uses_the_exact_weights_of_tables(tables: NDArray[np.uint32]) -> None:
    """Constriction is given weights less 1, and codes with the exact weights. Every bin of every row is checked."""
    rows = np.repeat(np.arange(len(tables)), tables.shape[1])
    bins = np.tile(np.arange(tables.shape[1], dtype=np.int32), len(tables))
    writer = AnsEncoder(tables)
    writer.write_bins(bins, rows)
    stream = writer.stream()
    np.testing.assert_array_equal(AnsDecoder(words_of(stream), tables).read_bins(rows), bins)
    ans = Ans(stream)
    weights = tables.tolist()
    assert ans.take_bins([weights[row] for row in rows.tolist()]) == bins.tolist()
    assert ans.state == 0


def test_ans_decoder_mode_coded_as_another_bin_raises_format_error() -> None:
    """A flag says that the bin is not the mode, and the mode follows."""
    row = int(TABLES.max(1).argmax())
    coder, model = constriction.stream.stack.AnsCoder(), constriction.stream.model.Categorical(perfect=False)
    weights = np.array([escape_weights(TABLES[row].tolist())], np.float32) - 1
    coder.encode_reverse(TABLES[row].argmax(keepdims=True).astype(np.int32), model, weights)
    weight = float(TABLES[row].max())
    coder.encode_reverse(np.array([1], np.int32), model, np.array([[weight - 1, (1 << 24) - weight - 1]], np.float32))
    stream = coder.get_compressed()[::-1].astype(">u4").tobytes().lstrip(b"\0")
    with pytest.raises(FormatError, match="non-canonical bin"):
        AnsDecoder(words_of(stream), TABLES).read_bins(np.array([row]))


@pytest.mark.parametrize("size", [2, 4, 8, 16, 32, 1 << 16])
def test_constriction_uniform_numbers_are_read_by_the_plain_python_decoder(size: int) -> None:
    values = np.unique(np.linspace(0, size - 1, 200).astype(np.int32))
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(values, constriction.stream.model.Uniform(), np.full_like(values, size))
    ans = Ans(coder.get_compressed()[::-1].astype(">u4").tobytes())
    assert [ans.take_number(size) for _ in values] == values.tolist()


@PRIORS
@settings(max_examples=100)
@given(st.binary(max_size=120), st.sampled_from([(1, 1), (2, 3), (5, 4)]), st.integers(0, 4095))
def test_decode_stream_random_payload_is_refused_or_canonical(
    name: str, payload: bytes, size: tuple[int, int], step_code: int
) -> None:
    prior = shipped_prior(name)
    try:
        symbols = stream_codec.decode_stream(payload, (CHANNELS[name], *size), prior, step_code).symbols
    except FormatError:
        return
    assert stream_codec.encode_stream(symbols, prior, step_code).data == payload


@PRIORS
def test_encode_stream_leaves_out_trailing_passes_of_zeros(name: str) -> None:
    """Passes after the last nonzero symbol, in coding order, take no bytes."""
    prior, symbols = shipped_prior(name), noise(3, (CHANNELS[name], 12, 17), "mixed")
    order, passes = prior.order(len(symbols)), prior.passes(CHANNELS[name])
    lengths = []
    for num_coded in range(len(passes) + 1):
        coded = symbols[order]
        for coding_pass in passes[num_coded:]:
            scatter(coded, coding_pass, np.zeros_like(gather(coded, coding_pass)))
        stream = stream_codec.encode_stream(undo_channel_order(coded, order), prior, 2048).data
        decoded = stream_codec.decode_stream(stream, symbols.shape, prior, 2048)
        assert decoded.passes_read == num_coded
        np.testing.assert_array_equal(decoded.symbols[order], coded)
        lengths.append(len(stream))
    assert lengths[0] == 0
    assert lengths == sorted(set(lengths))


@PRIORS
def test_decode_stream_invalid_pass_count_raises_format_error(name: str) -> None:
    """The count is above the number of passes, or the last pass holds zeros alone and has a shorter stream."""
    prior, shape = shipped_prior(name), (CHANNELS[name], 12, 17)
    passes = prior.passes(CHANNELS[name])
    writer = AnsEncoder(prior.tables)
    writer.write_number(len(passes) + 1, 1 << len(passes).bit_length())
    with pytest.raises(FormatError, match=f"{len(passes) + 1} passes"):
        stream_codec.decode_stream(writer.stream(), shape, prior, 3000)
    context = prior.context(passes[0], prior.planes(shape, 3000), 0)
    writer = AnsEncoder(prior.tables)
    assert not context.low_bits().any()
    writer.write_bins(bins_of(-context.base(), context.low_bits()).ravel(), context.table_rows().ravel())
    writer.write_number(1, 1 << len(passes).bit_length())
    with pytest.raises(FormatError, match="zeros alone"):
        stream_codec.decode_stream(writer.stream(), shape, prior, 3000)


@PRIORS
def test_decode_stream_damaged_payload_is_refused_or_differs(name: str) -> None:
    symbols = noise(4, (CHANNELS[name], 18, 15), "mixed")
    prior = shipped_prior(name)
    payload = stream_codec.encode_stream(symbols, prior, 2048).data
    rng = np.random.default_rng(8)
    outcomes = {"refused": 0, "other": 0}
    for _ in range(100):
        damaged = bytearray(payload)
        damaged[rng.integers(len(damaged))] ^= rng.integers(1, 256)
        try:
            decoded = stream_codec.decode_stream(bytes(damaged), symbols.shape, prior, 2048).symbols
            assert (decoded != symbols).any()
            outcomes["other"] += 1
        except FormatError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 50
    for damaged in (b"\0" + payload, b"\1" + payload, payload + payload, payload[:-1], payload[4:]):
        with pytest.raises(FormatError):
            stream_codec.decode_stream(damaged, symbols.shape, prior, 2048)


@PRIORS
def test_decode_stream_wrong_channel_count_raises_format_error(name: str) -> None:
    with pytest.raises(FormatError, match="channels"):
        stream_codec.decode_stream(b"", (CHANNELS[name] + 1, 2, 2), shipped_prior(name), 2048)


def laplacian(seed: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return latents in units of the quantization step, like those of images: a wide range of channel scales."""
    rng = np.random.default_rng(seed)
    scales = rng.choice([0.2, 0.6, 2, 9], (shape[0], 1, 1))
    return rng.laplace(0, scales, shape).astype(np.float32)


@PRIORS
@pytest.mark.parametrize("size", [(1, 1), (9, 14), (24, 24)])
def test_quantize_and_encode_higher_effort_lowers_the_rd_cost(name: str, size: tuple[int, int]) -> None:
    """Each effort gives the same bytes twice, and its symbols encode to the same stream. RD costs fall with effort."""
    scaled = laplacian(5, (CHANNELS[name], *size))
    prior = shipped_prior(name)
    rd_costs = []
    for effort in (1, 2, 6):
        payload = stream_codec.quantize_and_encode(scaled, prior, 2048, effort).data
        assert payload == stream_codec.quantize_and_encode(scaled, prior, 2048, effort).data
        decoded = stream_codec.decode_stream(payload, scaled.shape, prior, 2048)
        offsets = np.float32(0) if decoded.recon_offsets is None else decoded.recon_offsets / np.float32(64)
        assert np.abs(decoded.symbols + offsets - scaled).max() < 1.3
        error = np.square(decoded.symbols + offsets - scaled).sum()
        rd_costs.append(error + RDOQ_LAMBDA * 8 * len(payload))
        assert stream_codec.encode_stream(decoded.symbols, prior, 2048).data == payload
    if size != (1, 1):
        assert rd_costs[0] > rd_costs[1] > rd_costs[2]


@PRIORS
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (24, 20)])
def test_salvage_stream_cut_after_a_level_has_the_passes_of_the_level(name: str, shape: tuple[int, int]) -> None:
    """A stream that is cut at the end of a level holds all passes of the level, also for `decode_levels`."""
    prior, symbols = shipped_prior(name), noise(5, (CHANNELS[name], *shape), "mixed")
    stream = stream_codec.encode_stream(symbols, prior, 2048)
    assert b"".join(stream.levels()) == stream.data
    assert all(len(level) % 4 == 0 for level in stream.levels()[1:])
    for end, passes in zip(stream.ends, prior.cuts, strict=False):
        alignment = -len(stream.data) % 4
        partial = stream_codec.salvage_stream(stream.data[:end], symbols.shape, prior, 2048, alignment, passes)
        assert_passes_equal(partial.symbols, symbols, prior, passes)
    for levels, (end, passes) in enumerate(zip(stream.ends, prior.cuts, strict=False), 1):
        coarse = stream_codec.decode_levels(stream.data[:end], symbols.shape, prior, 2048, levels)
        assert_passes_equal(coarse.symbols, symbols, prior, passes)


@PRIORS
def test_salvage_stream_of_a_longer_prefix_has_more_correct_passes(name: str) -> None:
    """Decoded passes are correct, their number grows with the prefix, and the full stream gives all symbols."""
    prior, symbols = shipped_prior(name), noise(6, (CHANNELS[name], 9, 11), "small")
    data = stream_codec.encode_stream(symbols, prior, 2048).data
    counts = []
    for length in range(0, len(data) + 1, 3):
        partial = stream_codec.salvage_stream(data[:length], symbols.shape, prior, 2048, -len(data) % 4, 0)
        counts.append(partial.passes_read)
        assert partial.passes_read + partial.passes_missing == len(prior.passes(CHANNELS[name]))
        assert_passes_equal(partial.symbols, symbols, prior, partial.passes_read)
    assert counts == sorted(counts)
    assert counts[0] == 0
    num_passes = len(prior.passes(CHANNELS[name]))
    complete = stream_codec.salvage_stream(data, symbols.shape, prior, 2048, -len(data) % 4, num_passes)
    np.testing.assert_array_equal(complete.symbols, symbols)


def assert_passes_equal(actual: NDArray[np.int16], expected: NDArray[np.int16], prior: Prior, passes: int) -> None:
    order = prior.order(len(expected))
    for coding_pass in prior.passes(len(expected))[:passes]:
        if coding_pass.phase.slices(*expected.shape[1:]):
            np.testing.assert_array_equal(gather(actual[order], coding_pass), gather(expected[order], coding_pass))


def test_salvage_stream_predicts_missing_symbols_from_the_prior() -> None:
    """The predicted symbols of a smooth plane are nearer than zeros, and more passes bring them nearer."""
    y, x = np.mgrid[:32, :40]
    waves = 40 * np.sin(y / 9)[None] * np.cos(x / 11)[None] * np.array([1, 0.5, -1, 2])[:, None, None]
    symbols, prior = np.rint(waves).astype(np.int16), shipped_prior("sd1-1")
    stream = stream_codec.encode_stream(symbols, prior, 1800)
    errors = [float(np.square(symbols.astype(float)).mean())]
    for end, passes in zip(stream.ends[:-1], prior.cuts, strict=True):
        partial = stream_codec.salvage_stream(
            stream.data[:end], symbols.shape, prior, 1800, -len(stream.data) % 4, passes
        )
        errors.append(float(np.square(partial.symbols.astype(float) - symbols).mean()))
    assert errors[0] > 4 * errors[1] > 4 * errors[2]


def test_quantize_and_encode_rate_weights_raise_errors_where_they_are_high() -> None:
    scaled, prior = laplacian(9, (40, 24, 24)) / 4, shipped_prior("tiny-1")
    rate_weights = np.ones((24, 24), np.float32)
    plain = stream_codec.quantize_and_encode(scaled, prior, 2048, 5)
    assert stream_codec.decode_stream(
        stream_codec.quantize_and_encode(scaled, prior, 2048, 5, rate_weights).data, scaled.shape, prior, 2048
    )
    rate_weights[:, 12:] = 16
    weighted = stream_codec.quantize_and_encode(scaled, prior, 2048, 5, rate_weights)
    assert len(weighted.data) < 0.9 * len(plain.data)
    errors = [
        np.square(stream_codec.decode_stream(stream.data, scaled.shape, prior, 2048).symbols - scaled)
        for stream in (plain, weighted)
    ]
    assert errors[1][:, :, 12:].mean() > 1.5 * errors[0][:, :, 12:].mean()
    assert errors[1][:, :, :11].mean() < 1.1 * errors[0][:, :, :11].mean()


@pytest.mark.parametrize("effort", [1, 5, 6])
@pytest.mark.parametrize("size", [20_000.0, 32_766.0])
def test_quantize_and_encode_extreme_latents_bound_errors_of_others(size: float, effort: int) -> None:
    """Extreme values raise the errors of others, up to a bound. The errors of channels 6 to 27 are as usual."""
    scaled, prior = laplacian(6, (40, 9, 9)), shipped_prior("tiny-1")
    scaled[0, 4:6] = size
    scaled[28, 1] = -size
    decoded = stream_codec.decode_stream(
        stream_codec.quantize_and_encode(scaled, prior, 0, effort).data, scaled.shape, prior, 0
    )
    assert decoded.recon_offsets is not None
    ordinary = np.abs(scaled) < 100
    assert np.abs(decoded.symbols + decoded.recon_offsets / 64 - scaled)[ordinary].max() < 16_384
    assert np.abs(decoded.symbols - scaled)[6:28].max() < 1.3


def test_quantize_and_encode_effort_1_rounds_to_the_nearest_level() -> None:
    scaled = laplacian(6, (40, 9, 9))
    payload = stream_codec.quantize_and_encode(scaled, shipped_prior("tiny-1"), 2048, 1).data
    decoded = stream_codec.decode_stream(payload, scaled.shape, shipped_prior("tiny-1"), 2048)
    assert decoded.recon_offsets is not None
    spacing = max(coding_pass.spacing for coding_pass in shipped_prior("tiny-1").passes(40)) / 64
    assert np.abs(decoded.symbols + decoded.recon_offsets / 64 - scaled).max() <= 0.5 * spacing + 1 / 64


INT64_NETWORK = """
from sdtrt.engine.coding.priors import network_prior

def int64_product(weights, inputs):
    return (weights.astype(np.int64)[:, :, None] * inputs.astype(np.int64)[None]).sum(1)

def network(self, inputs, features):
    inputs = np.concatenate([inputs, np.repeat(features[:, None], inputs.shape[1], axis=1)])
    sums = int64_product(self.first, inputs) + self.first_bias.astype(np.int64)[:, None]
    units, direct = np.split(sums, [self.second.shape[1]])
    seconds = (int64_product(self.second, (units >> 6).clip(0, 1023)) + self.second_bias.astype(np.int64)[:, None]) >> 9
    return (direct + int64_product(self.output, seconds.clip(0, 1023))).astype(np.int32)

network_prior.PassNetwork.__call__ = network
"""

PRINT_HASHES = """
import hashlib
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.engine.coding.streams.ans import AnsDecoder
from sdtrt.engine.coding.priors.prior import shipped_prior

SHAPES = {"tiny-1": (40, 20, 31), "sd1-1": (4, 50, 61)}
for name, shape in SHAPES.items():
    rng = np.random.default_rng(11)
    symbols = np.rint(rng.laplace(0, rng.choice([0.1, 1, 300], (shape[0], 1, 1)), shape)).astype(np.int16)
    payload = stream_codec.encode_stream(symbols, shipped_prior(name), 2000).data
    decoded = stream_codec.decode_stream(payload, symbols.shape, shipped_prior(name), 2000)
    assert (decoded.symbols == symbols).all()
    offsets = b"" if decoded.recon_offsets is None else decoded.recon_offsets.tobytes()
    print(name, hashlib.sha256(payload + offsets).hexdigest())
"""


def run_script(script: str, threads: int) -> str:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": f"{threads}", "OMP_NUM_THREADS": f"{threads}"}
    command = [sys.executable, "-c", "import numpy as np\n" + script]
    process = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_encode_stream_bytes_do_not_depend_on_threads_or_blas() -> None:
    """One thread, two threads and int64 sums without BLAS give the same bytes and the same reconstruction offsets."""
    one_thread = run_script(PRINT_HASHES, 1)
    assert len(one_thread.splitlines()) == len(PRIOR_NAMES)
    assert run_script(PRINT_HASHES, 2) == one_thread
    assert run_script(INT64_NETWORK + PRINT_HASHES, 1) == one_thread
