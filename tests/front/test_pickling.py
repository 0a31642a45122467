"""What can be pickled and copied: codecs, also after use, and errors with all that they say."""

import ast
import copy
import importlib
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.networks.backends.ort import OrtCpu, OrtNetwork
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.errors import SdtrtError

ROOT = Path(__file__).parents[2]
Photo = Callable[[int, int], np.ndarray]
OPTIONS: dict[str, Any] = {
    "threads": 1,
    "precision": "fp32",
    "backend": "ort",
    "device": "cpu",
    "tile": 512,
    "overlap": 64,
}


@pytest.fixture(scope="module")
def used(photo: Photo) -> sdtrt.Codec:
    """A codec whose encoder, decoder and search network are loaded."""
    codec = sdtrt.Codec.open(**OPTIONS)
    codec.decode(codec.encode(photo(45, 37), effort=8, quality=30))
    return codec


def encoded(codec: sdtrt.Codec, pixels: np.ndarray) -> bytes:
    return codec.encode(pixels, quality=40)


def failing(kind: type[Exception], message: str) -> None:
    error = kind(message)
    error.add_note("number 3 of the batch, from 0")
    raise error


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_used_codec_pickles_as_a_fresh_one(used: sdtrt.Codec, photo: Photo, protocol: int) -> None:
    data = pickle.dumps(used, protocol)
    assert len(data) < 1000  # the model's name and the options, no networks
    with sdtrt.Codec.open(**OPTIONS) as fresh:
        assert pickle.dumps(fresh, protocol) == data
    again = pickle.loads(data)
    assert again._opened() is not used._opened()
    assert encoded(again, photo(45, 37)) == encoded(used, photo(45, 37))
    assert again.decode(encoded(used, photo(45, 37))) == used.decode(encoded(used, photo(45, 37)))


def test_pickled_codec_keeps_its_options(used: sdtrt.Codec) -> None:
    again = pickle.loads(pickle.dumps(used))._opened()
    assert again.__getstate__() == {**OPTIONS, "model": "tiny", "report": None, "single_call": False}
    assert again.pipeline.name == used._opened().pipeline.name
    assert again._tiled.tiling == used._opened()._tiled.tiling


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copy_is_not_closed_with_the_codec(copied: Callable[[Any], Any], photo: Photo) -> None:
    codec = sdtrt.Codec.open(**OPTIONS)
    expected = encoded(codec, photo(45, 37))
    other = copied(codec)
    codec.close()
    assert encoded(other, photo(45, 37)) == expected


def test_closed_codec_stays_closed(photo: Photo) -> None:
    codec = sdtrt.Codec.open(**OPTIONS)
    codec.close()
    for other in (pickle.loads(pickle.dumps(codec)), copy.copy(codec), copy.deepcopy(codec)):
        with pytest.raises(ValueError, match="closed"):
            encoded(other, photo(45, 37))


def test_pickled_codec_of_a_relative_folder_opens_in_any_folder(
    own_bundle: Path, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_bundle.parent)
    codec = sdtrt.Codec.open(f"./{own_bundle.name}", **OPTIONS)
    data = pickle.dumps(codec)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert encoded(pickle.loads(data), photo(45, 37)) == encoded(codec, photo(45, 37))


@pytest.fixture
def own_bundle(tmp_path: Path) -> Path:
    """A bundle with a name of its own."""
    return shutil.copytree(find_bundle("tiny").folder, tmp_path / "mine" / "other")


def test_codec_and_errors_reach_a_process_that_is_spawned(
    used: sdtrt.Codec, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)  # the process imports this module by its name
    pixels = photo(45, 37)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(encoded, used, pixels).result() == encoded(used, pixels)
        for kind in (sdtrt.FormatError, sdtrt.LimitError, sdtrt.BundleError, sdtrt.DeviceError):
            with pytest.raises(kind) as raised:
                pool.submit(failing, kind, "what it says").result()
            assert str(raised.value) == "what it says"
            assert raised.value.__notes__[0] == "number 3 of the batch, from 0"


def exceptions() -> list[type[BaseException]]:
    """Return all exceptions of the package's own, but for those of modules whose extra is not installed."""
    found = []
    for folder, package in {"sdtrt": "sdtrt", "engine": "sdtrt.engine", "kernels": "sdtrt.kernels"}.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = [node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if is_exception(node)]
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            with suppress(ImportError):
                module = importlib.import_module(".".join([package, *parts])) if names else None
                found += [getattr(module, name) for name in names]
    return found


def is_exception(node: ast.AST) -> TypeGuard[ast.ClassDef]:
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)} if isinstance(node, ast.ClassDef) else set()
    return any(base.endswith(("Error", "Exception", "Warning")) for base in bases)


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
def test_error_pickles_with_message_and_notes(kind: Any) -> None:
    arguments = (422, "what it says", {"Retry-After": "1"}) if kind.__name__ == "ProblemError" else ("what it says",)
    error = kind(*arguments)
    error.add_note("number 3")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.__notes__) == ("what it says", ["number 3"])
    assert vars(again) == vars(error)


def test_exceptions_of_the_package_are_collected() -> None:
    assert {SdtrtError, sdtrt.FormatError, sdtrt.ImageWarning} <= set(exceptions())


def test_no_network_is_pickled(used: sdtrt.Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (OrtNetwork, OrtCpu):
        monkeypatch.setattr(kind, "__reduce_ex__", lambda *_: pytest.fail("a network is pickled"))
    assert isinstance(pickle.loads(pickle.dumps(used))._opened(), EngineCodec)
