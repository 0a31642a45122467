"""Reach: networks whose receptive fields are known by their making, and such as look everywhere."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.image import ImageData
from sdtrt.engine.networks.backends import Network
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.export.import_onnx import import_pair
from sdtrt.export.import_options import ImportOptions
from sdtrt.export.latents.receptive_field import measure_receptive_radius
from sdtrt.export.latents.statistics import CodecPair

Layer = tuple[str, list[np.ndarray | str], dict[str, Any]]  # an operation, what it takes beside a plane, its attributes

RNG = np.random.default_rng(11)
CHANNELS = {"pixels": 3, "latents": 4}


def conv(
    inputs: int, outputs: int, size: int, *, stride: int = 1, dilation: int = 1, gain: float = 1.0, bias: float = 0.0
) -> Layer:
    weight = RNG.standard_normal((outputs, inputs, size, size)) * gain / np.sqrt(inputs * size**2)
    pads = [size // 2 * dilation] * 4
    return (
        "Conv",
        [weight.astype(np.float32), np.full(outputs, bias, np.float32)],
        {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": pads},
    )


def enlarged(factor: int, mode: str) -> Layer:
    rounding = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if mode == "nearest" else {}
    return ("Resize", ["", np.array([1, 1, factor, factor], np.float32)], {"mode": mode} | rounding)


def times(factor: float) -> Layer:
    return ("Mul", [np.array(factor, np.float32)], {})


def blur() -> Layer:
    """Means of 3x3 pixels, colour by colour."""
    return ("Conv", [np.full((3, 1, 3, 3), 1 / 9, np.float32)], {"group": 3, "pads": [1] * 4})


PICK = np.eye(4, 3, dtype=np.float32)[:, :, None, None]
PATCHES: Layer = ("Conv", [np.tile(PICK / 64, (8, 8))], {"strides": [8, 8]})  # means of 8x8 pixels
BLOCKS: Layer = ("ConvTranspose", [np.tile(PICK, (8, 8))], {"strides": [8, 8]})  # each latent 8x8 pixels
STRIDED = [conv(3, 8, 3, stride=2), conv(8, 8, 3, stride=2), conv(8, 8, 3, stride=2), conv(8, 4, 3)]
ONES, ZEROS = np.ones(4, np.float32), np.zeros(4, np.float32)


def write(path: Path, source: str, layers: list[Layer]) -> Path:
    """Write a chain of layers; the output of layer n is called `x` and n."""
    nodes, constants, last = [], [], source
    for n, (kind, beside, attributes) in enumerate(layers):
        names = [value if isinstance(value, str) else f"c{n}.{k}" for k, value in enumerate(beside)]
        constants += [
            numpy_helper.from_array(value, name) for value, name in zip(beside, names, strict=True) if value is not name
        ]
        nodes.append(helper.make_node(kind, [last, *names], [f"x{n}"], **attributes))
        last = f"x{n}"
    target = "latents" if source == "pixels" else "pixels"
    nodes.append(helper.make_node("Identity", [last], [target]))
    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"n_{name}", CHANNELS[name], f"h_{name}", f"w_{name}"])
        for name in (source, target)
    )
    graph = helper.make_graph(nodes, "chain", [given], [made], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


Load = Callable[[str, list[Layer]], Network]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def make(source: str, layers: list[Layer]) -> Network:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        return OrtCpu().load(write(path, source, layers))

    return make


KNOWN: dict[str, tuple[list[Layer], list[Layer], int]] = {
    "blocks": ([PATCHES], [BLOCKS], 0),
    # A latent sees 1 latent around it, then 2 * 1 + 1, 2 * 3 + 1, 2 * 7 + 1 pixels: 15 to the left is in the second.
    "strides": (STRIDED, [BLOCKS], 2),
    # The first pixel of 8 sees 3 before it, thus 2 of the next level and 2 more, 2 and 2 more, 2 and 1 more latents.
    "nearest": (
        [PATCHES],
        [
            conv(4, 8, 3),
            enlarged(2, "nearest"),
            conv(8, 8, 5),
            enlarged(2, "nearest"),
            conv(8, 8, 5),
            enlarged(2, "nearest"),
            conv(8, 3, 7),
        ],
        3,
    ),
    "bilinear": ([PATCHES], [conv(4, 3, 3), enlarged(8, "linear")], 2),
    "dilated": ([PATCHES], [conv(4, 4, 3, dilation=12), BLOCKS], 12),
    "as far as may be": ([PATCHES], [conv(4, 4, 3, dilation=32), BLOCKS], 32),
    "dead units": ([PATCHES], [conv(4, 4, 3, bias=-1e4), ("Relu", [], {}), conv(4, 4, 3), BLOCKS], 2),
    "zero weights": ([conv(3, 3, 5, gain=0), PATCHES], [conv(4, 4, 5, gain=0), BLOCKS], 2),
    # Units that are dead for all but huge numbers, and a NaN that ends as the 0 which it replaces.
    "swallowed NaN": (
        [PATCHES],
        [
            conv(4, 4, 1, bias=-1e4),
            ("Relu", [], {}),
            ("IsNaN", [], {}),
            ("Where", [np.array(0, np.float32), "x1"], {}),
            conv(4, 4, 3),
            BLOCKS,
        ],
        1,
    ),
    "clamped": ([PATCHES], [times(1 / 3), ("Tanh", [], {}), times(3), conv(4, 4, 3), BLOCKS], 1),
    "fading": ([PATCHES], [conv(4, 4, 3, gain=0.01)] * 6 + [BLOCKS], 6),  # 1e-12 at the edge of what is seen
}


@pytest.mark.parametrize(("encoder", "decoder", "reach"), KNOWN.values(), ids=KNOWN)
def test_measure_receptive_radius_convolutions_give_exact_radius(
    load: Load, encoder: list[Layer], decoder: list[Layer], reach: int
) -> None:
    networks = CodecPair(load("pixels", encoder), load("latents", decoder), -1.0, 1.0, 8)
    assert measure_receptive_radius(networks) == (
        reach,
        f"receptive radius {reach} latents: tiles of large images are exact",
    )


UNKNOWN: dict[str, tuple[list[Layer], list[Layer], str]] = {
    "too far": ([PATCHES], [conv(4, 4, 3, dilation=33), BLOCKS], "decoder's receptive radius is more than 32 latents"),
    "normalised": (
        [PATCHES, ("InstanceNormalization", [ONES, ZEROS], {})],
        [BLOCKS],
        "encoder's receptive radius is more",
    ),
    "mean of all": (
        [PATCHES],
        [conv(4, 4, 1), ("GlobalAveragePool", [], {}), ("Add", ["x0"], {}), BLOCKS],
        "decoder's receptive radius is more",
    ),
    # Something is added to every second latent: it looks at no other, but tiles may begin anywhere.
    "a coarser grid": (
        [PATCHES],
        [
            conv(4, 4, 1),
            ("Shape", [], {}),
            ("ConstantOfShape", [], {"value": numpy_helper.from_array(np.ones(1, np.float32))}),
            ("CumSum", [np.array(3)], {}),
            ("Mod", [np.array(2, np.float32)], {"fmod": 1}),
            ("Add", ["x0"], {}),
            BLOCKS,
        ],
        "tiles change the decoder's output by",
    ),
    "even sides alone": (
        [PATCHES],
        [("SpaceToDepth", [], {"blocksize": 2}), ("DepthToSpace", [], {"blocksize": 2}), BLOCKS],
        "could not be measured, so tiles of large images",
    ),
}


@pytest.mark.parametrize(("encoder", "decoder", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_measure_receptive_radius_unbounded_networks_give_none(
    load: Load, encoder: list[Layer], decoder: list[Layer], message: str
) -> None:
    networks = CodecPair(load("pixels", encoder), load("latents", decoder), -1.0, 1.0, 8)
    reach, told = measure_receptive_radius(networks)
    assert reach is None
    assert re.search(message, told)


def test_measure_receptive_radius_includes_the_decoders_of_other_looks(load: Load) -> None:
    networks = CodecPair(load("pixels", STRIDED), load("latents", [BLOCKS]), -1.0, 1.0, 8)
    wide, dilated = [conv(4, 4, 5), conv(4, 4, 3), BLOCKS], [conv(4, 4, 3, dilation=40), BLOCKS]
    assert measure_receptive_radius(networks, {"fast": load("latents", wide)})[0] == 3
    assert measure_receptive_radius(networks, {"fast": load("latents", dilated)})[0] is None


def test_measure_receptive_radius_of_tiny_equals_its_manifest() -> None:
    tiny = find_bundle("tiny")
    encoder, decoder = (OrtCpu().load(tiny.file(f"{name}.onnx")) for name in ("encoder", "decoder"))
    assert (
        measure_receptive_radius(CodecPair(encoder, decoder, *tiny.pixel_range, 8, takes_step=True))[0]
        == tiny.receptive_radius
    )


def test_import_pair_bounded_networks_decode_exactly_in_tiles(
    tmp_path: Path, photo: Callable[[int, int], np.ndarray]
) -> None:
    """Files and images equal those without tiles bit for bit."""
    options = ImportOptions(
        encoder=write(tmp_path / "encoder.onnx", "pixels", [blur(), PATCHES]),
        decoder=write(tmp_path / "decoder.onnx", "latents", [BLOCKS, *[blur()] * 9]),
        out=tmp_path / "bundle",
        latent_space="sd1",
    )
    told, *_ = import_pair(options)
    assert told == "receptive radius 2 latents: tiles of large images are exact"
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["reach"] == 2
    whole, tiled = (
        EngineCodec(tmp_path / "bundle", tile=0, precision="fp32"),
        EngineCodec(tmp_path / "bundle", tile=96, precision="fp32"),
    )
    image = ImageData(photo(403, 213))
    data = whole.encode(image, EncodeOptions(quality=60))
    assert tiled.encode(image, EncodeOptions(quality=60)) == data
    np.testing.assert_array_equal(tiled.decode(data).pixels, whole.decode(data).pixels)
