"""Speed of the joint training of `tiny` and its prior, the stage that is meant for a GPU."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from gpu.check import Check, require
from gpu.networks import require_torch
from sdtrt.export.latents.sample_images import synthetic_image


def training(check: Check) -> Iterator[tuple[str, Any]]:
    """Yield the seconds of an iteration, with untrained networks and synthetic images, which take the same time."""
    require("torch", "onnx")
    require_torch(check)
    import torch

    from sdtrt.export import training_loop
    from sdtrt.export.training.tiny.joint import RECIPE, Coded, joint

    machine = check.machine
    recipe = replace(RECIPE, **machine.training)
    with TemporaryDirectory() as name:
        folder = Path(name)
        photos, start = folder / "photos", folder / "start"
        for path in (photos, start):
            path.mkdir()
        Image.fromarray(synthetic_image(2 * recipe.crop, 2 * recipe.crop)).save(photos / "made.png")
        torch.manual_seed(recipe.seed)
        torch.save({"average": Coded().state_dict()}, start / "checkpoint.pt")
        ends: list[float] = []
        training_loop.REPORT_EVERY = recipe.iterations // 2  # the first half includes the recording of kernels
        device = machine.torch_device
        joint(photos, photos, start, start, folder / "run", recipe, device, lambda *_: ends.append(time.perf_counter()))
    pace = (ends[1] - ends[0]) / training_loop.REPORT_EVERY
    yield "joint", {"batch": recipe.batch, "crop": recipe.crop, "seconds_per_iteration": round(pace, 4)}
