"""Priors from untrusted files: malformed and oversized files are refused."""

import io
import json
import zipfile
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
import pytest

from sdtrt.engine.coding.priors import prior_file
from sdtrt.engine.coding.priors.prior_file import parse_prior, read_npz
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.errors import BundleError

Arrays = dict[str, np.ndarray]
SHIPPED = (resources.files("sdtrt.engine") / "data" / "priors" / "sd1-1.npz").read_bytes()


def packed(arrays: Arrays, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays, **options)
    return stream.getvalue()


def with_architecture(arrays: Arrays, change: Callable[[dict[str, Any]], Any]) -> Arrays:
    fields = json.loads(bytes(arrays["architecture"]))
    change(fields)
    return arrays | {"architecture": np.frombuffer(json.dumps(fields).encode(), np.uint8)}


def test_parse_prior_of_shipped_file() -> None:
    found = parse_prior(SHIPPED)
    assert found.cuts == (12, 16)
    assert [*found.order(4)] == [0, 1, 2, 3]
    assert found is parse_prior(bytes(bytearray(SHIPPED)))


@pytest.mark.parametrize("code", [0, 1600, 2400, 4095])
def test_predicted_passes_with_centroids_round_trip(code: int) -> None:
    """Symbols round-trip, and reconstructed latents lie within 1.6 steps of the original ones."""
    data = packed(
        with_architecture(
            read_npz(SHIPPED), lambda fields: [p.update(predicted=True, spacing=40) for p in fields["passes"]]
        )
    )
    prior, scaled = parse_prior(data), np.random.default_rng(1).laplace(0, 9, (4, 21, 30)).astype(np.float32)
    stream = stream_codec.quantize_and_encode(scaled, prior, code, 1).data
    decoded = stream_codec.decode_stream(stream, scaled.shape, prior, code)
    assert decoded.recon_offsets is not None
    assert stream_codec.encode_stream(decoded.symbols, prior, code).data == stream
    assert np.abs(decoded.symbols + decoded.recon_offsets / 64 - scaled).max() < 1.6
    assert any(coding_pass.predicted for coding_pass in prior.passes(4))


@pytest.mark.parametrize("data", [b"", b"PK", SHIPPED[:-30], SHIPPED[:1000], b"\x93NUMPY" + bytes(99), packed({})])
def test_parse_prior_of_no_archive_raises(data: bytes) -> None:
    with pytest.raises(BundleError, match="prior is"):
        parse_prior(data)


def test_parse_prior_with_changed_byte_raises_or_is_valid() -> None:
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(SHIPPED), 40):
        damaged = bytearray(SHIPPED)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            found = parse_prior(bytes(damaged))
        except BundleError:
            continue
        assert found.largest_sum() < 1 << 24  # changed names and dates in the archive do no harm


def test_parse_prior_beyond_size_limit_raises() -> None:
    with pytest.raises(BundleError, match="the limit is"):
        parse_prior(packed({"tables": np.zeros(prior_file.MAX_NBYTES + 1, np.uint8)}))


