"""Anyone's ONNX pair: what is made of it, and what is refused with the tensor named."""

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sdtrt
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.choices import LookOption
from sdtrt.errors import BundleError
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.import_onnx import import_pair
from sdtrt.export.import_options import ImportOptions

Run = Callable[..., Any]
SCALE = 0.18215
Codec = sdtrt.Codec


def network(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    *,
    source: tuple[str, list[Any]],
    targets: dict[str, list[Any]],
    dtype: int = TensorProto.FLOAT,
    opset: int = 17,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(source[0], dtype, source[1])],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in targets.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def means(channels: int = 4) -> np.ndarray:
    """Weights of an encoder that averages blocks of 8x8 pixels: red, green, blue, and brightness."""
    mix = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.6, 0.1]], np.float32)[:channels]
    return np.broadcast_to(mix[:, :, None, None] / 64, (len(mix), 3, 8, 8)).copy()


def encoder(path: Path, *, raw: float = 1 / SCALE, shape: list[Any] | None = None, **rest: Any) -> Path:
    nodes = [helper.make_node("Conv", ["image", "weight"], ["code"], strides=[8, 8])]
    weight = means(rest.pop("channels", 4)) * np.float32(raw)
    targets = {"code": ["n", weight.shape[0], "h8", "w8"]} | rest.pop("more", {})
    return network(
        path,
        nodes + rest.pop("nodes", []),
        {"weight": weight},
        source=("image", shape or ["n", 3, "h", "w"]),
        targets=targets,
        **rest,
    )


def decoder(path: Path, *, raw: float = SCALE, **rest: Any) -> Path:
    weight = np.zeros((4, 3, 8, 8), np.float32)
    weight[:3] = np.eye(3, dtype=np.float32)[:, :, None, None] * raw
    nodes = [helper.make_node("ConvTranspose", ["code", "weight"], ["image"], strides=[8, 8])]
    return network(
        path,
        nodes,
        {"weight": weight},
        source=("code", ["n", 4, "h", "w"]),
        targets={"image": ["n", 3, "H", "W"]},
        **rest,
    )


def pyramid(path: Path) -> Path:
    """A decoder whose picture is the sum of three outputs at 1/8, 1/2 and full size, by halves, quarters, quarters."""
    picks = np.eye(3, 4, dtype=np.float32)[:, :, None, None] * SCALE
    small, middle, full = (picks * part for part in (0.5, 0.25, 0.25))
    spread = lambda weight, size: np.broadcast_to(weight.transpose(1, 0, 2, 3), (4, 3, size, size)).copy()  # noqa: E731
    nodes = [
        helper.make_node("Conv", ["code", "a"], ["eighth"]),
        helper.make_node("ConvTranspose", ["code", "b"], ["half"], strides=[4, 4]),
        helper.make_node("ConvTranspose", ["code", "c"], ["whole"], strides=[8, 8]),
    ]
    targets = {name: ["n", 3, f"h_{name}", f"w_{name}"] for name in ("eighth", "half", "whole")}
    return network(
        path,
        nodes,
        {"a": small, "b": spread(middle, 4), "c": spread(full, 8)},
        source=("code", ["n", 4, "h", "w"]),
        targets=targets,
    )


def import_options(folder: Path, **changes: Any) -> ImportOptions:
    fields = {
        "encoder": folder / "encoder.onnx",
        "decoder": folder / "decoder.onnx",
        "out": folder / "bundle",
        "latent_space": "sd1",
        "latent_scale": SCALE,
    }
    return ImportOptions(**(fields | changes))


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    encoder(tmp_path / "encoder.onnx")
    decoder(tmp_path / "decoder.onnx")
    return tmp_path


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_import_pair_every_opset_round_trips(
    tmp_path: Path, photo: Callable[[int, int], np.ndarray], opset: int
) -> None:
    encoder(tmp_path / "encoder.onnx", opset=opset)
    decoder(tmp_path / "decoder.onnx", opset=opset)
    assert import_pair(import_options(tmp_path)) == ["receptive radius 0 latents: tiles of large images are exact"]
    pixels = photo(50, 30)
    with Codec.open(tmp_path / "bundle") as codec:
        data = codec.encode(pixels, quality=100, layers=1)
        found = np.asarray(codec.decode(data)).astype(float)
        latents = codec.decode_latents(data)
    assert sdtrt.info(data).latent_space == "sd1"
    blocks = pixels[:24, :48].reshape(3, 8, 6, 8, 3).mean((1, 3)) / 127.5 - 1
    np.testing.assert_allclose(latents[:3, :3, :6].transpose(1, 2, 0), blocks, atol=0.12)  # unit scale: raw * scale
    assert abs(found[4:20:8, 4:44:8] - (blocks[:2, :5] + 1) * 127.5).max() < 12


