"""Main path of `sdtrt export`: checkpoint -> torch -> ONNX in single and half precision -> checks -> bundle."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.checkpoint import Autoencoder, load_autoencoder, load_unet, schedule_of
from sdtrt.export.checkpoints.prompt import empty_prompt
from sdtrt.export.checkpoints.sources import locate
from sdtrt.export.checkpoints.spaces import KNOWN, Factors, identify, name_in_files, space_of_weights, valid_name
from sdtrt.export.export_options import ExportOptions
from sdtrt.export.folder import new_bundle, write_manifest
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.graphs.bundle_part import BundlePart, ExportRecord, write_part
from sdtrt.export.graphs.networks import Decoder, Denoiser, Encoder, downscale_of
from sdtrt.export.latents.denoising import measure_unet_gain
from sdtrt.export.latents.profiles import choose_profile, require_photos
from sdtrt.export.latents.receptive_field import measure_receptive_radius
from sdtrt.export.latents.sample_images import centre_crop, list_photos, synthetic_image
from sdtrt.export.latents.statistics import CodecPair
from sdtrt.export.libraries import captured
from sdtrt.progress import announce

PIXEL_RANGE = (-1.0, 1.0)  # of all VAEs of diffusers
PROBE_SIDE = 256  # pixels
UNET_MULTIPLE = 8  # latents; sides are padded to a multiple of it, so that every level of a UNet divides evenly


def build(options: ExportOptions) -> list[str]:
    """Write the bundle of a checkpoint.

    Arguments:
        options: The checkpoint, the new folder, and what to write.

    Returns:
        Messages and warnings for the user, one sentence each.

    Raises:
        BundleError: The checkpoint cannot be used, an export differs from torch, or the folder cannot be written.
        DeviceError: The hub's library is missing.
        ValueError: An option is invalid.
    """
    options.check()
    with captured(verbose=options.verbose), torch.no_grad():
        return _build(options)


def _build(options: ExportOptions) -> list[str]:
    path, vae, notes = _loaded(options)
    space, reason = decide_space(vae, options)
    notes.append(f"latent space {space}: {reason}")
    if options.photos is None:
        require_photos(space)
    encoder, decoder = coders(vae, space)
    downscale, written = downscale_of(encoder), ExportRecord()
    with new_bundle(options.out, force=options.force) as folder:
        pixels = probe_pixels(options.photos, downscale)
        latents = encoder(pixels)
        for part in (
            BundlePart("encoder", encoder, {"pixels": pixels}, "latents"),
            BundlePart("decoder", decoder, {"latents": latents}, "pixels"),
        ):
            write_part(part, folder, written, half=options.half, quiet=options.quiet, edit=options.edit)
        if options.unet:
            announce("unet: reading the weights, embedding the empty prompt", quiet=options.quiet)
            part = unet_part(path, latents, options, notes)
            write_part(part, folder, written, half=options.half, quiet=options.quiet, edit=options.edit)
        networks = CodecPair.load(folder / "encoder.onnx", folder / "decoder.onnx", PIXEL_RANGE, downscale)
        announce("measuring the latents", quiet=options.quiet)
        profile, warnings = choose_profile(space, networks, options.photos, quiet=options.quiet)
        announce("measuring how far the networks look", quiet=options.quiet)
        reach, reach_message = measure_receptive_radius(networks)
        unet = {"unet": {"multiple": UNET_MULTIPLE, **schedule_of(path)}} if options.unet else {}
        write_manifest(folder, manifest(options, space, profile, reach, written) | unet)
        if options.unet and options.photos:
            warnings.append(measure_unet_gain(folder, options.photos, quiet=options.quiet))
    return [*notes, reach_message, *warnings]


def _loaded(options: ExportOptions) -> tuple[Path, Autoencoder, list[str]]:
    """Return the checkpoint's path, its VAE, and messages about weights that were chosen among several."""
    weight_options: dict[str, Any] = {"allow_pickle": options.allow_pickle, "variant": options.variant}
    notes: list[str] = []
    announce(f"{options.model}: reading the weights", quiet=options.quiet)
    path = locate(options.model, revision=options.revision, unet=options.unet, **weight_options)
    return path, load_autoencoder(path, **weight_options, tell=notes.append), notes


def decide_space(vae: Autoencoder, options: ExportOptions) -> tuple[str, str]:
    """Return the latent space's name and the reason; `BundleError` if it is ambiguous or contradicts the option."""
    known_name, reason = identify(vae.channels, vae.factors, options.model, vae.kind)
    if options.latent_space is None:
        if known_name is None and vae.factors in {None, Factors()}:
            raise BundleError(f"{options.model} has {reason}; name it with --latent-space ({', '.join(KNOWN)})")
        return (known_name, reason) if known_name else (space_of_weights(_arrays(vae.module.encoder)), reason)
    known = KNOWN.get(valid_name(options.latent_space))
    if known and known.channels != vae.channels:
        raise BundleError(f"latent space {known.name} has {known.channels} channels, {options.model} {vae.channels}")
    return options.latent_space, "as given" if known_name in {
        None,
        options.latent_space,
    } else f"as given, not {known_name}"


def _arrays(module: nn.Module) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in module.state_dict().values()]


def coders(vae: Autoencoder, space: str) -> tuple[Encoder, Decoder]:
    """Return encoder and decoder; a checkpoint without factors gets those of its latent space."""
    known = KNOWN.get(space)
    factors = vae.factors or (known and known.factors) or Factors()
    return Encoder(vae.module, factors).eval(), Decoder(vae.module, factors).eval()


def probe_pixels(photos: Path | None, downscale: int) -> Tensor:
    """Return two images, float32 (2, 3, 256, 256) in [-1, 1]: photos if there are any, else a synthetic image."""
    paths = list_photos(photos)[:2] if photos else []
    images = [p for path in paths if (p := centre_crop(path, PROBE_SIDE, downscale)) is not None]
    images = [p for p in images if p.shape == (PROBE_SIDE, PROBE_SIDE, 3)]
    images += [synthetic_image(PROBE_SIDE, PROBE_SIDE)] * (2 - len(images))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def unet_part(path: Path, latents: Tensor, options: ExportOptions, notes: list[str]) -> BundlePart:
    """Return the UNet, with the empty prompt baked in if it is conditional.

    Messages about weights that were chosen among several are appended to `notes`.
    """
    weight_options: dict[str, Any] = {"allow_pickle": options.allow_pickle, "variant": options.variant}
    unet = load_unet(path, **weight_options, tell=notes.append)
    prompt = empty_prompt(path, **weight_options) if "cross_attention_dim" in unet.config else None
    inputs = {"latents": latents, "timestep": torch.tensor([20.0, 150.0])}
    return BundlePart("unet", Denoiser(unet, prompt).eval(), inputs, "prediction")


def manifest(
    options: ExportOptions, space: str, profile: int | dict[str, Any], reach: int | None, written: ExportRecord
) -> dict[str, Any]:
    return {
        "name": options.out.name,
        "latent_space": name_in_files(space),
        "profile": profile,
        "pixel_range": list(PIXEL_RANGE),
        "decoder_takes_step": False,
        "reach": reach,
        "export": {
            "model": Path(options.model).name if Path(options.model).exists() else options.model,
            "latent_space": space,
            "opset": onnx_graph.OPSET,
            "torch": torch.__version__.partition("+")[0],
            "onnx": onnx.__version__,
            "probe": "photos" if options.photos else "made",
            "fp32_islands": written.islands,
            "graph_edits": written.edits,
        },
        "parity": written.parity,
    }
