"""Checkpoints to torch modules. Only this module, `single_file` and `prompt` open weights."""

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
    """A VAE in single precision.

    Attributes:
        module: The autoencoder, of a class of diffusers.
        channels: Number of channels of the latents in files.
        factors: Factors to unit scale; None if the checkpoint has no config.
    """

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
        path: The folder or file. Without a config.json beside the weights, the config follows from their shapes.
        allow_pickle: Whether pickled weights are read.
        variant: The variant of the weights, such as fp16; None for the usual or only one.
        tell: Called with a message if the weights were chosen among several.

    Raises:
        BundleError: There is no VAE, or it may not be read.
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
        raise BundleError(f"{path} is a single file; for a UNet name a diffusers folder or a hub id")
    place = part_of(path, "unet")
    weights = find_weights(place, variant=variant, allow_pickle=allow_pickle)
    if weights.note:
        tell(weights.note)
    return _load(place / "config.json", weights, UNETS)


def schedule_of(path: Path) -> dict[str, Any]:
    """Return the noise schedule of a pipeline: prediction type and betas, with diffusers' defaults."""
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
    except Exception as error:  # errors of diffusers, safetensors, pickle and the disk have no common base class
        raise BundleError(f"{source} cannot be loaded as {name}: {error}; {listing(source.parent)}") from error
    if report["missing_keys"]:  # diffusers would leave them random
        raise BundleError(f"{source} lacks weights: {', '.join(sorted(report['missing_keys'])[:3])} …")
    return module.float().eval()  # type: ignore[no-any-return]


def checked_class(config: Path, classes: tuple[str, ...]) -> str:
    """Return the class name in a model's config; `BundleError` if it is not in `classes`."""
    if not config.is_file():
        raise BundleError(
            f"{config.parent} has no config.json of a diffusers model ({' or '.join(classes)}); copy the config of the "
            f"original model beside the weights; {listing(config.parent)}"
        )
    name = read_json(config).get("_class_name")
    if name not in classes:
        raise BundleError(f"{config} has {name or 'no _class_name'}, expected {' or '.join(classes)}")
    return str(name)
