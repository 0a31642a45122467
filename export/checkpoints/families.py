"""Families of autoencoders: how each class of diffusers is read, and made to work on planes alone.

All have an `encoder` and a `decoder`, and may have convolutions between these and the latents. They differ in what
their configs call things, in patches, and in what must be done before they can be exported.
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
    """Return what the config of `vae` says: a factor and a shift, or means and spreads of channels, or nothing."""
    scale, shift = vae.config.get("scaling_factor") or 1.0, vae.config.get("shift_factor") or 0.0
    mean, spread = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is None or spread is None:
        return Factors(float(scale), float(shift))
    return Factors.of_statistics(mean, [value / scale for value in spread])


def batch_statistics(vae: nn.Module) -> Factors:
    """Return the factors that an `AutoencoderKLFlux2` has measured of its packed latents, in a batch normalisation."""
    spread = (vae.bn.running_var.double() + vae.config.batch_norm_eps).sqrt()
    return Factors.of_statistics(vae.bn.running_mean.tolist(), spread.tolist())


def without_mask(network: nn.Module, _: Config) -> None:
    """Leave out what an `AsymmetricAutoencoderKL` has for inpainting, which takes a mask."""
    for module in network.modules():
        if isinstance(module, MaskConditionDecoder):
            module.condition_encoder = None


def as_it_is(_: nn.Module, __: Config) -> None:
    """Leave a network as it is."""


def one_pixel(_: Config) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Family:
    """A class of autoencoders.

    `channels` is what its config calls the number of channels of a posterior's mean. The encoder takes squares of
    `pixel_patch` pixels as one position, and squares of `latent_patch` raw latents are one latent. `simplify` makes a
    network of its parts fit for export, in place.
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
    """Return the number of channels of the latents in files, patches counted."""
    family = family_of(vae)
    return int(vae.config[family.channels]) * family.latent_patch(vae.config) ** 2