def test_import_pair_decoder_of_another_look_is_adapted_and_used(
    pair: Path, photo: Callable[[int, int], np.ndarray]
) -> None:
    pixels, path = photo(48, 32), pair / "other.onnx"
    looks: tuple[LookOption, ...] = ("faithful", "fast")
    decoder(path, raw=SCALE * 0.9)  # of less contrast
    import_pair(import_options(pair, fast=path))
    with Codec.open(pair / "bundle") as codec:
        data = codec.encode(pixels, quality=40, layers=1)
        faithful, other = (np.asarray(codec.decode(data, look=name)).astype(float) for name in looks)
    np.testing.assert_allclose(other - 127.5, 0.9 * (faithful - 127.5), atol=1)
    decoder(path, raw=-SCALE)
    with pytest.raises(BundleError, match=r"other.onnx: 'pixels' does not reproduce the input"):
        import_pair(import_options(pair, out=pair / "second", fast=path))


def test_import_pair_sum_outputs_adds_all_outputs(pair: Path, photo: Callable[[int, int], np.ndarray]) -> None:
    pyramid(pair / "decoder.onnx")
    with pytest.raises(BundleError, match=r"'eighth'.*'half'.*'whole'.*--sum-outputs"):
        import_pair(import_options(pair))
    import_pair(import_options(pair, sum_outputs=True))
    flat = np.full((16, 24, 3), (200, 100, 40), np.uint8)
    with Codec.open(pair / "bundle") as codec:
        found = np.asarray(codec.decode(codec.encode(flat, quality=100, layers=1))).astype(int)
    assert abs(found - flat).max() <= 12


def test_import_pair_ranges_are_converted(tmp_path: Path) -> None:
    """An encoder that takes 0 to 1, and a decoder that gives 0 to 255."""
    encoder(tmp_path / "encoder.onnx")
    decoder(tmp_path / "decoder.onnx", raw=SCALE * 255)
    import_pair(import_options(tmp_path, input_range=(0.0, 1.0), output_range=(0.0, 255.0)))
    flat = np.full((16, 24, 3), (200, 100, 40), np.uint8)
    with Codec.open(tmp_path / "bundle") as codec:
        found = np.asarray(codec.decode(codec.encode(flat, quality=100, layers=1))).astype(int)
    assert abs(found - flat).max() <= 24


def test_import_pair_unknown_space_needs_photos_and_has_its_profile(pair: Path, photos: Path) -> None:
    with pytest.raises(BundleError, match=r"without --latent-space.*--calibrate"):
        import_pair(import_options(pair, latent_space=None))
    assert not (pair / "bundle").exists()
    import_pair(import_options(pair, latent_space=None, photos=photos))
    bundle = Bundle.open(pair / "bundle")
    assert bundle.latent_space.startswith("x-")
    with Codec.open(pair / "bundle") as codec:
        data = codec.encode(np.zeros((9, 9, 3), np.uint8))
        assert codec.decode(data).size == (9, 9)
    assert sdtrt.info(data).latent_space == bundle.latent_space


def test_import_pair_wrong_latent_scale_gives_a_warning(pair: Path, photos: Path) -> None:
    _, warning = import_pair(import_options(pair, latent_scale=1.0, photos=photos))
    assert "do not match sd1" in warning
    _, warning = import_pair(import_options(pair, latent_scale=1e-3, force=True))
    assert "check the latent scale" in warning


