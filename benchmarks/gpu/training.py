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
    from sdtrt.export.training.tiny.stage4_joint import CONFIG, AutoencoderWithPrior, train_jointly

    machine = check.machine
    config = replace(CONFIG, **machine.training)
    with TemporaryDirectory() as name:
        folder = Path(name)
        photos, start = folder / "photos", folder / "start"
        for path in (photos, start):
            path.mkdir()
        Image.fromarray(synthetic_image(2 * config.crop, 2 * config.crop)).save(photos / "made.png")
        torch.manual_seed(config.seed)
        torch.save({"average": AutoencoderWithPrior().state_dict()}, start / "checkpoint.pt")
        ends: list[float] = []
        training_loop.REPORT_EVERY = config.iterations // 2  # the first half includes the recording of kernels
        device = machine.torch_device
        train_jointly(
            photos, photos, start, start, folder / "run", config, device, lambda *_: ends.append(time.perf_counter())
        )
    pace = (ends[1] - ends[0]) / training_loop.REPORT_EVERY
    yield "joint", {"batch": config.batch, "crop": config.crop, "seconds_per_iteration": round(pace, 4)}
