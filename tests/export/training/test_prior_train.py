"""What training keeps a prior's networks within, so that integers can stand for them."""

import torch

from sdtrt.engine.coding.prior_latents import LatentPrior
from sdtrt.export.training.prior.architectures import PLANS, architecture
from sdtrt.export.training.prior.fit import integer_networks
from sdtrt.export.training.prior.tables import logistic_centroids, logistic_tables
from sdtrt.export.training.prior.train import PassNetwork


def test_networks_stay_exact_whatever_training_does() -> None:
    torch.manual_seed(1)
    plan = PLANS["tiny"]
    arch = architecture(plan)
    networks = [PassNetwork(step, plan) for step in arch.passes]
    for network, step in zip(networks, arch.passes, strict=True):
        for name, parameter in network.named_parameters():
            if not name.endswith("bias"):
                parameter.data = torch.randn_like(parameter) * 1000
        network.keep_exact(step)
        assert all(row.abs().sum() > 0 for row in network.direct) or not step.inputs
    prior = LatentPrior(arch, integer_networks(networks), logistic_tables(), logistic_centroids())
    assert prior.largest_sum() < 1 << 24
