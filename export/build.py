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
from sdtrt.export.folder import new_bundle, write_manifest
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.graphs.networks import Decoder, Denoiser, Encoder, downscale_of
from sdtrt.export.graphs.part import Part, Written, write_part
from sdtrt.export.latents.calibrate import Networks
from sdtrt.export.latents.denoising import record_auto
from sdtrt.export.latents.profiles import decide_profile, require_photos
from sdtrt.export.latents.reach import find_reach
from sdtrt.export.latents.sample_images import centre_of, made_image, photos_in
from sdtrt.export.libraries import captured
from sdtrt.export.request import Request
from sdtrt.progress import announce

PIXEL_RANGE = (-1.0, 1.0)  # of all VAEs of diffusers
PROBE_SIDE = 256  # pixels
UNET_MULTIPLE = 8  # of a latent plane's sides, so that every level of a UNet divides evenly


def build(request: Request) -> list[str]:
    """Write the bundle of a checkpoint and return what there is to tell or warn of; `BundleError` if it cannot be."""
    request.check()
    with captured(verbose=request.verbose), torch.no_grad():
        return _build(request)


def _build(request: Request) -> list[str]:
    path, vae, notes = _loaded(request)
    space, reason = decide_space(vae, request)
    notes.append(f"latent space {space}: {reason}")
    if request.photos is None:
        require_photos(space)
    encoder, decoder = coders(vae, space)
    downscale, written = downscale_of(encoder), Written()
    with new_bundle(request.out, force=request.force) as folder:
        pixels = probe_pixels(request.photos, downscale)
        latents = encoder(pixels)
        for part in (
            Part("encoder", encoder, {"pixels": pixels}, "latents"),
            Part("decoder", decoder, {"latents": latents}, "pixels"),
        ):
            write_part(part, folder, written, half=request.half, quiet=request.quiet)
        if request.unet:
            announce("unet: reading the weights, embedding the empty prompt", quiet=request.quiet)
            part = unet_part(path, latents, request, notes)
            write_part(part, folder, written, half=request.half, quiet=request.quiet)
        networks = Networks.load(folder / "encoder.onnx", folder / "decoder.onnx", PIXEL_RANGE, downscale)
        announce("measuring the latents", quiet=request.quiet)
        profile, warnings = decide_profile(space, networks, request.photos, quiet=request.quiet)
        announce("measuring how far the networks look", quiet=request.quiet)
        reach, told = find_reach(networks)
        unet = {"unet": {"multiple": UNET_MULTIPLE, **schedule_of(path)}} if request.unet else {}
        write_manifest(folder, manifest(request, space, profile, reach, written) | unet)
        if request.unet and request.photos:
            warnings.append(record_auto(folder, request.photos, quiet=request.quiet))
    return [*notes, told, *warnings]


def _loaded(request: Request) -> tuple[Path, Autoencoder, list[str]]:
    """Return where the checkpoint lies, its VAE, and which weights were taken where that is not plain."""
    options: dict[str, Any] = {"allow_pickle": request.allow_pickle, "variant": request.variant}
    notes: list[str] = []
    announce(f"{request.model}: reading the weights", quiet=request.quiet)
    path = locate(request.model, revision=request.revision, unet=request.unet, **options)
    return path, load_autoencoder(path, **options, tell=notes.append), notes


def decide_space(vae: Autoencoder, request: Request) -> tuple[str, str]:
    """Return the latent space's name and why; `BundleError` if it is known in part only, or the user's cannot be."""
    found, reason = identify(vae.channels, vae.factors, request.model, vae.kind)
    if request.latent_space is None:
        if found is None and vae.factors in {None, Factors()}:
            raise BundleError(f"{request.model} has {reason}; say it with --latent-space ({', '.join(KNOWN)})")
        return (found, reason) if found else (space_of_weights(_arrays(vae.module.encoder)), reason)
    known = KNOWN.get(valid_name(request.latent_space))
    if known and known.channels != vae.channels:
        raise BundleError(f"latent space {known.name} has {known.channels} channels, {request.model} {vae.channels}")
    return request.latent_space, "as told" if found in {None, request.latent_space} else f"as told, not {found}"


def _arrays(module: nn.Module) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in module.state_dict().values()]


def coders(vae: Autoencoder, space: str) -> tuple[Encoder, Decoder]:
    """Return encoder and decoder; factors that the checkpoint does not say are those of its latent space."""
    known = KNOWN.get(space)
    factors = vae.factors or (known and known.factors) or Factors()
    return Encoder(vae.module, factors).eval(), Decoder(vae.module, factors).eval()


def probe_pixels(photos: Path | None, downscale: int) -> Tensor:
    """Return two images, float32 (2, 3, 256, 256), of the photos if there are any."""
    found = photos_in(photos)[:2] if photos else []
    images = [p for path in found if (p := centre_of(path, PROBE_SIDE, downscale)) is not None]
    images = [p for p in images if p.shape == (PROBE_SIDE, PROBE_SIDE, 3)]
    images += [made_image(PROBE_SIDE, PROBE_SIDE)] * (2 - len(images))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def unet_part(path: Path, latents: Tensor, request: Request, notes: list[str]) -> Part:
    """Return the UNet, conditional ones with the empty prompt baked in; to `notes` comes which weights were taken."""
    options: dict[str, Any] = {"allow_pickle": request.allow_pickle, "variant": request.variant}
    unet = load_unet(path, **options, tell=notes.append)
    prompt = empty_prompt(path, **options) if "cross_attention_dim" in unet.config else None
    inputs = {"latents": latents, "timestep": torch.tensor([20.0, 150.0])}
    return Part("unet", Denoiser(unet, prompt).eval(), inputs, "prediction")


def manifest(
    request: Request, space: str, profile: int | dict[str, Any], reach: int | None, written: Written
) -> dict[str, Any]:
    return {
        "name": request.out.name,
        "latent_space": name_in_files(space),
        "profile": profile,
        "pixel_range": list(PIXEL_RANGE),
        "decoder_takes_step": False,
        "reach": reach,
        "export": {
            "model": Path(request.model).name if Path(request.model).exists() else request.model,
            "latent_space": space,
            "opset": onnx_graph.OPSET,
            "torch": torch.__version__.partition("+")[0],
            "onnx": onnx.__version__,
            "probe": "photos" if request.photos else "made",
            "fp32_islands": written.islands,
        },
        "parity": written.parity,
    }
