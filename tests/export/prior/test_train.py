"""What training keeps a prior's networks within, so that integers can stand for them; that a run can be stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.priors.network_prior import NetworkPrior
from sdtrt.export import training_loop as training
from sdtrt.export.prior import train
from sdtrt.export.prior.architectures import PRIOR_CONFIGS, build_architecture
from sdtrt.export.prior.integerize import integerize_networks
from sdtrt.export.prior.network import TrainablePassNetwork
from sdtrt.export.prior.tables import logistic_centroids, logistic_tables


def test_keep_exact_extreme_weights_give_a_valid_prior() -> None:
    torch.manual_seed(1)
    config = PRIOR_CONFIGS["tiny"]
    arch = build_architecture(config)
    networks = [TrainablePassNetwork(step, config) for step in arch.passes]
    for network, step in zip(networks, arch.passes, strict=True):
        for name, parameter in network.named_parameters():
            if not name.endswith("bias"):
                parameter.data = torch.randn_like(parameter) * 1000
        network.keep_exact(step)
        assert all(row.abs().sum() > 0 for row in network.direct) or not step.inputs
    prior = NetworkPrior(arch, integerize_networks(networks), logistic_tables(), logistic_centroids())
    assert prior.largest_sum() < 1 << 24


def test_train_interrupted_run_resumes_to_an_equal_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 0)
    latents = [np.random.default_rng(1).normal(size=(40, 24, 17)).astype(np.float32)]
    training_config = train.PriorTrainingConfig(iterations=3, batch=1, crop=16, table_crops=1)
    config, codes = PRIOR_CONFIGS["tiny"], EngineCodec("tiny").profile.step_codes
    whole = train.train(latents, config, codes, tmp_path / "whole", training_config, masking=4)
    with monkeypatch.context() as context:
        context.setattr(training.TrainingRun, "_iterate", second_fails(training.TrainingRun._iterate))
        with pytest.raises(KeyboardInterrupt):
            train.train(latents, config, codes, tmp_path / "stopped", training_config, masking=4)
    assert train.train(latents, config, codes, tmp_path / "stopped", training_config, masking=4) == whole


def second_fails(iterate: Callable[..., dict[str, float]]) -> Callable[..., dict[str, float]]:
    def replacement(run: training.TrainingRun, *arguments: Any) -> dict[str, float]:
        if run.iteration == 1:
            raise KeyboardInterrupt
        return iterate(run, *arguments)

    return replacement
