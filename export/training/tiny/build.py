"""Write the bundle and the latent profile of `tiny` from a training run.

    python -m sdtrt.export.training.tiny.build PHOTOS --run runs/tiny-finished

It writes `engine/data/bundles/tiny/`, with the decoder's gradient, and `engine/data/profiles/tiny-1.json`. The averaged
weights are stored in half precision; ONNX Runtime computes in single precision.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from sdtrt.engine.format.latent_space import PROFILE_NAMES
from sdtrt.engine.networks.bundle import MANIFEST, SCHEMA
from sdtrt.export.gradient.network import write_gradient
from sdtrt.export.graphs.onnx_graph import OPSET, strip
from sdtrt.export.training.tiny.model import DOWNSCALE, LATENT_CHANNELS, MASKING_CHANNELS, REACH, Autoencoder
from sdtrt.export.training.tiny.photos import load_photos, pixels_to_planes
from sdtrt.export.training_loop import averaged_weights

PROFILE_ID, PRIOR_ID = 1, 1
STEP_CODES = (2640, 1600)  # of qualities 1 and 100: quantization steps 4.97 and 0.30
PIXEL_RANGE = (-1, 1)
MIN_HALF = 256  # values; smaller tensors stay in single precision
HALF = ".half"  # suffix of the names of tensors in half precision
PARITY_TOLERANCE = 1e-3


def build(photos: Path, run: Path, data: Path) -> None:
    """Write bundle and profile below `data` from the checkpoint in `run`; `ValueError` if ONNX and torch differ."""
    model = load_model(run)
    crops = pixels_to_planes(np.stack([p[:256, :256] for p in load_photos(photos, 256)[::8]]))
    with torch.inference_mode():
        latents = model.encoder(crops)
    spread = latents.std((0, 2, 3)).double().numpy()
    weight = model.log_weight.detach().exp().double().numpy() / spread
    write_profile(data / "profiles" / f"{PROFILE_NAMES[PROFILE_ID]}.json", spread, weight)

    folder = data / "bundles" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.onnx"):  # a decoder of another look belongs to the latents of the former encoder
        stale.unlink()
    quant_step = torch.tensor([0.5, 2.0])
    export(model.encoder, {"pixels": crops[:2, :, :, :192].contiguous()}, "latents", folder / "encoder.onnx")
    export(
        model.decoder,
        {"latents": latents[:2, :, :, :24].contiguous(), "step": quant_step},
        "pixels",
        folder / "decoder.onnx",
    )
    write_gradient(folder / "decoder.onnx", folder / "gradient.onnx", DOWNSCALE, PIXEL_RANGE)
    parity = {
        "encoder.onnx": parity_of(model.encoder, {"pixels": crops[2:5, :, :72, :]}, folder / "encoder.onnx"),
        "decoder.onnx": parity_of(
            model.decoder, {"latents": latents[2:4, :, :9, :], "step": quant_step}, folder / "decoder.onnx"
        ),
    }
    manifest = {
        "schema": SCHEMA,
        "name": "tiny",
        "latent_space": "tiny",
        "profile": PROFILE_ID,
        "pixel_range": [*PIXEL_RANGE],
        "decoder_takes_step": True,
        "reach": REACH,
        "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.onnx"))},
        "export": {"torch": torch.__version__, "onnx": onnx.__version__, "opset": OPSET},
        "parity": {name: {"largest_difference": difference} for name, difference in parity.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n")


def load_model(run: Path) -> Autoencoder:
    """Return the averaged model of a run, with large tensors rounded to half precision as in the shipped bundle."""
    model = Autoencoder(torch.ones(LATENT_CHANNELS))
    model.load_state_dict(averaged_weights(run, "autoencoder"))
    for network in (model.encoder, model.decoder):
        halve_parameters(network)
    return model.eval()


def halve_parameters(network: nn.Module) -> None:
    """Round a network's large tensors to half precision, as they are stored in the bundle."""
    for parameter in network.parameters():
        if parameter.numel() >= MIN_HALF:
            parameter.data = parameter.data.half().float()


def write_profile(path: Path, spread: np.ndarray, weight: np.ndarray) -> None:
    """Write a profile's JSON file, with vectors to the 7 digits of float32."""
    fields = {
        "latent_space": "tiny",
        "channels": LATENT_CHANNELS,
        "downscale": DOWNSCALE,
        "step_codes": STEP_CODES,
        "prior": PRIOR_ID,
        "mean": [0.0] * LATENT_CHANNELS,
        "spread": [float(f"{v:.7g}") for v in spread],
        "weight": [float(f"{v:.7g}") for v in weight],
        "offset": [0.0] * LATENT_CHANNELS,
        "masking": MASKING_CHANNELS,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields, indent=1, allow_nan=False) + "\n")


def export(network: nn.Module, example: dict[str, Tensor], output: str, path: Path) -> None:
    """Write `network` as ONNX with dynamic batch, height and width, large weights in half precision."""
    batch = torch.export.Dim("batch")
    plane = {0: batch, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    shapes = tuple(plane if tensor.ndim == 4 else {0: batch} for tensor in example.values())
    program = torch.onnx.export(
        network,
        tuple(example.values()),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(example),
        output_names=[output],
        dynamic_shapes=shapes,
        verbose=False,
    )
    model = strip(halve_weights(program.model_proto))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large float32 initializers as float16 with casts to float32, and return the model."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= MIN_HALF:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}{HALF}"))
            casts.append(helper.make_node("Cast", [f"{name}{HALF}"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def parity_of(network: nn.Module, inputs: dict[str, Tensor], path: Path) -> float:
    """Return the largest difference between torch and ONNX Runtime; `ValueError` above `PARITY_TOLERANCE`."""
    with torch.inference_mode():
        expected = network(*inputs.values()).numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    difference = float(np.abs(output - expected).max())
    if not difference <= PARITY_TOLERANCE:
        raise ValueError(f"{path.name} differs from torch by {difference}, expected at most {PARITY_TOLERANCE}")
    return difference


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the built-in bundle and profile from a training run.")
    parser.add_argument("photos", type=Path, help="folder of training photos, for the spread of the latents")
    parser.add_argument("--run", type=Path, default=Path("runs/tiny-finished"))
    parser.add_argument("--data", type=Path, default=Path("engine/data"))
    arguments = parser.parse_args()
    build(arguments.photos, arguments.run, arguments.data)


if __name__ == "__main__":
    main()
