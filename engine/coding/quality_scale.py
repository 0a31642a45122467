"""The quality scale: from a quality to the quantization step of latents, the residual's step, and lambda.

Lambda is in squared 8-bit error per bit, in J = D + lambda R. Up to the knee a quality is the quality of the latents.
Beyond the knee latents change little, since finer latents do not bring back detail that the networks lost, and the
residual layer takes over. At the knee a bit lowers the error equally in both layers. A residual is allowed from
`RESIDUAL_START` on. Its step is proportional to sqrt(lambda). `docs/quality.md` has the measurements.
"""

from dataclasses import dataclass
from math import log2, sqrt

from sdtrt.engine.format.latent_space import LatentSpaceInfo

STEP_UNIT = 16  # residual steps in files are in 1/16 of an 8-bit value
RESIDUAL_START = 50.0  # quality from which on a file may have a residual
KNEE, KNEE_LAMBDA = 65.0, 272.0  # quality of the knee, and lambda there
KNEE_STEP = 36.0  # residual step at the knee, in 8-bit values
QUALITY_PER_STEP_HALVING = 10.6  # beyond the knee: the residual step halves
QUALITY_PER_LAMBDA_HALVING = 12.5  # up to the knee: lambda halves
MIN_INT8_RESIDUAL_STEP = 24.0  # 8-bit values, see `allows_int8`
# Beside finer residuals the fast decoder costs more: on six images 0.19 dB at quality 65, 0.36 at 70, 0.76 at 75.
MIN_FAST_RESIDUAL_STEP = KNEE_STEP
LATENT_SHARE = 0.2  # beyond the knee: change of latent quality per change of quality
RESIDUAL_LAMBDA = 0.12  # lambda in squared residual steps per bit


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Quantizer parameters of a quality.

    Attributes:
        latent_quality: quality of the latents, which gives their quantization step.
        residual_step: quantization step of the residual, in 8-bit values.
        lmbda: squared 8-bit error per bit.
    """

    latent_quality: float
    residual_step: float
    lmbda: float


def operating_point(quality: float, *, layers: int) -> OperatingPoint:
    """Return the quantizer parameters of a quality; with 1 layer the latents take all of the quality."""
    beyond = quality - KNEE
    if layers == 1 or beyond <= 0:
        latent_quality, lmbda = quality, KNEE_LAMBDA * 2 ** (-beyond / QUALITY_PER_LAMBDA_HALVING)
    else:
        latent_quality, lmbda = KNEE + LATENT_SHARE * beyond, KNEE_LAMBDA * 4 ** (-beyond / QUALITY_PER_STEP_HALVING)
    return OperatingPoint(latent_quality, KNEE_STEP * sqrt(lmbda / KNEE_LAMBDA), lmbda)


def quality_for_weight(quality: float, weight: float, *, layers: int) -> float:
    """Return the quality of a region whose error counts `weight` times: the one where lambda is as much smaller."""
    return _quality_at_lambda(operating_point(quality, layers=layers).lmbda / weight, layers)


def allows_fast(residual_step: int) -> bool:
    """Return whether the fast decoder may be used next to a residual, which corrects the image of the faithful one.

    Arguments:
        residual_step: in 1/16 of an 8-bit value, 0 without a residual.
    """
    return not residual_step or residual_step >= MIN_FAST_RESIDUAL_STEP * STEP_UNIT


def allows_int8(residual_step: int) -> bool:
    """Return whether a decoder in eight bits may be used next to a residual.

    A residual corrects the image of single precision. The built-in decoder in eight bits adds an error of 0.5 to 0.6 at
    qualities 50 and 65, root mean square, in pixels of 0 to 255. The rounding error of a residual of step s is
    s / sqrt(12). From `MIN_INT8_RESIDUAL_STEP` on this is more than ten times as much.

    Arguments:
        residual_step: in 1/16 of an 8-bit value, 0 without a residual.
    """
    return not residual_step or residual_step >= MIN_INT8_RESIDUAL_STEP * STEP_UNIT


def structure_weight(residual_step: int) -> float:
    """Return the share of the usual weight of lost structure, 1 to 0, when latents are searched next to a residual.

    A residual restores lost structure. At `RESIDUAL_START` it corrects only failures, and the weight is 1. From the
    knee on the weight is 0.

    Arguments:
        residual_step: in 1/16 of an 8-bit value, 0 without a residual.
    """
    if not residual_step:
        return 1.0
    return min(max((KNEE - _quality_at_residual_step(residual_step)) / (KNEE - RESIDUAL_START), 0.0), 1.0)


def quality_of(space: LatentSpaceInfo, step_code: int, residual_step: int) -> float:
    """Return the quality of a file from its quantization steps.

    Arguments:
        space: latent space of the file.
        step_code: code of the latents' quantization step.
        residual_step: in 1/16 of an 8-bit value, 0 without a residual.
    """
    return _quality_at_residual_step(residual_step) if residual_step else space.quality(step_code)


def _quality_at_residual_step(residual_step: int) -> float:
    return _quality_at_lambda(KNEE_LAMBDA * (residual_step / STEP_UNIT / KNEE_STEP) ** 2, 2)


def _quality_at_lambda(lmbda: float, layers: int) -> float:
    halvings = log2(KNEE_LAMBDA / lmbda)
    is_up_to_knee = layers == 1 or halvings <= 0
    return KNEE + halvings * (QUALITY_PER_LAMBDA_HALVING if is_up_to_knee else QUALITY_PER_STEP_HALVING / 2)
