"""Graphs as other exporters leave them: shapes, types, opsets, names and files that vary, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sdtrt
from sdtrt.errors import BundleError
from sdtrt.export.import_onnx import import_pair
from sdtrt.export.import_options import ImportOptions

Pixels = np.ndarray
MIX = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.6, 0.1]], np.float32)
ENCODER = np.broadcast_to(MIX[:, :, None, None] / 64, (4, 3, 8, 8)).copy()
DECODER = np.zeros((4, 3, 8, 8), np.float32)
DECODER[:3] = np.eye(3, dtype=np.float32)[:, :, None, None]
ANY = ["n", None, None, None]


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    *,
    source: tuple[str, list[Any] | None],
    targets: dict[str, list[Any] | None],
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
    ir_version: int = 8,
    **save: Any,
) -> Path:
    weights = [
        numpy_helper.from_array(helper_array(value, kind), name)
        if kind != TensorProto.BFLOAT16 or value.dtype != np.float32
        else helper.make_tensor(name, kind, value.shape, value.ravel())
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(source[0], kind, source[1])],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in targets.items()],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.save(model, path, **save)
    return path


def helper_array(value: np.ndarray, kind: int) -> np.ndarray:
    return value.astype(np.float16) if kind == TensorProto.FLOAT16 and value.dtype == np.float32 else value


def encoder(path: Path, **changes: Any) -> Path:
    """An encoder that averages squares of 8x8 pixels; `changes` replace what `write` is given."""
    name = changes.pop("name", "x")
    nodes = [helper.make_node("Conv", [name, "w"], ["z"], strides=[8, 8]), *changes.pop("nodes", [])]
    shape = changes.pop("shape", ["n", 3, "h", "w"])
    targets = changes.pop("targets", {"z": ["n", 4, "a", "b"]})
    constants = {"w": ENCODER} | changes.pop("constants", {})
    return write(path, nodes, constants, source=(name, shape), targets=targets, **changes)


def decoder(path: Path, **changes: Any) -> Path:
    nodes = [helper.make_node("ConvTranspose", ["z", "w"], ["y"], strides=[8, 8]), *changes.pop("nodes", [])]
    shape, targets = changes.pop("shape", ["n", 4, "h", "w"]), changes.pop("targets", {"y": ["n", 3, "H", "W"]})
    constants = {"w": DECODER} | changes.pop("constants", {})
    return write(path, nodes, constants, source=("z", shape), targets=targets, **changes)


def options(folder: Path, **changes: Any) -> ImportOptions:
    paths = {"encoder": folder / "encoder.onnx", "decoder": folder / "decoder.onnx", "out": folder / "bundle"}
    return ImportOptions(**(paths | {"latent_space": "sd1"} | changes))


def assert_works(folder: Path, photo: Callable[[int, int], Pixels], tolerance: float = 2e-3) -> None:
    """Latents of the bundle used as the means of squares of 8x8 pixels."""
    pixels = photo(48, 32)
    with sdtrt.Codec.open(folder / "bundle", device="cpu", backend="ort") as codec:
        data = codec.encode(pixels, quality=100, layers=1)
        latents = codec.decode_latents(data)
    means = pixels.reshape(4, 8, 6, 8, 3).mean((1, 3)) / 127.5 - 1
    np.testing.assert_allclose(latents[:3, :4, :6].transpose(1, 2, 0), means, atol=0.12 + tolerance)


SHAPES: dict[str, list[Any] | None] = {
    "all axes symbolic": ["n", "c", "h", "w"],
    "axes without a name": [None, None, None, None],
    "no shape at all": None,
    "fixed, but the graph takes others": [1, 3, 512, 512],
    "a fixed batch": [1, 3, "h", "w"],
    "a fixed height": ["n", 3, 64, "w"],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_import_pair_input_shape_varies_is_accepted(
    tmp_path: Path, photo: Callable[[int, int], Pixels], shape: list[Any] | None
) -> None:
    narrow = shape and [shape[0], *(["c"] if shape[1] != 3 else [4]), "a", "b"]
    encoder(tmp_path / "encoder.onnx", shape=shape, targets={"z": None})
    decoder(tmp_path / "decoder.onnx", shape=narrow, targets={"y": None})
    notes = import_pair(options(tmp_path))
    assert_works(tmp_path, photo)
    declares = shape is not None and any(isinstance(shape[axis], int) for axis in (0, 2, 3))
    assert any("fixed sizes" in note for note in notes) == declares


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_import_pair_half_precision_becomes_single(
    tmp_path: Path, photo: Callable[[int, int], Pixels], kind: int
) -> None:
    cast = [helper.make_node("Cast", ["y"], ["inner"], to=1), helper.make_node("Cast", ["inner"], ["end"], to=kind)]
    encoder(tmp_path / "encoder.onnx", kind=kind)
    decoder(tmp_path / "decoder.onnx", kind=kind, nodes=cast, targets={"end": ANY})
    notes = import_pair(options(tmp_path))
    assert sum("half precision was converted to single" in note for note in notes) == 2
    for name in ("encoder", "decoder"):
        model = onnx.load(tmp_path / "bundle" / f"{name}.onnx")
        assert {tensor.data_type for tensor in model.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert_works(tmp_path, photo, tolerance=0.02)


@pytest.mark.parametrize(("opset", "ir_version"), [(9, 4), (12, 7), (16, 8), (21, 10), (22, 10), (23, 11)])
def test_import_pair_opset_varies_works(
    tmp_path: Path, photo: Callable[[int, int], Pixels], opset: int, ir_version: int
) -> None:
    for make, name in ((encoder, "encoder.onnx"), (decoder, "decoder.onnx")):
        make(tmp_path / name, opset=opset, ir_version=ir_version)
    import_pair(options(tmp_path))
    assert_works(tmp_path, photo)


def test_import_pair_external_data_is_read(tmp_path: Path, photo: Callable[[int, int], Pixels]) -> None:
    beside = {"save_as_external_data": True, "size_threshold": 0, "location": "encoder.onnx_data"}
    encoder(tmp_path / "encoder.onnx", **beside)
    decoder(tmp_path / "decoder.onnx")
    import_pair(options(tmp_path))
    assert_works(tmp_path, photo)
    (tmp_path / "encoder.onnx_data").unlink()
    with pytest.raises(BundleError, match=r"encoder\.onnx.*encoder\.onnx_data"):
        import_pair(options(tmp_path, force=True))


@pytest.mark.parametrize("name", ["sample", "pixel values", "x:0", "inner.x", "pixels", "latents"])
def test_import_pair_names_vary_works(tmp_path: Path, photo: Callable[[int, int], Pixels], name: str) -> None:
    encoder(tmp_path / "encoder.onnx", name=name)
    decoder(tmp_path / "decoder.onnx")
    import_pair(options(tmp_path))
    assert_works(tmp_path, photo)


def moments(path: Path, channels: Any = 8) -> Path:
    """An encoder that gives the mean and, behind it, a variance's logarithm."""
    nodes = [
        helper.make_node("Mul", ["z", "minus"], ["v"]),
        helper.make_node("Concat", ["z", "v"], ["moments"], axis=1),
    ]
    minus = {"minus": np.float32([-9]).reshape(1, 1, 1, 1)}
    return encoder(path, nodes=nodes, constants=minus, targets={"moments": ["n", channels, "a", "b"]})


