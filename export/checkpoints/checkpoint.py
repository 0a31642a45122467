"""Checkpoints to plain torch modules: the only place, with `single_file`, that opens weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from torch import nn

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.families import FAMILIES, channels_of, family_of
from sdtrt.export.checkpoints.single_file import load_single_file
from sdtrt.export.checkpoints.spaces import Factors

UNETS = ("UNet2DConditionModel", "UNet2DModel")


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """A VAE in single precision, latents of `channels`; `factors` is None where it has no config to say them."""

    module: nn.Module
    channels: int
    factors: Factors | None

    @property
    def kind(self) -> str:
        """The name of its class."""
        return type(self.module).__name__


def load_autoencoder(path: Path, *, allow_pickle: bool = False) -> Autoencoder:
    """Return the VAE of a diffusers pipeline's folder, a VAE's own folder, or a single file.

    Raises `BundleError` if there is none, or only a pickled one and not `allow_pickle`.
    """
    if path.is_file() and not (path.parent / "config.json").is_file():
        module = load_single_file(path, allow_pickle=allow_pickle)
        return Autoencoder(module, channels_of(module), None)
    module = _load(_part(path.parent if path.is_file() else path, "vae"), tuple(FAMILIES), allow_pickle)
    return Autoencoder(module, channels_of(module), family_of(module).factors(module))


def load_unet(path: Path, *, allow_pickle: bool = False) -> nn.Module:
    """Return the UNet of a diffusers pipeline's folder, or of its own folder; `BundleError` as for autoencoders."""
    if path.is_file():
        raise BundleError(f"{path} is a single file; a UNet is taken from a diffusers folder or the hub")
    return _load(_part(path, "unet"), UNETS, allow_pickle)


def schedule_of(path: Path) -> dict[str, Any]:
    """Return what a pipeline's scheduler says of its noise: prediction type and betas; diffusers' defaults else."""
    file = path / "scheduler" / "scheduler_config.json"
    fields = json.loads(file.read_text()) if file.is_file() else {}
    return {
        "prediction_type": fields.get("prediction_type", "epsilon"),
        "beta_schedule": fields.get("beta_schedule", "linear"),
        "beta_start": fields.get("beta_start", 0.0001),
        "beta_end": fields.get("beta_end", 0.02),
        "num_train_timesteps": fields.get("num_train_timesteps", 1000),
        "rescale_betas_zero_snr": fields.get("rescale_betas_zero_snr", False),
    }


def _part(folder: Path, name: str) -> Path:
    return folder / name if (folder / name / "config.json").is_file() else folder


def _load(folder: Path, classes: tuple[str, ...], allow_pickle: bool) -> nn.Module:
    config = folder / "config.json"
    if not config.is_file():
        raise BundleError(f"{folder} has no config.json of a diffusers model ({' or '.join(classes)})")
    name = json.loads(config.read_text()).get("_class_name")
    if name not in classes:
        raise BundleError(f"{config} is of a {name}, expected {' or '.join(classes)}")
    try:
        module, report = getattr(diffusers, name).from_pretrained(
            folder,
            use_safetensors=None if allow_pickle else True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        pickled = any(folder.glob("*.bin")) and not allow_pickle
        hint = "; its weights are pickled, which --allow-pickle admits if you trust them" if pickled else ""
        raise BundleError(f"{folder} cannot be loaded: {error}{hint}") from error
    if report["missing_keys"]:  # diffusers would go on with random numbers there
        raise BundleError(f"{folder} lacks weights: {', '.join(sorted(report['missing_keys'])[:3])} …")
    return module.float().eval()  # type: ignore[no-any-return]
