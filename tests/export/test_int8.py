"""The decoder in eight bits: `sdtrt calibrate --int8`, and when codecs use them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from sdtrt import cli
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.format import container
from sdtrt.engine.image import ImageData, psnr
from sdtrt.engine.networks.backends import INT8_DECODER
from sdtrt.engine.networks.bundle import MANIFEST, Bundle, find_bundle
from sdtrt.errors import BundleError, DeviceError
from sdtrt.export.graphs.onnx_run import run
from sdtrt.export.int8 import decoder, network
from sdtrt.export.int8.decoder import add_int8_decoder
from sdtrt.export.latents.sample_images import synthetic_image

MAX_LOSS = 0.3  # dB, on the synthetic images of this test; photos lose less


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(4):
        Image.fromarray(synthetic_image(128 + 8 * number, 120)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """The built-in model with another decoder in eight bits."""
    folder = tmp_path_factory.mktemp("int8") / "tiny"
    shutil.copytree(find_bundle("tiny").folder, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "CROPS", 4)
        patch.setattr(decoder, "SIDE", 64)
        made = add_int8_decoder(folder, photos, force=True)
    assert made.mean_loss < MAX_LOSS
    assert "out.weight" in made.exact_layers
    return folder


@pytest.fixture(params=["ort", "openvino"])
def codecs(request: pytest.FixtureRequest, bundle: Path) -> tuple[EngineCodec, EngineCodec]:
    """The same bundle in single precision and in eight bits."""
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return (
        EngineCodec(bundle, backend=request.param, precision="fp32", threads=1),
        EngineCodec(bundle, backend=request.param, precision="int8", threads=1),
    )


def test_file_shares_the_weights_of_the_decoder(bundle: Path) -> None:
    assert (bundle / INT8_DECODER).stat().st_size < (bundle / "decoder.onnx").stat().st_size / 50


def test_decode_in_eight_bits_is_near_single_precision(
    codecs: tuple[EngineCodec, EngineCodec], photo: Callable[[int, int], np.ndarray]
) -> None:
    exact, quantized = codecs
    pixels = photo(200, 136)
    for quality in (20, 50):
        data = exact.encode(ImageData(pixels), EncodeOptions(quality=quality, layers=1))
        one, other = exact.decode(data).pixels, quantized.decode(data).pixels
        assert not np.array_equal(one, other)
        assert psnr(pixels, one) - psnr(pixels, other) < MAX_LOSS


def test_files_do_not_depend_on_the_precision(
    codecs: tuple[EngineCodec, EngineCodec], photo: Callable[[int, int], np.ndarray]
) -> None:
    """The residual and a target PSNR are those of single precision."""
    exact, quantized = codecs
    image = ImageData(photo(96, 80))
    for options in (EncodeOptions(quality=40), EncodeOptions(quality=80), EncodeOptions(target_psnr=33)):
        assert exact.encode(image, options) == quantized.encode(image, options)


def test_decode_beside_a_fine_residual_is_in_single_precision(
    codecs: tuple[EngineCodec, EngineCodec], photo: Callable[[int, int], np.ndarray]
) -> None:
    exact, quantized = codecs
    pixels = photo(120, 120)
    pixels[20:100:5, 10:110] = 255
    steps = {}
    for quality in (57, 85):
        data = exact.encode(ImageData(pixels), EncodeOptions(quality=quality))
        steps[quality] = container.read(data).layout.residual_step / 16
        equal = np.array_equal(exact.decode(data).pixels, quantized.decode(data).pixels)
        assert equal is (quality == 85)
    assert steps[57] > 24 > steps[85] > 0


def test_tiles_in_eight_bits_are_exact(bundle: Path) -> None:
    whole, tiled = (EngineCodec(bundle, backend="ort", precision="int8", tile=tile) for tile in (0, 960))
    data = whole.encode(ImageData(synthetic_image(1300, 40)), EncodeOptions(quality=30))
    np.testing.assert_array_equal(whole.decode(data).pixels, tiled.decode(data).pixels)


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_precision_int8_without_such_a_decoder_is_refused(backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    without = Bundle.open(find_bundle("tiny").folder)
    without.files.pop(INT8_DECODER, None)
    with pytest.raises(DeviceError, match="no decoder in eight bits; add one: sdtrt calibrate tiny PHOTOS --int8"):
        EngineCodec(without, backend=backend, device="cpu", precision="int8")


def test_damaged_weights_are_noticed(bundle: Path, tmp_path: Path, photo: Callable[[int, int], np.ndarray]) -> None:
    """The weights of the decoder in eight bits are in the other decoder's file."""
    folder = tmp_path / "tiny"
    shutil.copytree(bundle, folder)
    data = EngineCodec(folder, backend="ort").encode(ImageData(photo(40, 32)), EncodeOptions(layers=1, quality=30))
    weights = bytearray((folder / "decoder.onnx").read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / "decoder.onnx").write_bytes(weights)
    with pytest.raises(BundleError, match=r"decoder\.onnx is damaged"):
        EngineCodec(folder, backend="ort", precision="int8").decode(data)


