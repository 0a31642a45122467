"""The decoder of SD 1.x by ONNX Runtime, with and without the edits of its graph, in half precision."""

import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gpu.check import Check, NotMeasuredError, require
from gpu.networks import random_coders
from gpu.timing import percentiles

Edit = Callable[[Any], int]
LAYOUTS = {"channels first": "0", "channels last": "1"}  # values of the provider's option prefer_nhwc


def graph_edits(check: Check) -> Iterator[tuple[str, Any]]:
    """Yield milliseconds from device to device, and the error relative to PyTorch in single precision."""
    require("torch", "onnx", "onnxscript", "onnxruntime")
    import onnxruntime
    import torch

    from sdtrt.export.edits.cuda_group_norm import use_cuda_group_norms
    from sdtrt.export.edits.upsampling import fold_upsampling
    from sdtrt.export.graphs import onnx_graph, to_onnx

    edits: dict[str, list[Edit]] = {
        "none": [],
        "upsampling": [fold_upsampling],
        "group norms": [use_cuda_group_norms],
        "both": [fold_upsampling, use_cuda_group_norms],
    }
    provider = check.machine.provider
    if provider not in onnxruntime.get_available_providers():
        raise NotMeasuredError(f"ONNX Runtime has no {provider}")
    decoder = random_coders(check)["decoder"]
    sides = {side: torch.randn(1, 4, side // 8, side // 8) for side in check.machine.sides}
    with torch.inference_mode():
        expected = {side: decoder(latents).numpy() for side, latents in sides.items()}
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "none.onnx"
        to_onnx.export(decoder.half(), {"latents": torch.randn(2, 4, 16, 24).half()}, "pixels", exported)
        each = check.seconds / (len(edits) * len(LAYOUTS) * len(sides))
        for name, layout in product(edits, LAYOUTS):
            key = f"{name}, {layout}"
            model, path = onnx_graph.read(exported), Path(folder) / "edited.onnx"
            counts = [edit(model) for edit in edits[name]]
            if use_cuda_group_norms in edits[name] and not check.machine.has_cuda_operators:
                yield key, {"not measured": f"{provider} has no operator GroupNorm"}
                continue
            onnx_graph.write(model, path)
            options = {"prefer_nhwc": LAYOUTS[layout]} if check.machine.has_cuda_operators else {}
            session = onnxruntime.InferenceSession(path, providers=[(provider, options)])
            for side, latents in sides.items():
                run, output = bound(session, latents.half().numpy(), check.machine.memory)
                figures = percentiles(run, check.machine.runs, each)
                difference = output().astype(np.float32) - expected[side]
                error = float(np.sqrt(np.mean(difference**2) / np.mean(expected[side] ** 2)))
                yield f"{key}, {side}x{side}", figures | {"relative_error": round(error, 5), "edits": counts}


def bound(session: Any, latents: Any, memory: str) -> tuple[Callable[[], None], Callable[[], Any]]:
    """Return a function that runs a network from device to device and waits, and one that returns its last output."""
    import onnxruntime

    binding = session.io_binding()
    binding.bind_ortvalue_input("latents", onnxruntime.OrtValue.ortvalue_from_numpy(latents, memory, 0))
    binding.bind_output("pixels", memory)
    return lambda: session.run_with_iobinding(binding), lambda: binding.copy_outputs_to_cpu()[0]
