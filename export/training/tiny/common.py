"""Shared parts of the training stages of `tiny`: hyperparameters, random crops, and arithmetic in bfloat16."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from sdtrt.engine.networks.backends.openvino import may_have_bfloat16
from sdtrt.export.training.tiny.model import Decoder, Encoder, FastDecoder
from sdtrt.export.training.tiny.photos import mixed_crops, pixels_to_planes
from sdtrt.export.training_loop import Batch, Draw, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class StageConfig(TrainingConfig):
    """The hyperparameters of a stage; `crop` is in pixels.

    Attributes:
        lambda_at_step_1: Lambda of R + lambda D at quantization step 1, in bits per pixel and squared 8-bit level.
        steps: Range of the quantization steps, drawn log-uniformly.
        dead_zones: Range of the dead zones, in quantization steps.
    """

    batch: int = 8
    crop: int = 128
    lambda_at_step_1: float = 0.006
    steps: tuple[float, float] = (0.3, 3.5)
    dead_zones: tuple[float, float] = (0.0, 0.2)
    ema_decay: float = 0.998


def make_crop_drawer(photos: list[np.ndarray], config: StageConfig, pages: list[np.ndarray] | None = None) -> Draw:
    """Return a function that draws crops, float32 (N, 3, H, W), with quantization steps and dead zones, float32 (N,).

    If there are `pages`, one crop in six on average is of them.
    """

    def draw(rng: np.random.Generator) -> Batch:
        crops = pixels_to_planes(mixed_crops(photos, pages or [], config.batch, config.crop, rng))
        low, high = map(math.log, config.steps)
        quant_step = torch.from_numpy(np.exp(rng.uniform(low, high, config.batch)).astype(np.float32))
        dead_zone = torch.from_numpy(rng.uniform(*config.dead_zones, config.batch).astype(np.float32))
        return crops, quant_step, dead_zone

    return draw


def use_bfloat16(networks: Iterable[Encoder | Decoder | FastDecoder], device: str) -> None:
    """Make the learned branches compute in bfloat16 if the processor has it; the linear transforms stay in float32."""
    if device == "cpu" and not may_have_bfloat16():
        return
    for network in networks:
        network.learned = torch.autocast(device.split(":", maxsplit=1)[0], torch.bfloat16)(network.learned)  # type: ignore[method-assign]