def test_calibrate_int8_command(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(find_bundle("tiny").folder, tmp_path / "tiny")
    monkeypatch.setattr(decoder, "CROPS", 4)
    monkeypatch.setattr(decoder, "SIDE", 64)
    monkeypatch.setattr(decoder, "quantize", lambda model, samples: (network.to_int8(model, [], {}), ["out.weight"]))
    before = (tmp_path / "tiny" / MANIFEST).read_bytes()
    assert cli.main(["calibrate", str(tmp_path / "tiny"), str(photos), "--int8"]) == 1
    assert "has decoder.int8.onnx; replace it with --force" in capsys.readouterr().err
    assert (tmp_path / "tiny" / MANIFEST).read_bytes() == before
    assert cli.main(["calibrate", str(tmp_path / "tiny"), str(photos), "--int8", "--json", "--force"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exact_layers"] == ["out.weight"]
    assert found["mean_loss"] == found["worst_loss"] == 0
    assert INT8_DECODER in Bundle.open(tmp_path / "tiny").files
    (tmp_path / "none").mkdir()
    assert cli.main(["calibrate", str(tmp_path / "tiny"), str(tmp_path / "none"), "--int8", "-f"]) == 1
    assert "holds no images" in capsys.readouterr().err


# The graph


def convolution_model(channels: int, *, half: bool) -> onnx.ModelProto:
    """Return a 3x3 convolution and a ReLU; its weights are in half precision, with a Cast, or in single precision."""
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((5, channels, 3, 3)).astype(np.float16 if half else np.float32)
    nodes = [helper.make_node("Cast", ["stored"], ["weights"], to=TensorProto.FLOAT)] if half else []
    nodes.append(helper.make_node("Conv", ["x", "weights"], ["y"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", ["y"], ["z"]))
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, "h", "w"])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 5, "h", "w"])],
        [numpy_helper.from_array(weights, "stored" if half else "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("half", [False, True])
def test_to_int8_rounds_activations_and_weights(half: bool) -> None:
    """The result is the convolution of rounded numbers, rounded: each by its own scale, weights by output channel."""
    model = convolution_model(48, half=half)
    (node,) = network.large_convolutions(model)
    inputs = {"x": np.random.default_rng(1).uniform(-1, 3, (1, 48, 6, 7)).astype(np.float32)}
    ranges = network.activation_ranges(model, [node], [inputs])
    assert ranges["x"] == pytest.approx((-1, 3), abs=0.01)
    found = run(network.to_int8(model, [node], ranges), inputs, ["z"])["z"]

    def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
        scale = np.float32((high - low) / 255)
        zero = np.rint(-low / scale)
        return ((np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)

    weights = network.constants(model)["weights"]
    scales = np.abs(weights).max((1, 2, 3), keepdims=True) / 63
    replaced = convolution_model(48, half=False)
    replaced.graph.initializer[0].CopyFrom(
        numpy_helper.from_array((np.rint(weights / scales) * scales).astype(np.float32), "weights")
    )
    exact = run(replaced, {"x": rounded(inputs["x"], *ranges["x"])}, ["y"])["y"]
    levels = np.abs(found - np.maximum(rounded(exact, *ranges["y"]), 0)) / ((ranges["y"][1] - ranges["y"][0]) / 255)
    assert levels.max() < 1.01
    assert (levels > 0.5).mean() < 0.01  # sums in another order may round to the other side


def test_large_convolutions_have_constant_weights_and_many_inputs() -> None:
    assert network.large_convolutions(convolution_model(47, half=False)) == []
    model = convolution_model(48, half=False)
    model.graph.node[0].input[1] = "x"
    assert network.large_convolutions(model) == []


def two_convolutions() -> onnx.ModelProto:
    """Return two convolutions, of which the second adds nearly all of the error in eight bits."""
    rng = np.random.default_rng(3)
    first, second = (rng.standard_normal((48, 48, 3, 3)).astype(np.float32) for _ in range(2))
    second[0, 0] *= 1000
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "first"], ["y"], pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["y", "second"], ["z"], pads=[1, 1, 1, 1]),
        ],
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 48, "h", "w"])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 48, "h", "w"])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_quantize_keeps_the_layers_that_add_most_error(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [{"x": np.random.default_rng(1).uniform(-1, 3, (1, 48, 6, 7)).astype(np.float32)}]
    monkeypatch.setattr(network, "MAX_SHARE", 0.5)
    changed, kept = network.quantize(two_convolutions(), samples)
    assert kept == ["second"]
    assert [node.op_type for node in changed.graph.node].count("QuantizeLinear") == 3
    monkeypatch.setattr(network, "MAX_SHARE", 0.0)
    with pytest.raises(BundleError, match="all large convolutions need single precision: first, second"):
        network.quantize(two_convolutions(), samples)


def test_quantize_without_large_convolutions_raises() -> None:
    with pytest.raises(BundleError, match="no convolution of 48 channels"):
        network.quantize(convolution_model(47, half=False), [{"x": np.zeros((1, 47, 4, 4), np.float32)}])


@pytest.mark.parametrize("shape", [(5, 48, 3), (5, 48, 3, 3, 3)])
def test_large_convolutions_are_two_dimensional(shape: tuple[int, ...]) -> None:
    assert not network.is_large(shape)