@pytest.mark.parametrize("declared", [4, "c"])
def test_import_pair_moments_takes_the_mean(
    tmp_path: Path, photo: Callable[[int, int], Pixels], declared: int | str
) -> None:
    moments(tmp_path / "encoder.onnx", 8 if declared == 4 else "c")
    decoder(tmp_path / "decoder.onnx", shape=["n", declared, "h", "w"])
    notes = import_pair(options(tmp_path))
    assert any("first 4 are used as the mean" in note for note in notes)
    assert_works(tmp_path, photo)


def test_import_pair_several_outputs_asks_with_shapes(tmp_path: Path, photo: Callable[[int, int], Pixels]) -> None:
    nodes = [helper.make_node("Neg", ["z"], ["logvar"])]
    encoder(tmp_path / "encoder.onnx", nodes=nodes, targets={"z": None, "logvar": None})
    decoder(tmp_path / "decoder.onnx")
    with pytest.raises(BundleError, match=r"'z' \(float32, 2 x 4 x 8 x 16\).*'logvar'.*--encoder-output"):
        import_pair(options(tmp_path))
    import_pair(options(tmp_path, encoder_output="z"))
    assert_works(tmp_path, photo)


def test_import_pair_sample_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("RandomNormalLike", ["z"], ["e"]), helper.make_node("Add", ["z", "e"], ["s"])]
    encoder(tmp_path / "encoder.onnx", nodes=nodes, targets={"s": ANY})
    decoder(tmp_path / "decoder.onnx")
    with pytest.raises(BundleError, match=r"'s' is a random sample.*export the mean"):
        import_pair(options(tmp_path))


