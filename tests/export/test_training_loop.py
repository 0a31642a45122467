"""The loop that all training shares: how fast it moves what it trains."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sdtrt.export.training_loop import TrainingConfig, TrainingRun

CONFIG = TrainingConfig(iterations=2, learning_rate=1e-3, warmup=1, batch=1, crop=1, ema_decay=0.9)


class Weights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.usual, self.slow, self.fast = (nn.Parameter(torch.zeros(3)) for _ in range(3))


@pytest.mark.parametrize("order", [1, -1])
def test_training_run_rate_factors_scale_learning_rates(order: int, tmp_path: Path) -> None:
    weights = Weights()
    paces = [([weights.slow], 0.1), ([weights.fast], 3.0)][::order]

    def loss_of(target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = sum(((value - target) ** 2).sum() for value in weights.parameters())
        return torch.as_tensor(loss), {}

    run = TrainingRun(tmp_path, weights, weights, CONFIG, paces)
    run.train(lambda _: (torch.ones(3),), loss_of)
    # Adam moves each weight by the learning rate at first, whatever the gradient.
    moved = torch.stack([weights.usual, weights.slow, weights.fast])[:, 0] / (CONFIG.rate(0) + CONFIG.rate(1))
    np.testing.assert_allclose(moved.detach(), [1, 0.1, 3], rtol=0.01)
