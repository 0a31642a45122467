"""Fixtures: the emulated device with the built-in model, and bundles that extend the built-in model."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
from emulated import EmulatedBackend, EmulatedDevice
from extras import needs
from numpy.typing import NDArray

from sdtrt.engine.networks.bundle import MANIFEST, Bundle, file_hash, find_bundle
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiling import TiledRunner

SD1_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
}


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """Return a photograph, uint8 (512, 512, 3)."""
    needs("demo")
    from skimage import data

    return data.astronaut()


@pytest.fixture
def device(host: Any) -> EmulatedDevice:
    return EmulatedDevice(host)


@pytest.fixture
def backend() -> EmulatedBackend:
    return EmulatedBackend()


@pytest.fixture
def pipeline(device: EmulatedDevice, backend: EmulatedBackend) -> GpuPipeline:
    return GpuPipeline(device, backend, TiledRunner.of(find_bundle("tiny")))


@pytest.fixture(scope="session")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the built-in model with another fast decoder, which it recommends: its decoder with 10 levels less."""
    needs("onnx")
    import onnx
    from onnx import helper, numpy_helper

    folder = tmp_path_factory.mktemp("looks") / "tiny"
    shutil.copytree(find_bundle("tiny").folder, folder)
    fields = json.loads((folder / MANIFEST).read_text())
    model = onnx.load(folder / "decoder.onnx")
    output_node = next(node for node in model.graph.node if "pixels" in node.output)
    output_node.output[:] = ["unchanged"]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(-10 / 127.5), "brightness"))
    model.graph.node.append(helper.make_node("Add", ["unchanged", "brightness"], ["pixels"]))
    onnx.save(model, folder / "fast.onnx")
    fields["files"]["fast.onnx"] = file_hash(folder / "fast.onnx")
    fields["look"] = "fast"
    (folder / MANIFEST).write_text(json.dumps(fields))
    return Bundle.open(folder)


@pytest.fixture(scope="session")
def denoising(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the built-in model with a UNet. It predicts 0.01 times the latents plus 1e-6 times the timestep."""
    needs("onnx")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    built_in = find_bundle("tiny")
    folder = tmp_path_factory.mktemp("denoising") / "tiny"
    shutil.copytree(built_in.folder, folder)
    latents = helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", 40, "h", "w"])
    timestep = helper.make_tensor_value_info("timestep", TensorProto.FLOAT, ["N"])
    prediction = helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["N", 40, "h", "w"])
    constants = {"hundredth": np.float32(0.01), "millionth": np.float32(1e-6), "shape": np.array([-1, 1, 1, 1])}
    nodes = [
        helper.make_node("Mul", ["latents", "hundredth"], ["scaled_latents"]),
        helper.make_node("Mul", ["timestep", "millionth"], ["scaled_timestep"]),
        helper.make_node("Reshape", ["scaled_timestep", "shape"], ["timestep_per_image"]),
        helper.make_node("Add", ["scaled_latents", "timestep_per_image"], ["prediction"]),
    ]
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "unet", [latents, timestep], [prediction], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "unet.onnx")
    fields = json.loads((folder / MANIFEST).read_text())
    fields["files"]["unet.onnx"] = file_hash(folder / "unet.onnx")
    fields["unet"] = SD1_SCHEDULE | {"multiple": 2, "auto": {"steps": 2, "from_step": 1.5}}
    (folder / MANIFEST).write_text(json.dumps(fields))
    return Bundle.open(folder)