def turned(name: str, inner: str, *, back: bool) -> onnx.NodeProto:
    return helper.make_node("Transpose", [name], [inner], perm=[0, 2, 3, 1] if back else [0, 3, 1, 2])


@pytest.mark.parametrize("shape", [["n", "h", "w", 3], [1, 224, 224, 3], ANY, None])
def test_import_pair_channels_last_input_is_refused(tmp_path: Path, shape: list[Any] | None) -> None:
    nodes = [turned("x", "first", back=False), helper.make_node("Conv", ["first", "w"], ["z"], strides=[8, 8])]
    write(tmp_path / "encoder.onnx", nodes, {"w": ENCODER}, source=("x", shape), targets={"z": ANY})
    decoder(tmp_path / "decoder.onnx")
    with pytest.raises(BundleError, match=r"encoder\.onnx: input 'x'.*channels last"):
        import_pair(options(tmp_path))


@pytest.mark.parametrize("network", ["encoder", "decoder"])
def test_import_pair_channels_last_output_is_refused(tmp_path: Path, network: str) -> None:
    encoder(tmp_path / "encoder.onnx")
    decoder(tmp_path / "decoder.onnx")
    make, name = (encoder, "z") if network == "encoder" else (decoder, "y")
    make(tmp_path / f"{network}.onnx", nodes=[turned(name, "end", back=True)], targets={"end": ANY})
    with pytest.raises(BundleError, match=rf"{network}\.onnx: output 'end'.*channels last"):
        import_pair(options(tmp_path))


def test_import_pair_baked_sizes_are_refused(tmp_path: Path) -> None:
    """A graph whose sizes are constants within, as tracers without dynamic axes leave them."""
    nodes = [helper.make_node("Reshape", ["z", "size"], ["flat"]), helper.make_node("Reshape", ["flat", "size"], ["r"])]
    size = {"size": np.array([1, 4, 64, 64], np.int64)}
    encoder(
        tmp_path / "encoder.onnx", shape=[1, 3, 512, 512], nodes=nodes, constants=size, targets={"r": [1, 4, 64, 64]}
    )
    decoder(tmp_path / "decoder.onnx")
    with pytest.raises(BundleError, match=r"'x' \(float32, 1 x 3 x 512 x 512\) has fixed sizes.*dynamic"):
        import_pair(options(tmp_path))


def test_import_pair_channels_differ_are_named(tmp_path: Path) -> None:
    encoder(tmp_path / "encoder.onnx")
    weight = {"w": np.zeros((5, 3, 8, 8), np.float32)}
    decoder(tmp_path / "decoder.onnx", shape=["n", 5, "h", "w"], constants=weight)
    with pytest.raises(BundleError, match=r"takes 5 channels.*'z' with 4; expected the same number, or half"):
        import_pair(options(tmp_path))


def test_import_pair_missing_file_lists_others(tmp_path: Path) -> None:
    encoder(tmp_path / "encoder.onnx")
    with pytest.raises(BundleError, match=r"decoder\.onnx does not exist.*folder contains: encoder\.onnx"):
        import_pair(options(tmp_path))
    with pytest.raises(BundleError, match="is a folder"):
        import_pair(options(tmp_path, encoder=tmp_path, decoder=tmp_path / "encoder.onnx"))
