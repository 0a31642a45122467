"""The trainable network of one pass of a prior, whose float parameters have the units of the final integers."""

import torch
from torch import Tensor, nn

from sdtrt.engine.coding.priors.network_prior import (
    FEATURE_LIMIT,
    INDEX_SHIFT,
    INDICES_PER_CODE,
    KNOTS,
    LIMIT,
    MAGNITUDE,
    WEIGHT_LIMIT,
)
from sdtrt.engine.coding.priors.prior_layout import UNITS_PER_LATENT, LatentPass, num_channels, units_per_latent
from sdtrt.engine.coding.priors.tables import NUM_SCALES
from sdtrt.export.prior.architectures import PriorConfig

FIRST_INDEX = 7.0  # initial scale index, at quantization step 1
UNITS_LIMIT = 127.0
MAX_SUM = 0.95 * 2**24  # bound on sums of the integer network, below 2^24 because rounding of weights adds to them
WEIGHT_UNIT = 16.0  # units of the integer network for one unit of a trained parameter
MAX_FEATURE = NUM_SCALES * UNITS_PER_LATENT / WEIGHT_UNIT / FEATURE_LIMIT  # moves a scale index across its range


class TrainablePassNetwork(nn.Module):
    """The trainable form of `engine.coding.priors.network_prior.PassNetwork`; see `WEIGHT_UNIT` for its units."""

    def __init__(self, coding_pass: LatentPass, config: PriorConfig) -> None:
        super().__init__()
        self.group = coding_pass.stop - coding_pass.start
        self.units_per_latent = units_per_latent(coding_pass)
        inputs = coding_pass.inputs
        self.hidden = nn.Parameter(
            torch.randn(config.hidden_units, inputs) * 0.5 * min(1.0, 10 / max(inputs, 1)) ** 0.5
        )
        self.hidden_features = nn.Parameter(torch.zeros(config.hidden_units, KNOTS))
        self.hidden_bias = nn.Parameter(torch.rand(config.hidden_units) * 60)
        self.second = nn.Parameter(
            torch.randn(config.second_hidden_units, config.hidden_units) * 4 / config.hidden_units**0.5
        )
        self.second_bias = nn.Parameter(torch.rand(config.second_hidden_units) * 60)
        self.direct = nn.Parameter(initial_direct_weights(coding_pass))
        self.direct_features = nn.Parameter(torch.zeros(2 * self.group, KNOTS))
        self.output = nn.Parameter(torch.zeros(2 * self.group, config.second_hidden_units))
        first = FIRST_INDEX * UNITS_PER_LATENT / WEIGHT_UNIT
        self.output_bias = nn.Parameter(torch.tensor([0.0] * self.group + [first] * self.group))

    def forward(self, inputs: Tensor, features: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the location, in symbols, and the scale index, float32 (batch, positions, group), not rounded.

        Arguments:
            inputs: The context, float32 (batch, positions, inputs).
            features: Embeddings of the step codes, float32 (batch, KNOTS).
            codes: Step codes, float32 (batch,).
        """
        gain = WEIGHT_UNIT / UNITS_PER_LATENT
        sums = inputs @ self.hidden.T + (features @ self.hidden_features.T + self.hidden_bias)[:, None]
        units = (sums * gain).clamp(0, UNITS_LIMIT)
        units = ((units @ self.second.T + self.second_bias) * gain).clamp(0, UNITS_LIMIT)
        sums = inputs @ self.direct.T + units @ self.output.T
        sums = (sums + (features @ self.direct_features.T + self.output_bias)[:, None]) * gain
        location = sums[..., : self.group] / self.units_per_latent / quant_steps(codes)[:, None, None]
        offset = (2048 - codes) * (INDICES_PER_CODE / 2**INDEX_SHIFT)
        scale = sums[..., self.group :] + offset[:, None, None]
        return location, scale + (scale.clamp(0, NUM_SCALES - 1) - scale).detach()  # gradients pass the clamp

    @torch.no_grad()
    def keep_exact(self, coding_pass: LatentPass) -> None:
        """Shrink weights whose sums the integer network could not compute exactly, or which exceed 16 bits.

        A channel whose symbols are always 0 at some quantization step would lower its scale there without limit, so
        feature weights are clamped.
        """
        self.direct_features.clamp_(-MAX_FEATURE, MAX_FEATURE)
        limits = self.hidden.new_full((coding_pass.inputs,), float(MAGNITUDE[-1]))
        limits[: num_channels(coding_pass.values)] = LIMIT
        shrink([self.hidden_features], 128 * largest_of_features(self.hidden_features), torch.tensor(MAX_SUM / 2))
        hidden = 128 * self.hidden.abs() @ limits
        rest = 128 * (largest_of_features(self.hidden_features) + self.hidden_bias.abs())
        shrink([self.hidden], hidden, rest)
        shrink([self.second], 128 * LIMIT * self.second.abs().sum(1), 1024 * self.second_bias.abs())
        output = 1024 * self.direct.abs() @ limits + 128 * LIMIT * self.output.abs().sum(1)
        rest = 1024 * (largest_of_features(self.direct_features) + self.output_bias.abs())
        shrink([self.direct, self.output], output, rest)
        for parameter in (self.hidden, self.hidden_features):
            parameter.clamp_(-WEIGHT_LIMIT / 128, WEIGHT_LIMIT / 128)
        for parameter in (self.direct, self.direct_features):
            parameter.clamp_(-WEIGHT_LIMIT / 1024, WEIGHT_LIMIT / 1024)


def largest_of_features(weights: Tensor) -> Tensor:
    """Return a bound on the features' contribution to each sum; at most two adjacent features are not 0."""
    weights = weights.abs()
    return FEATURE_LIMIT * (weights[:, 1:] + weights[:, :-1]).amax(1)


def shrink(rows: list[nn.Parameter], sums: Tensor, rest: Tensor) -> None:
    """Scale down the rows whose largest possible sums, plus `rest`, exceed `MAX_SUM`."""
    for parameters in rows:
        parameters.mul_(((MAX_SUM - rest) / sums.clamp_min(1)).clamp(0, 1)[:, None])


def initial_direct_weights(coding_pass: LatentPass) -> Tensor:
    """Return direct weights that predict each channel from its nearest known neighbours."""
    direct = torch.zeros(2 * (coding_pass.stop - coding_pass.start), coding_pass.inputs)
    inputs = [(channel, w.dy**2 + w.dx**2) for w in coding_pass.values for channel in range(w.first, w.last)]
    for output, channel in enumerate(range(coding_pass.start, coding_pass.stop)):
        distances = {n: distance for n, (other, distance) in enumerate(inputs) if other == channel}
        nearest = [n for n, distance in distances.items() if distance == min(distances.values())]
        for n in nearest:
            direct[output, n] = 0.8 * UNITS_PER_LATENT / WEIGHT_UNIT / len(nearest)
    return direct


def quant_steps(codes: Tensor) -> Tensor:
    return torch.exp2((codes - 2048) / 256)
