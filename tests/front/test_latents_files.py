"""Files of latents: `.npy`, `.npz` and `.safetensors`, whole, damaged, forged; and the commands that take them."""

import io
import json
import pickle
import subprocess
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdtrt
from sdtrt.cli import main
from sdtrt.engine.format.limits import DEFAULT_LIMITS
from sdtrt.latents.files import read_latents, suffix_of_latents
from sdtrt.latents.safetensors import safetensors_file

Command = Callable[..., tuple[int, str]]
Run = Callable[..., subprocess.CompletedProcess[bytes]]
SMALL = np.random.default_rng(3).normal(size=(4, 3, 5)).astype(np.float16).astype(np.float32)
OTHER = np.zeros((2, 2), np.float32)


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version, allow_pickle=True)
    return stream.getvalue()


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def npy_of_header(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + data


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensors(**arrays: tuple[str, tuple[int, ...], bytes]) -> bytes:
    """Return a safetensors file of tensors given by dtype, shape and bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, shape, values) in arrays.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    return safetensors(header, data)


def zipped(compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), data)
    return stream.getvalue()


def read(data: bytes, key: str | None = None, limits: sdtrt.Limits = DEFAULT_LIMITS) -> np.ndarray:
    return read_latents(io.BytesIO(data), key, limits)


F32 = ("F32", SMALL.shape, SMALL.tobytes())
EMPTY = ("F32", (0,), b"")
ONE = ("F32", (1,), bytes(4))
WHOLE: dict[str, tuple[bytes, str | None]] = {
    "npy": (npy(SMALL), None),
    "npy float16": (npy(SMALL.astype("f2")), None),
    "npy float64 big endian": (npy(SMALL.astype(">f8")), None),
    "npy Fortran order": (npy(np.asfortranarray(SMALL)), None),
    "npy 2.0": (npy(SMALL, (2, 0)), None),
    "npy 3.0": (npy(SMALL, (3, 0)), None),
    "npy by Python 2": (
        npy_of_header("{'shape': (4L, 3L, 5L), 'fortran_order': False, 'descr': '<f4'}\n", SMALL.tobytes()),
        None,
    ),
    "npz of one": (npz(other=SMALL), None),
    "npz without a name": (zipped(arr_npy=npy(SMALL)), None),
    "npz with latents": (npz(other=OTHER, latents=SMALL), None),
    "npz compressed": (npz(True, other=OTHER, latents=SMALL), None),
    "npz by key": (npz(latents=OTHER, other=SMALL), "other"),
    "safetensors": (tensors(latents=F32, other=ONE), None),
    "safetensors of one": (tensors(any=F32), None),
    "safetensors by key": (tensors(latents=ONE, other=F32), "other"),
    "safetensors F16": (tensors(x=("F16", SMALL.shape, SMALL.astype("<f2").tobytes())), None),
    "safetensors F64": (tensors(x=("F64", SMALL.shape, SMALL.astype("<f8").tobytes())), None),
    "safetensors of ComfyUI": (tensors(latent_format_version_0=EMPTY, latent_tensor=F32), None),
    "safetensors of ours": (safetensors_file(SMALL), None),
}


@pytest.mark.parametrize("name", WHOLE)
def test_read_latents_of_a_whole_file_gives_its_values(name: str) -> None:
    data, key = WHOLE[name]
    np.testing.assert_array_equal(read(data, key), SMALL)


def test_read_latents_of_bf16_gives_its_values() -> None:
    bits = SMALL.view(np.uint32) & 0xFFFF0000
    data = tensors(x=("BF16", SMALL.shape, (bits >> 16).astype("<u2").tobytes()))
    np.testing.assert_array_equal(read(data), bits.view(np.float32))


def test_safetensors_files_are_those_of_the_library() -> None:
    library = pytest.importorskip("safetensors.numpy")
    np.testing.assert_array_equal(library.load(safetensors_file(SMALL))["latents"], SMALL)
    np.testing.assert_array_equal(read(library.save({"x": SMALL})), SMALL)
    torch = pytest.importorskip("torch")
    saved = pytest.importorskip("safetensors.torch").save({"latents": torch.tensor(SMALL).bfloat16()})
    np.testing.assert_array_equal(read(saved), torch.tensor(SMALL).bfloat16().float().numpy())


def tensor_pickle(**options: Any) -> bytes:
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    torch.save(torch.tensor(SMALL), stream, **options)
    return stream.getvalue()


def encrypted(archive: bytes) -> bytes:
    """Return a zip whose members are marked as encrypted."""
    data = bytearray(archive)
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(start) + flags] |= 1
    return bytes(data)


DEEP = "(" * 30000
WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "empty"),
    "text": (lambda: b"text", "not a file of latents"),
    "image": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(50), "images are encoded without --from-latents"),
    "sdt file": (lambda: b"SDT\x01" + bytes(50), "an .sdt file"),
    "pickle": (lambda: pickle.dumps(SMALL), "pickled file.*safetensors"),
    "pickle 2": (lambda: pickle.dumps({"latents": 1}, 2), "pickled file"),
    "pt": (tensor_pickle, "pickled file.*safetensors"),
    "pt of old": (lambda: tensor_pickle(_use_new_zipfile_serialization=False), "pickled file"),
    "zip without arrays": (lambda: zipped(a_txt=b"x"), "no arrays"),
    "npz of two": (lambda: npz(a=SMALL, b=OTHER), "2 arrays: 'a', 'b'; choose one by its name: --key NAME"),
    "npz of lzma": (lambda: zipped(zipfile.ZIP_LZMA, a_npy=npy(SMALL)), "compression 14"),
    "npz with another file": (lambda: zipped(a_npy=b"text"), "damaged"),
    "objects": (lambda: npy(np.array([{}])), "array of Python objects, expected floating-point"),
    "objects in npz": (lambda: npz(a=np.array([{}])), "array of Python objects, expected floating-point"),
    "words": (lambda: npy(np.array(["x"])), "array of text"),
    "integers": (lambda: npy(SMALL.astype(np.int32)), "array of integers"),
    "raw bfloat16": (lambda: npy(SMALL.astype("f2").view("V2")), "as NumPy saves bfloat16, .*save it as float32"),
    "structured": (lambda: npy(np.zeros(2, [("a", "<f4")])), "expected floating-point"),
    "npy cut": (lambda: npy(SMALL)[:-1], "240 bytes, it has 239"),
    "npy too long": (lambda: npy(SMALL) + b"x", "240 bytes, it has 241"),
    "npy without a header": (lambda: npy(SMALL)[:30], "ends .* early"),
    "npy of version 9": (lambda: npy_of_header("{}", version=9), "version 9.0"),
    "header of nothing": (lambda: npy_of_header(""), "header"),
    "header of code": (lambda: npy_of_header("{'descr': '<f4', 'fortran_order': print(1), 'shape': (1,)}"), "header"),
    "header of depth": (lambda: npy_of_header("{'descr': '<f4', 'fortran_order': False, 'shape': " + DEEP), "header"),
    "header of power": (
        lambda: npy_of_header("{'descr': '<f4', 'fortran_order': False, 'shape': (9**9**9,)}"),
        "no shape",
    ),
    "header of blanks": (lambda: npy_of_header("{'descr'" + " " * 60000 + "}"), "header"),
    "header of subarrays": (
        lambda: npy_of_header("{'descr': '(9999999999,)f4', 'fortran_order': False, 'shape': (1,)}"),
        "expected floating",
    ),
    "header of many digits": (
        lambda: npy_of_header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 9000 + ",)}"),
        "no shape",
    ),
    "header of many axes": (
        lambda: npy_of_header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 70 + ")}"),
        "axes",
    ),
    "negative shape": (
        lambda: npy_of_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", bytes(4)),
        "no shape",
    ),
    "long header": (lambda: npy_of_header(" " * 70000, version=2), "header of 70000 bytes"),
    "safetensors of integers": (lambda: tensors(x=("I64", (1,), bytes(8))), "dtype I64, expected F16"),
    "safetensors of float8": (lambda: tensors(x=("F8_E4M3", (1,), bytes(1))), "dtype F8_E4M3"),
    "safetensors of two": (lambda: tensors(a=ONE, b=ONE), "2 arrays: 'a', 'b'; choose"),
    "safetensors of nothing": (tensors, "no arrays"),
    "safetensors cut": (lambda: tensors(x=F32)[:-1], "lies at 0 to 240 of 239 bytes"),
    "safetensors of another size": (lambda: tensors(x=("F32", (9, 9), bytes(8))), "takes 324 bytes, not 8"),
    "no JSON": (lambda: safetensors(b"{x}"), "no JSON"),
    "no text": (lambda: safetensors(b"{\xff\xff}"), "no JSON"),
    "deep JSON": (lambda: safetensors(b'{"a":' + b"[" * 200000), "damaged safetensors"),
    "names twice": (lambda: safetensors(b'{"a":{},"a":{}}'), "twice"),
    "no offsets": (lambda: safetensors({"x": {"dtype": "F32", "shape": [1]}}), "no tensor by 'x'"),
    "offsets backwards": (
        lambda: safetensors({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        "lies at 4 to 0",
    ),
    "negative offsets": (
        lambda: safetensors({"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, bytes(4)),
        "no tensor by 'x'",
    ),
    "truth as a shape": (
        lambda: safetensors({"x": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4)),
        "no tensor by 'x'",
    ),
    "dtype of control characters": (lambda: tensors(x=("F4\n\x1b[31m" * 99, (1,), bytes(4))), r"dtype F4\\n\\x1b\[31m"),
    "npz with a password": (lambda: encrypted(npz(a=SMALL)), "encrypted array, .*save it without a password"),
    "many digits in JSON": (lambda: safetensors(b'{"x":' + b"9" * 9000 + b"}"), "damaged safetensors"),
}


def test_read_latents_of_an_empty_tensor_by_its_key_gives_its_shape() -> None:
    """So that the error names the shape, and does not deny that there is such a tensor."""
    data = tensors(latents=("F32", (4, 0, 3), b""), other=F32)
    assert read(data, "latents").shape == (4, 0, 3)
    assert read(data).shape == np.shape(read(data, "other"))


@pytest.mark.parametrize("name", WRONG)
def test_read_latents_of_an_unfit_file_says_what_is_wrong(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        read(make())
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("data", [npz(a=SMALL, b=OTHER), tensors(a=F32, b=ONE)])
def test_read_latents_of_an_unknown_key_names_those_there_are(data: bytes) -> None:
    with pytest.raises(ValueError, match="no array named 'c'; there are: 'a', 'b'"):
        read(data, "c")


def test_read_latents_of_npy_by_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the array of a \.npy file has no name"):
        read(npy(SMALL), "latents")


VAST = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4000000, 4000000)}"


def bomb() -> bytes:
    """Return an archive whose array is as large as its header says: 1 GiB of zeros in 1 MiB."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(npy_of_header("{'descr': '<f4', 'fortran_order': False, 'shape': (268435456,)}"))
        for _ in range(64):
            member.write(bytes(1 << 24))
    return stream.getvalue()


def forged_sizes(data: bytes) -> Iterator[bytes]:
    """Yield an archive's bytes, each field of 4 bytes in its last 200 once made as large as can be."""
    for at in range(max(len(data) - 200, 0), len(data) - 4):
        yield data[:at] + b"\xfe\xff\xff\xff" + data[at + 4 :]


@pytest.mark.parametrize(
    "data",
    [
        npy_of_header(VAST, bytes(100)),
        zipped(a_npy=npy_of_header(VAST, bytes(100))),
        safetensors({"x": {"dtype": "F32", "shape": [1 << 20] * 3, "data_offsets": [0, 8]}}, bytes(8)),
        safetensors({"x": {"dtype": "F32", "shape": [10**300] * 8, "data_offsets": [0, 8]}}, bytes(8)),
        bomb(),
    ],
    ids=["npy", "npz", "safetensors", "safetensors of long sides", "bomb"],
)
def test_read_latents_of_a_vast_array_is_refused_before_it_is_allocated(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(sdtrt.LimitError, match=r"the limit is 67108864 \(--max-pixels\)"):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def mutations(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield damaged copies of a file: bytes changed, pieces cut out, doubled or set to extremes."""
    rng = np.random.default_rng(seed)
    head = min(len(data), 400)
    for _ in range(count):
        forged = bytearray(data)
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(head if rng.random() < 0.7 else len(data)))
            size = int(rng.integers(1, 9))
            kind = rng.integers(5)
            if kind == 0:
                forged[at : at + size] = rng.bytes(size)
            elif kind == 1:
                del forged[at : at + size]
            elif kind == 2:
                forged[at:at] = forged[max(at - size, 0) : at]
            elif kind == 3:
                forged[at : at + size] = bytes([rng.choice([0, 0x7F, 0xFF, 0x39])]) * size
            else:
                del forged[at:]
        yield bytes(forged)


@pytest.mark.parametrize("name", ["npy", "npz with latents", "npz compressed", "safetensors", "safetensors of ComfyUI"])
def test_read_latents_of_damaged_bytes_raises_nothing_unexpected(name: str) -> None:
    data, _ = WHOLE[name]
    outcomes = {"read": 0, "refused": 0}
    tracemalloc.start()
    try:
        for forged in [*mutations(data, 11, 1500), *forged_sizes(data), *(data[:n] for n in range(len(data)))]:
            try:
                array = read(forged)
            except (ValueError, OSError, sdtrt.LimitError):
                outcomes["refused"] += 1
            else:
                assert array.dtype.kind == "f"
                outcomes["read"] += 1
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert outcomes["refused"] > 1000


def test_encode_latents_of_a_path_is_that_of_the_array(tmp_path: Path, codec: sdtrt.Codec) -> None:
    expected = sdtrt.encode_latents(SMALL, latent_space="sd1")
    path = tmp_path / "misnamed.txt"  # the content counts
    for data, key in WHOLE.values():
        path.write_bytes(data)
        assert sdtrt.encode_latents(path, latent_space="sd1", key=key) == expected
    path.write_bytes(npz(a=SMALL, b=OTHER))
    with pytest.raises(ValueError, match=r"misnamed\.txt: the file has 2 arrays"):
        sdtrt.encode_latents(str(path), latent_space="sd1")
    with pytest.raises(ValueError, match=r"misnamed\.txt: latents of shape \(4, 3, 5\), expected \(40, "):
        codec.encode_latents(path, key="a")
    with pytest.raises(sdtrt.LimitError, match=r"misnamed\.txt: latents"):
        sdtrt.encode_latents(path, latent_space="sd1", key="a", limits=sdtrt.Limits(max_pixels=59))
    with pytest.raises(FileNotFoundError):
        sdtrt.encode_latents(tmp_path / "none.npy", latent_space="sd1")
    with pytest.raises(ValueError, match="key is 'a', expected None"):
        sdtrt.encode_latents(SMALL, latent_space="sd1", key="a")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in a folder of its own: returns the exit code and what standard error says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        try:
            code = main(arguments)
        except SystemExit as exit_of_argparse:
            code = int(str(exit_of_argparse.code))
        return code, capsys.readouterr().err

    return run


def test_from_latents_takes_each_kind_of_file(command: Command, tmp_path: Path) -> None:
    expected = sdtrt.encode_latents(SMALL, latent_space="sd1", quality=70, width=33, height=24)
    options = ("encode", "--from-latents", "--latent-space", "sd1", "-q", "70", "--size", "33x24", "--quiet")
    for number, kind in enumerate(("npy 3.0", "npz compressed", "safetensors of ComfyUI")):
        (tmp_path / f"{number}.x").write_bytes(WHOLE[kind][0])
        assert command(*options, f"{number}.x") == (0, "")
        assert (tmp_path / f"{number}.sdt").read_bytes() == expected
    data, key = WHOLE["safetensors by key"]
    (tmp_path / "key.x").write_bytes(data)
    assert command(*options, "--key", str(key), "key.x") == (0, "")
    assert (tmp_path / "key.sdt").read_bytes() == expected
    (tmp_path / "two.npz").write_bytes(npz(a=SMALL, b=SMALL))
    code, message = command(*options, "two.npz")
    assert code == 1
    assert message.startswith("sdtrt: two.npz: the file has 2 arrays: 'a', 'b'; choose one by its name: --key NAME")
    assert not (tmp_path / "two.sdt").exists()


def test_from_latents_takes_standard_input(run_cli: Run) -> None:
    done = run_cli("encode", "--from-latents", "--latent-space", "sd1", "-", stdin=WHOLE["safetensors"][0])
    assert done.stdout == sdtrt.encode_latents(SMALL, latent_space="sd1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from-latents", "--latent-space", "sd1", "--model", "tiny"), "use one of them"),
        (("--latent-space", "sd1"), "--latent-space needs --from-latents"),
        (("--key", "x"), "--key needs --from-latents"),
        (("--size", "8x8"), "--size needs --from-latents"),
        (("--from-latents", "--size", "8by8"), "'8by8', expected width and height"),
        (("--from-latents", "--method", "palette", "-q", "5"), "palette"),
    ],
)
def test_options_of_latents_that_do_not_fit_are_refused(
    command: Command, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "a.npy").write_bytes(npy(SMALL))
    code, said = command("encode", *options, "a.npy")
    assert code == 2
    assert message in said
    assert not (tmp_path / "a.sdt").exists()


def test_from_latents_for_an_unknown_space_makes_no_folder(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SDTRT_MODELS", raising=False)
    code, message = command("encode", "--from-latents", "--latent-space", "nosuch", "a.npy", "-o", "new/")
    assert code == 1
    assert "no profile of latent space 'nosuch'; there are: sd1, tiny" in message
    assert list(tmp_path.iterdir()) == []


def test_from_latents_of_pickles_advises_another_format(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(SMALL))
    (tmp_path / "b.npy").write_bytes(npy(np.array([{}])))
    code, message = command("encode", "--from-latents", "--latent-space", "sd1", "a.pkl", "b.npy")
    assert code == 1
    assert "a.pkl: this is a pickled file" in message
    assert "safetensors" in message
    assert "allow" not in message


def test_from_latents_at_another_scale_warns(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy(9 * np.random.default_rng(0).normal(size=(4, 20, 20))))
    code, message = command("encode", "--from-latents", "--latent-space", "sd1", "a.npy")
    assert code == 0
    assert "a.npy: these latents have" in message
    assert "multiply by" in message


def test_to_latents_writes_what_the_name_says(command: Command, tmp_path: Path) -> None:
    data = sdtrt.encode_latents(SMALL, latent_space="sd1", quality=90)
    (tmp_path / "a.sdt").write_bytes(data)
    expected = sdtrt.decode_latents(data)
    for name in ("x.npy", "x.npz", "x.SAFETENSORS", "x"):
        assert command("decode", "--to-latents", "a.sdt", "-o", name)[0] == 0
        np.testing.assert_array_equal(read((tmp_path / name).read_bytes()), expected)
    (tmp_path / "y.folder").mkdir()
    assert command("decode", "--to-latents", "a.sdt", "-o", "y.folder")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.folder" / "a.npy"), expected)


@pytest.mark.parametrize("name", ["x.pt", "x.png", "x.npy.gz"])
def test_to_latents_of_an_unknown_suffix_is_refused_before_work(command: Command, name: str) -> None:
    code, message = command("decode", "--to-latents", "nosuch.sdt", "-o", name)
    assert code == 2
    assert "latents cannot be written as" in message
    assert "nosuch" not in message
    with pytest.raises(ValueError, match=r"npz or \.safetensors"):
        suffix_of_latents(name)
