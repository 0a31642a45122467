"""The index of engines and their states. The engines here are arbitrary bytes; `tests/export` builds real engines."""

import dataclasses
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdtrt.engine.networks.backends import engine_index
from sdtrt.engine.networks.backends.engine_index import (
    EngineIndex,
    EngineKey,
    EngineRecord,
    EngineState,
    delete_engines,
    engine_states,
    engines_folder,
    onnx_hash,
    require_valid,
)
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.errors import BundleError, DeviceError

DATA = b"an engine"
SHAPES = "64x64..512x512..1024x1024"


class Lenient:
    """A TensorRT library that accepts every engine."""

    name, version = "tensorrt_rtx", "1.2.3"

    def engine_fault(self, path: Path) -> str | None:
        return None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with TensorRT for RTX 1.2.3, without a GPU unless `gpu` is set."""
    about = SimpleNamespace(gpu=None)

    def architecture() -> str:
        if about.gpu is None:
            raise DeviceError("no GPU")
        return about.gpu

    monkeypatch.setattr(engine_index, "architecture", architecture)
    monkeypatch.setattr(engine_index, "installed", lambda: ["tensorrt_rtx"])
    monkeypatch.setattr(engine_index, "import_tensorrt", lambda name: Lenient())
    return about


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "mine"
    folder.mkdir()
    files = {
        "encoder.onnx": b"encoder",
        "decoder.onnx": b"decoder",
        "decoder.fp16.onnx": b"half",
        "decoder.fp16.onnx.data": b"w",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    fields = {
        "schema": 1,
        "name": "mine",
        "latent_space": "sd1",
        "profile": 2,
        "pixel_range": [-1, 1],
        "decoder_takes_step": False,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    (folder / "bundle.json").write_text(json.dumps(fields))
    return Bundle.open(folder)


def built(bundle: Bundle, network: str = "decoder", **changes: object) -> EngineRecord:
    fields = {"builder": "tensorrt_rtx", "version": "1.2.3", "target": "sm89", "shapes": SHAPES} | changes
    key = EngineKey(network, onnx_hash(bundle, network), **fields)  # type: ignore[arg-type]
    plan = EngineRecord(key, key.file_name(), hashlib.sha256(DATA).hexdigest(), len(DATA), 1.5)
    index = EngineIndex.of(bundle).with_engine(plan)
    index.folder.mkdir(exist_ok=True)
    (index.folder / plan.file).write_bytes(DATA)
    index.write()
    return plan


def state_of(bundle: Bundle, plan: EngineRecord) -> EngineState:
    return dict(engine_states(bundle, EngineIndex.of(bundle)))[plan]


def test_engine_state_of_unchanged_engine_is_valid(bundle: Bundle, machine: SimpleNamespace) -> None:
    plan = built(bundle)
    assert state_of(bundle, plan).kind == "valid"
    assert require_valid(bundle, plan).read_bytes() == DATA
    machine.gpu = "sm89"
    assert state_of(bundle, plan).kind == "valid"


@pytest.mark.parametrize("name", ["decoder.fp16.onnx", "decoder.fp16.onnx.data"])
def test_engine_state_after_changed_onnx_is_stale(bundle: Bundle, machine: SimpleNamespace, name: str) -> None:
    decoder, encoder = built(bundle), built(bundle, "encoder")
    path = bundle.folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert state_of(bundle, decoder) == EngineState("stale", "decoder's ONNX has changed")
    assert state_of(bundle, encoder).kind == "valid"


def test_engine_state_after_changed_fp32_file_is_valid(bundle: Bundle, machine: SimpleNamespace) -> None:
    plan = built(bundle)
    (bundle.folder / "decoder.onnx").write_bytes(b"other")
    assert state_of(bundle, plan).kind == "valid"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "1.2.2"}, "built by tensorrt_rtx 1.2.2, installed is 1.2.3"),
        ({"shapes": "512x512"}, f"built for 512x512, the index has {SHAPES}"),
        ({"recipe": 0}, "recipe 0"),
    ],
)
def test_engine_state_after_changed_build_inputs_is_stale(
    bundle: Bundle, machine: SimpleNamespace, change: dict[str, object], reason: str
) -> None:
    current, other = built(bundle), built(bundle, **change)
    assert state_of(bundle, current).kind == "valid"
    state = state_of(bundle, other)
    assert state.kind == "stale"
    assert reason in state.reason
    with pytest.raises(BundleError, match=r"stale.*run: sdtrt engines build /.*mine"):
        require_valid(bundle, other)


def test_engine_state_of_other_library_or_gpu_is_foreign(bundle: Bundle, machine: SimpleNamespace) -> None:
    other_library, other_gpu, portable = (
        built(bundle, builder="tensorrt"),
        built(bundle, target="sm120"),
        built(bundle, target="portable"),
    )
    assert state_of(bundle, other_library) == EngineState("foreign", "built by tensorrt, which is not installed")
    assert state_of(bundle, other_gpu).kind == "valid"  # without a GPU, engines for any GPU are valid
    machine.gpu = "sm89"
    assert state_of(bundle, other_gpu) == EngineState("foreign", "built for sm120, this GPU is sm89")
    assert state_of(bundle, portable).kind == "valid"


@pytest.mark.parametrize("data", [None, DATA[:-1], b"AN ENGINE", b""])
def test_engine_state_of_damaged_file_is_damaged(bundle: Bundle, machine: SimpleNamespace, data: bytes | None) -> None:
    plan = built(bundle)
    path = EngineIndex.of(bundle).folder / plan.file
    path.unlink() if data is None else path.write_bytes(data)
    assert state_of(bundle, plan).kind == "damaged"
    with pytest.raises(BundleError, match=r"damaged.*missing, truncated or changed; run: sdtrt engines build /.*mine"):
        require_valid(bundle, plan)


def test_delete_engines_deletes_record_and_file(bundle: Bundle, machine: SimpleNamespace) -> None:
    first, second = built(bundle), built(bundle, "encoder")
    index = delete_engines(EngineIndex.of(bundle), [first])
    assert EngineIndex.of(bundle) == index
    assert index.engines == (second,)
    assert not (index.folder / first.file).exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"schema": 2}',
        '{"schema": 1, "shapes": [], "engines": [{}]}',
        '{"schema": 1, "shapes": ["7y7"], "engines": []}',
        '{"schema": 1, "shapes": [], "engines": [7]}',
    ],
)
def test_engine_index_malformed_raises(bundle: Bundle, text: str) -> None:
    folder = engines_folder(bundle)
    folder.mkdir()
    (folder / engine_index.INDEX).write_text(text)
    with pytest.raises(BundleError, match=r"sdtrt engines clean /.*mine"):
        EngineIndex.of(bundle)


def test_engine_index_with_path_outside_folder_raises(bundle: Bundle, machine: SimpleNamespace) -> None:
    plan = built(bundle)
    path = engines_folder(bundle) / engine_index.INDEX
    path.write_text(path.read_text().replace(plan.file, "../decoder.onnx"))
    with pytest.raises(BundleError, match="not the file name of this engine"):
        EngineIndex.of(bundle)


def test_engine_key_file_name_depends_on_every_field(bundle: Bundle) -> None:
    key = built(bundle).key
    for field in dataclasses.fields(key):
        value = getattr(key, field.name)
        other = dataclasses.replace(key, **{field.name: value + 1 if isinstance(value, int) else f"{value}1"})
        assert other.file_name() != key.file_name()


def test_engine_key_file_name_never_changes() -> None:
    """Files that were built by an earlier version keep their names."""
    key = EngineKey("decoder", "0" * 64, "tensorrt", "10.1.0", "sm89", SHAPES, recipe=2)
    assert key.file_name() == "decoder-sm89-9143edb3ea81.engine"


def test_engines_folder_of_built_in_bundle_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engines_folder(find_bundle("tiny")) == tmp_path / "sdtrt" / "engines" / "tiny"
