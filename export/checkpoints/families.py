"""Families of autoencoders: how the config of each class of diffusers is read, and how its networks are simplified.

All classes have an `encoder` and a `decoder`, and may have convolutions between these and the latents. They differ in
the names in their configs, in their patches, and in the changes that an export needs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusers.models.autoencoders.vae import MaskConditionDecoder
from torch import nn

from sdtrt.export.checkpoints.spaces import Factors
from sdtrt.export.graphs.linear_attention import always_linear
from sdtrt.export.graphs.one_frame import on_one_frame

Config = Mapping[str, Any]


def factors_of_config(vae: nn.Module) -> Factors:
    """Return the factors in the config of `vae`: one scale and shift, or one for each channel; 1 and 0 by default."""
    scale, shift = vae.config.get("scaling_factor") or 1.0, vae.config.get("shift_factor") or 0.0
    mean, spread = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is None or spread is None:
        return Factors(float(scale), float(shift))
    return Factors.of_statistics(mean, [value / scale for value in spread])


def batch_statistics(vae: nn.Module) -> Factors:
    """Return the factors of an `AutoencoderKLFlux2`: statistics of packed latents, from its batch normalisation."""
    spread = (vae.bn.running_var.double() + vae.config.batch_norm_eps).sqrt()
    return Factors.of_statistics(vae.bn.running_mean.tolist(), spread.tolist())


def without_mask(network: nn.Module, _: Config) -> None:
    """Remove the mask encoder of an `AsymmetricAutoencoderKL`, which is for inpainting."""
    for module in network.modules():
        if isinstance(module, MaskConditionDecoder):
            module.condition_encoder = None


def as_it_is(_: nn.Module, __: Config) -> None:
    """Do not change the network."""


def one_pixel(_: Config) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Family:
    """A class of autoencoders.

    Attributes:
        channels: Key in the config of the number of channels of the posterior's mean.
        factors: Returns the factors of an autoencoder.
        pixel_patch: Returns the side of the squares of pixels that are packed before the encoder.
        latent_patch: Returns the side of the squares of raw latents that are packed into one latent.
        simplify: Changes a network in place, so that it can be exported.
    """

    channels: str = "latent_channels"
    factors: Callable[[nn.Module], Factors] = factors_of_config
    pixel_patch: Callable[[Config], int] = one_pixel
    latent_patch: Callable[[Config], int] = one_pixel
    simplify: Callable[[nn.Module, Config], None] = as_it_is


VIDEO = Family("z_dim", pixel_patch=lambda config: config.get("patch_size") or 1, simplify=on_one_frame)
FAMILIES = {
    "AutoencoderKL": Family(),
    "AutoencoderTiny": Family(),
    "AsymmetricAutoencoderKL": Family(simplify=without_mask),
    "AutoencoderKLFlux2": Family(factors=batch_statistics, latent_patch=lambda config: config["patch_size"][0]),
    "AutoencoderKLQwenImage": VIDEO,
    "AutoencoderKLWan": VIDEO,
    "AutoencoderDC": Family(simplify=always_linear),
}


def family_of(vae: nn.Module) -> Family:
    """Return the family of an autoencoder of diffusers."""
    return FAMILIES[type(vae).__name__]


def channels_of(vae: nn.Module) -> int:
    """Return the number of channels of the latents in files, after packing."""
    family = family_of(vae)
    return int(vae.config[family.channels]) * family.latent_patch(vae.config) ** 2