def test_parse_prior_with_understated_size_raises() -> None:
    """At most the declared size of a member is read, and its array must have that size."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("tables.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)})
    with pytest.raises(BundleError, match="prior is"):
        parse_prior(stream.getvalue())


@pytest.mark.parametrize("header", [b"{'descr': (), 'fortran_order': False, 'shape': ()}", b"-" * 9000 + b"1"])
def test_parse_prior_with_malformed_npy_header_raises(header: bytes) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("tables.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(BundleError, match="prior is"):
        parse_prior(stream.getvalue())


def test_parse_prior_of_damaged_lzma_raises() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("tables.npy", bytes(5000))
    data = bytearray(stream.getvalue())
    data[60:75] = bytes(15)
    with pytest.raises(BundleError, match="prior is"):
        parse_prior(bytes(data))


def replaced(name: str, value: np.ndarray) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: value}


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: with_architecture(arrays, change)


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {other: value for other, value in arrays.items() if other != name}


def with_many_units(arrays: Arrays, n: int) -> Arrays:
    """Return arrays with so many second units in pass n that the bound on its sums would overflow 64 bits."""
    outputs, units = len(arrays[f"output{n}"]), arrays[f"second{n}"].shape[1]
    seconds = (1 << 22) + (1 << 14)
    changed = {
        f"second{n}": np.zeros((seconds, units), np.int8),
        f"second_bias{n}": np.zeros(seconds, np.int8),
        f"output{n}": np.full((outputs, seconds), -(1 << 31), np.int32),
    }
    return arrays | changed


HOSTILE: dict[str, Callable[[Arrays], Arrays]] = {
    "no tables": without("tables"),
    "no network": without("second3"),
    "an array too many": replaced("first99", np.zeros(1, np.int8)),
    "an object": lambda arrays: arrays | {"tables": np.array([{}], object)},
    "floats": lambda arrays: arrays | {"first0": arrays["first0"].astype(np.float32)},
    "another shape": lambda arrays: arrays | {"first0": arrays["first0"][:, 1:]},
    "sums beyond 2**24": lambda arrays: arrays | {"first1": arrays["first1"].astype(np.int32) * 5000},
    "sums that wrap": lambda arrays: arrays | {"first1": np.full(arrays["first1"].shape, 1 << 56, np.int64)},
    "sums of many that wrap": lambda arrays: with_many_units(arrays, 1),
    "a zero in tables": lambda arrays: arrays | {"tables": arrays["tables"] * (np.arange(32) > 0).astype(np.uint32)},
    "other sums of tables": lambda arrays: arrays | {"tables": arrays["tables"] + np.uint32(1)},
    "centroids of another type": lambda arrays: arrays | {"centroids": arrays["centroids"].astype(np.int16)},
    "no text": replaced("architecture", np.frombuffer(b"\xff\xfe", np.uint8)),
    "no JSON": replaced("architecture", np.frombuffer(b"[" * 100_000, np.uint8)),
    "a channel twice": changed(lambda fields: fields.update(order=[0, 1, 2, 2])),
    "too many channels": changed(lambda fields: fields.update(order=[*range(300)])),
    "no passes": changed(lambda fields: fields.update(passes=[])),
    "a pass twice": changed(lambda fields: fields.update(passes=fields["passes"] * 2)),
    "a pass too few": changed(lambda fields: fields["passes"].pop()),
    "cuts beyond the end": changed(lambda fields: fields.update(cuts=[99])),
    "cuts that fall": changed(lambda fields: fields.update(cuts=[16, 12])),
    "a cut that is true": changed(lambda fields: fields.update(cuts=[True])),
    "more cuts than files have levels": changed(lambda fields: fields.update(cuts=[*range(1, 8)])),
    "stride 1": changed(lambda fields: fields.update(passes=[fields["passes"][0] | {"stride": 1, "channels": [0, 4]}])),
    "predicted by half": changed(lambda fields: fields["passes"][0].update(predicted=0.5)),
    "a spacing of nothing": changed(lambda fields: fields["passes"][0].update(predicted=True, spacing=0)),
    "a spacing of fractions": changed(lambda fields: fields["passes"][0].update(predicted=True, spacing=8.0)),
    "a wide spacing": changed(lambda fields: fields["passes"][0].update(predicted=True, spacing=256)),
    "a spacing from 0": changed(lambda fields: fields["passes"][0].update(spacing=32)),
    "stride 0": changed(lambda fields: fields["passes"][0].update(stride=0)),
    "stride 3": changed(lambda fields: fields["passes"][0].update(stride=3)),
    "a far window": changed(lambda fields: fields["passes"][3]["values"].append([0, 1, 5, 0])),
    "a window of other channels": changed(lambda fields: fields["passes"][3]["values"].append([3, 5, 1, 0])),
    "a window of fractions": changed(lambda fields: fields["passes"][3]["values"].append([0, 1, 0.5, 0])),
    "a window of whole fractions": changed(lambda fields: fields["passes"][3]["values"][0].__setitem__(3, 1.0)),
    "too many inputs": changed(lambda fields: fields["passes"][3].update(values=[[0, 4, 0, 1]] * 1025)),
    "too long a text": changed(lambda fields: fields.update(more="x" * prior_file.MAX_ARCHITECTURE)),
    "windows without end": changed(lambda fields: fields["passes"][3].update(values=[[0, 1, 0, 1]] * 10_000)),
    "an origin that is elsewhere": changed(lambda fields: fields["passes"][0].update(origins=[[9, 9]])),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_parse_prior_of_hostile_arrays_raises(hostile: Callable[[Arrays], Arrays]) -> None:
    with pytest.raises(BundleError, match="prior"):
        parse_prior(packed(hostile(read_npz(SHIPPED))))