@pytest.mark.parametrize(
    "changes",
    [{"latent_scale": 0.0}, {"latent_scale": float("nan")}, {"input_range": (1.0, 1.0)}, {"latent_space": "two words"}],
)
def test_import_pair_invalid_options_raise(pair: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scale|latent space"):
        import_pair(import_options(pair, **changes))


def test_import_pair_folder_with_other_files_is_not_replaced(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_pair(import_options(pair))
    (pair / "bundle" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match=r"more than a bundle: thesis\.txt"):
        import_pair(import_options(pair, force=True))
    (pair / "bundle" / "thesis.txt").unlink()
    monkeypatch.chdir(pair / "bundle")
    with pytest.raises(BundleError, match="the folder you are in"):
        import_pair(import_options(pair, out=Path("../bundle"), force=True))


def test_import_pair_interrupted_swap_restores_the_old_bundle(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_pair(import_options(pair))
    before = (pair / "bundle" / "bundle.json").read_bytes()
    real = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_pair(import_options(pair, force=True))
    assert (pair / "bundle" / "bundle.json").read_bytes() == before
    assert sorted(path.name for path in pair.iterdir()) == ["bundle", "decoder.onnx", "encoder.onnx"]


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "four channels of pixels": ({"shape": ["n", 4, "h", "w"]}, {}, {}, r"'image' .*4 channels, expected 3"),
    "channels last": ({"shape": ["n", "h", "w", 3]}, {}, {}, r"'image' .*channels last.*channels first"),
    "whole numbers": ({"dtype": TensorProto.UINT8}, {}, {}, r"'image' .*uint8, expected float32 or float16"),
    "summed and chosen": ({}, {}, {"sum_outputs": True, "decoder_output": "x"}, r"give only one of the two"),
    "not enough axes": ({"shape": ["n", 3, "h"]}, {}, {}, r"'image' .*3 axes"),
    "another decoder": ({}, {"raw": -SCALE}, {}, r"'pixels' does not reproduce the input"),
    "another range": ({}, {"raw": SCALE * 5}, {}, r"'pixels' does not reproduce the input.*latent scale"),
    "channels of tiny": ({}, {}, {"latent_space": "tiny"}, r"4 channels.*expected 40 channels"),
    "channels of another space": ({}, {}, {"latent_space": "flux1"}, r"4 channels.*flux1 has 16"),
    "an output that is not there": ({}, {}, {"encoder_output": "mean"}, r"no output 'mean'.*'code'"),
}


@pytest.mark.parametrize(("encoding", "decoding", "changes", "message"), CASES.values(), ids=CASES)
def test_import_pair_unusable_networks_are_refused_by_name(
    tmp_path: Path,
    encoding: dict[str, Any],
    decoding: dict[str, Any],
    changes: dict[str, Any],
    message: str,
    photos: Path,
) -> None:
    try:
        encoder(tmp_path / "encoder.onnx", **encoding)
    except onnx.checker.ValidationError:
        pytest.fail("the test's own network is broken")
    decoder(tmp_path / "decoder.onnx", **decoding)
    with pytest.raises((BundleError, ValueError), match=message):
        import_pair(import_options(tmp_path, photos=photos, **changes))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.onnx", "encoder.onnx"]


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x08"])
def test_import_pair_file_that_is_not_onnx_raises(pair: Path, data: bytes) -> None:
    (pair / "decoder.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"decoder\.onnx is not an ONNX model"):
        import_pair(import_options(pair))


def test_import_pair_full_disk_keeps_the_old_bundle(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_pair(import_options(pair))
    before = {path.name: path.read_bytes() for path in (pair / "bundle").iterdir()}
    real = onnx.save

    def full(model: onnx.ModelProto, path: Path, **options: Any) -> None:
        if Path(path).name == "decoder.onnx":
            Path(path).write_bytes(b"half of")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(model, path, **options)

    monkeypatch.setattr(onnx_graph.onnx, "save", full)
    with pytest.raises(BundleError, match=r"the existing folder is unchanged.*No space left.*run the same again"):
        import_pair(import_options(pair, force=True))
    assert {path.name: path.read_bytes() for path in (pair / "bundle").iterdir()} == before
    assert sorted(path.name for path in pair.iterdir()) == ["bundle", "decoder.onnx", "encoder.onnx"]


def test_import_pair_existing_folder_is_kept(pair: Path) -> None:
    (pair / "bundle").mkdir()
    import_pair(import_options(pair))  # an empty folder is no obstacle
    with pytest.raises(BundleError, match="--force"):
        import_pair(import_options(pair))
    (pair / "bundle" / "bundle.json").unlink()
    with pytest.raises(BundleError, match="not a bundle"):
        import_pair(import_options(pair, force=True))


def test_import_command_writes_a_bundle(pair: Path, run_cli: Run) -> None:
    done = run_cli(
        "import", "--encoder", pair / "encoder.onnx", "--decoder", pair / "decoder.onnx", "--out", pair / "bundle",
        "--latent-space", "sd1", "--latent-scale", "0.18215", "--input-range=-1,1", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["latent_space"] == "sd1"
    digest = hashlib.sha256((pair / "bundle" / "encoder.onnx").read_bytes()).hexdigest()
    assert Bundle.open(pair / "bundle").files["encoder.onnx"] == digest


def test_import_pair_gradient_is_written_and_used(pair: Path, photo: Callable[[int, int], np.ndarray]) -> None:
    """It lies in the bundle, and high efforts search by it: for what an encoder does that makes pictures too dark."""
    encoder(pair / "encoder.onnx", raw=0.95 / SCALE)
    import_pair(import_options(pair, gradient=True))
    assert set(Bundle.open(pair / "bundle").files) == {"decoder.onnx", "encoder.onnx", "gradient.onnx"}
    pixels = photo(96, 64)
    with Codec.open(pair / "bundle") as codec:
        data = [codec.encode(pixels, quality=90, layers=1, effort=effort) for effort in (5, 7)]
        errors = [np.square(np.asarray(codec.decode(one), float) - pixels).mean() for one in data]
    assert errors[1] < errors[0]
