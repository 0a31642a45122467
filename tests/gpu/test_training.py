"""Training on a GPU, whose kernels are recorded and replayed, beside the same on the CPU."""

from pathlib import Path

import numpy as np
import pytest

from sdtrt.kernels.device import CudaDevice


def test_training_run_cuda_graph_matches_cpu(device: CudaDevice, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no device for this torch")
    from sdtrt.export.training_loop import TrainingConfig, TrainingRun, averaged_weights

    config = TrainingConfig(iterations=12, learning_rate=0.1, warmup=3, batch=8, crop=1, ema_decay=0.5)

    def ended(where: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        model = torch.nn.Linear(3, 1).to(where)

        def loss_of(given: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            loss = (model(given) - given.sum(1, keepdim=True)).square().mean()
            return loss, {"loss": loss}

        def draw(rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
            return (torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32)),)

        folder = tmp_path / where
        TrainingRun(folder, model, model, config).train(draw, loss_of)
        return averaged_weights(folder)

    expected, found = ended("cpu"), ended("cuda")
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4)
