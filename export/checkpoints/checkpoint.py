"""Checkpoints to plain torch modules: the only place, with `single_file`, that opens weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from torch import nn

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.families import FAMILIES, channels_of, family_of
from sdtrt.export.checkpoints.single_file import load_files
from sdtrt.export.checkpoints.sources import part_of
from sdtrt.export.checkpoints.spaces import Factors
from sdtrt.export.checkpoints.weights import Weights, find_weights, listing, read_json, under_usual_names
from sdtrt.export.libraries import quietly

UNETS = ("UNet2DConditionModel", "UNet2DModel")
Tell = Callable[[str], None]


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


def load_autoencoder(
    path: Path, *, allow_pickle: bool = False, variant: str | None = None, tell: Tell = lambda text: None
) -> Autoencoder:
    """Return the VAE of a diffusers pipeline's folder, a VAE's own folder, or a single file.

    Args:
        path: The folder or file. Without a config.json beside the weights, the shapes of the weights say the config.
        allow_pickle: Whether pickled weights are read.
        variant: The variant of the weights, such as fp16; None for the usual or only one.
        tell: Called with a sentence where it is not plain which weights were taken.

    Raises:
        BundleError: There is no VAE, or none that may be read.
    """
    place = part_of(path, "vae")
    weights = find_weights(place, variant=variant, allow_pickle=allow_pickle)
    if weights.note:
        tell(weights.note)
    config = weights.files[0].parent / "config.json"
    if not config.is_file() or (path.is_file() and read_json(config).get("_class_name") not in FAMILIES):
        module = load_files(weights.files)
        return Autoencoder(module, channels_of(module), None)
    module = _load(config, weights, tuple(FAMILIES))
    return Autoencoder(module, channels_of(module), family_of(module).factors(module))


def load_unet(
    path: Path, *, allow_pickle: bool = False, variant: str | None = None, tell: Tell = lambda text: None
) -> nn.Module:
    """Return the UNet of a diffusers pipeline's folder, or of its own folder; arguments and errors as for VAEs."""
    if path.is_file():
        raise BundleError(f"{path} is a single file; a UNet is taken from a diffusers folder or the hub")
    place = part_of(path, "unet")
    weights = find_weights(place, variant=variant, allow_pickle=allow_pickle)
    if weights.note:
        tell(weights.note)
    return _load(place / "config.json", weights, UNETS)


def schedule_of(path: Path) -> dict[str, Any]:
    """Return what a pipeline's scheduler says of its noise: prediction type and betas; diffusers' defaults else."""
    file = path / "scheduler" / "scheduler_config.json"
    fields = read_json(file) if file.is_file() else {}
    return {
        "prediction_type": fields.get("prediction_type", "epsilon"),
        "beta_schedule": fields.get("beta_schedule", "linear"),
        "beta_start": fields.get("beta_start", 0.0001),
        "beta_end": fields.get("beta_end", 0.02),
        "num_train_timesteps": fields.get("num_train_timesteps", 1000),
        "rescale_betas_zero_snr": fields.get("rescale_betas_zero_snr", False),
    }


def _load(config: Path, weights: Weights, classes: tuple[str, ...]) -> nn.Module:
    name = checked_class(config, classes)
    source = weights.index or weights.files[0]
    try:
        with under_usual_names(weights, config) as folder, quietly():
            module, report = getattr(diffusers, name).from_pretrained(
                folder,
                use_safetensors=not weights.pickled,
                local_files_only=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
    except Exception as error:  # of diffusers, of safetensors, of pickle, of the disk: no common base
        raise BundleError(f"{source} cannot be loaded as {name}: {error}; {listing(source.parent)}") from error
    if report["missing_keys"]:  # diffusers would go on with random numbers there
        raise BundleError(f"{source} lacks weights: {', '.join(sorted(report['missing_keys'])[:3])} …")
    return module.float().eval()  # type: ignore[no-any-return]


def checked_class(config: Path, classes: tuple[str, ...]) -> str:
    """Return the class of a model by its config; `BundleError` if it is none of `classes`."""
    if not config.is_file():
        raise BundleError(
            f"{config.parent} has no config.json of a diffusers model ({' or '.join(classes)}), which says how it is "
            f"built; put the one of its original beside the weights; {listing(config.parent)}"
        )
    name = read_json(config).get("_class_name")
    if name not in classes:
        raise BundleError(f"{config} is of {name or 'no _class_name'}, expected {' or '.join(classes)}")
    return str(name)
