"""SD 1.x's autoencoder with random weights: as a bundle for the codec, and in PyTorch, in half precision."""

import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from gpu.check import Check, NotMeasuredError, require
from gpu.timing import percentiles
from sdtrt.export.latents.sample_images import synthetic_image

MAX_SHARE = 4  # times the seconds of a section, since compilers are slow for each shape
PIXEL_RANGE = (-1.0, 1.0)
FILES = {"encoder": ("pixels", "latents"), "decoder": ("latents", "pixels")}  # input and output


def export(check: Check) -> Iterator[tuple[str, Any]]:
    """Write the bundle for the codec; yield seconds, and the error of ONNX Runtime on the CPU relative to torch."""
    if check.given_bundle is not None:
        raise NotMeasuredError(f"the bundle {check.given_bundle} is measured instead")
    require("torch", "onnx", "onnxscript", "onnxruntime")
    import torch

    from sdtrt.engine.networks.backends.ort import OrtCpu
    from sdtrt.export.folder import new_bundle, write_manifest
    from sdtrt.export.graphs import to_onnx

    coders = random_coders(check)
    with torch.inference_mode():
        planes = {"pixels": probe(check)}
        planes["latents"] = coders["encoder"](planes["pixels"])
        planes["decoded"] = coders["decoder"](planes["latents"])
    with new_bundle(check.machine.bundle, force=True) as folder:
        for name, (source, target) in FILES.items():
            started, path = time.perf_counter(), folder / f"{name}.fp16.onnx"
            example = planes[source].half()
            to_onnx.export(coders[name].half(), {source: example.expand(2, -1, -1, -1)}, target, path)
            seconds = time.perf_counter() - started
            output = OrtCpu().load(path).run({source: example.numpy()})[target].astype(np.float32)
            expected = planes["latents" if name == "encoder" else "decoded"].numpy()
            error = float(np.sqrt(np.mean((output - expected) ** 2) / np.mean(expected**2)))
            yield name, {"seconds": round(seconds, 1), "nbytes": path.stat().st_size, "relative_error": round(error, 5)}
        write_manifest(folder, manifest())


def manifest() -> dict[str, Any]:
    from sdtrt.export.checkpoints.spaces import shipped_profile_id

    return {
        "name": "sd1-random",
        "latent_space": "sd1",
        "profile": shipped_profile_id("sd1"),
        "pixel_range": list(PIXEL_RANGE),
        "decoder_takes_step": False,
    }


def eager(check: Check) -> Iterator[tuple[str, Any]]:
    """Yield milliseconds of PyTorch's networks alone, tensors on the device, channels last."""
    yield from torch_latency(check, lambda network: network)


def compiled(check: Check) -> Iterator[tuple[str, Any]]:
    """Yield the milliseconds of the same networks after `torch.compile`, compiled for each shape."""
    require_torch(check)
    import torch

    def compile_anew(network: Any) -> Any:
        return torch.compile(network, backend=check.machine.compiler, dynamic=False)

    yield "compiler", check.machine.compiler
    yield from torch_latency(check, compile_anew)


def torch_latency(check: Check, prepare: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    require_torch(check)
    import torch

    machine, begun = check.machine, time.perf_counter()
    coders = {name: prepare(coder) for name, coder in half_coders(check).items()}
    each = check.seconds / (len(coders) * len(machine.sides) * len(machine.batches))
    # The cases that take most memory come last.
    for batch, side in product(machine.batches, machine.sides):
        for verb, name in (("decode", "decoder"), ("encode", "encoder")):
            key = f"{verb} {side}x{side}, batch {batch}"
            if time.perf_counter() - begun > MAX_SHARE * check.seconds:
                yield key, {"not measured": "the previous cases have taken all the time"}
                continue
            shape = (batch, 3, side, side) if name == "encoder" else (batch, 4, side // 8, side // 8)
            planes = torch.randn(shape, dtype=torch.half, device=machine.torch_device)
            planes = planes.to(memory_format=torch.channels_last)

            def call(network: Any = coders[name], planes: Any = planes) -> None:
                with torch.inference_mode():
                    network(planes)
                if machine.torch_device == "cuda":
                    torch.cuda.synchronize()

            yield key, percentiles(call, machine.runs, each)


def require_torch(check: Check) -> None:
    """Raise `NotMeasuredError` without PyTorch, or if PyTorch sees no GPU."""
    require("torch")
    import torch

    if check.machine.torch_device == "cuda" and not torch.cuda.is_available():
        raise NotMeasuredError(f"torch {torch.__version__} sees no GPU")


def half_coders(check: Check) -> dict[str, Any]:
    """Return encoder and decoder on the device, in half precision and channels-last layout."""
    import torch

    where: dict[str, Any] = {"device": check.machine.torch_device, "memory_format": torch.channels_last}
    return {name: coder.half().to(**where) for name, coder in random_coders(check).items()}


def random_coders(check: Check) -> dict[str, Any]:
    """Return encoder and decoder in torch, in single precision on the CPU, the same each time."""
    from gpu.autoencoder_kl import random_coders

    encoder, decoder = random_coders(probe(check), check.machine.widths, check.machine.layers)
    return {"encoder": encoder, "decoder": decoder}


def probe(check: Check) -> Any:
    """Return an image as a tensor, float32 (1, 3, H, W), in [-1, 1]."""
    import torch

    return torch.from_numpy(synthetic_image(*check.machine.probe)).permute(2, 0, 1)[None].float() / 127.5 - 1
