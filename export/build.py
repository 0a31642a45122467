"""Main path of `sdtrt export`: checkpoint -> torch -> ONNX in single and half precision -> checks -> bundle."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sdtrt.engine.backends import open_backend
from sdtrt.errors import BundleError
from sdtrt.export import graph, onnx_graph, parity
from sdtrt.export.attention import bound_attention
from sdtrt.export.calibrate import Networks
from sdtrt.export.checkpoint import Autoencoder, load_autoencoder, load_unet, schedule_of
from sdtrt.export.folder import free_bytes, new_bundle, require_vacant, write_manifest
from sdtrt.export.half import to_half
from sdtrt.export.networks import Decoder, Denoiser, Encoder, downscale_of
from sdtrt.export.picture import centre_of, made_picture, photos_in
from sdtrt.export.profiles import decide_profile, require_photos
from sdtrt.export.prompt import empty_prompt
from sdtrt.export.sources import locate
from sdtrt.export.spaces import KNOWN, identify, name_in_files, space_of_weights

PIXEL_RANGE = (-1.0, 1.0)  # of all VAEs of diffusers
PROBE_SIDE = 256  # pixels
UNET_MULTIPLE = 8  # of a latent plane's sides, so that every level of a UNet divides evenly


@dataclass(frozen=True, slots=True)
class Request:
    """What `sdtrt export` is told."""

    model: str
    out: Path
    latent_space: str | None = None
    half: bool = True
    unet: bool = False
    photos: Path | None = None
    revision: str | None = None
    allow_pickle: bool = False
    force: bool = False
    quiet: bool = True


@dataclass(slots=True)
class Record:
    """What the manifest will say of the export."""

    islands: dict[str, list[str]] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)


def build(request: Request) -> list[str]:
    """Write the bundle of a checkpoint and return what there is to tell or warn of; `BundleError` if it cannot be."""
    require_vacant(request.out, force=request.force)
    path = locate(request.model, revision=request.revision, unet=request.unet, allow_pickle=request.allow_pickle)
    vae = load_autoencoder(path, allow_pickle=request.allow_pickle)
    space, reason = decide_space(vae, request)
    if request.photos is None:
        require_photos(space)
    encoder, decoder = coders(vae, space)
    downscale, record = downscale_of(encoder), Record()
    with new_bundle(request.out, force=request.force) as folder, torch.no_grad():
        pixels = probe_pixels(request.photos, downscale)
        latents = encoder(pixels)
        export_network("encoder", encoder, [pixels], "latents", folder, request, record)
        export_network("decoder", decoder, [latents], "pixels", folder, request, record)
        unet = export_unet(path, latents, folder, request, record) if request.unet else {}
        networks = open_networks(folder, downscale)
        profile, warnings = decide_profile(space, networks, request.photos, quiet=request.quiet)
        write_manifest(folder, manifest(request, space, profile, record) | unet)
    return [f"latent space {space}: {reason}", *warnings]


def decide_space(vae: Autoencoder, request: Request) -> tuple[str, str]:
    """Return the latent space's name and why; `BundleError` if it is known in part only, or the user's cannot be."""
    found, reason = identify(vae.channels, vae.scale, vae.shift, request.model)
    if request.latent_space is None:
        if found is None and vae.scale is None:
            raise BundleError(f"{request.model} has {reason}; say it with --latent-space ({', '.join(KNOWN)})")
        return (found, reason) if found else (space_of_weights(_arrays(vae.module.encoder)), reason)
    known = KNOWN.get(request.latent_space)
    if known and known.channels != vae.channels:
        raise BundleError(f"latent space {known.name} has {known.channels} channels, {request.model} {vae.channels}")
    return request.latent_space, "as told" if found in {None, request.latent_space} else f"as told, not {found}"


def _arrays(module: nn.Module) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in module.state_dict().values()]


def coders(vae: Autoencoder, space: str) -> tuple[Encoder, Decoder]:
    """Return encoder and decoder; factors that the checkpoint does not say are those of its latent space."""
    known = KNOWN.get(space)
    scale = vae.scale or (known.scale if known else 1.0)
    shift = vae.shift if vae.shift is not None else (known.shift if known and vae.scale is None else 0.0)
    return Encoder(vae.module, scale, shift).eval(), Decoder(vae.module, scale, shift).eval()


def probe_pixels(photos: Path | None, downscale: int) -> Tensor:
    """Return two pictures, float32 (2, 3, 256, 256), of the photos if there are any."""
    found = photos_in(photos)[:2] if photos else []
    pictures = [p for path in found if (p := centre_of(path, PROBE_SIDE, downscale)) is not None]
    pictures = [p for p in pictures if p.shape == (PROBE_SIDE, PROBE_SIDE, 3)]
    pictures += [made_picture(PROBE_SIDE, PROBE_SIDE)] * (2 - len(pictures))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def export_network(
    name: str,
    network: nn.Module,
    probe: list[Tensor],
    output: str,
    folder: Path,
    request: Request,
    record: Record,
) -> None:
    """Write `name`.onnx and `name`.fp16.onnx, as asked for, each compared with torch on two sizes in a batch of two."""
    source = "pixels" if name == "encoder" else "latents"
    names = [source, *(["timestep"] if len(probe) > 1 else [])]
    plane, rest = probe[0], probe[1:]
    sizes = [(plane.shape[2] // 2, plane.shape[3] // 4 * 3), (plane.shape[2] // 4 * 3, plane.shape[3] // 2)]
    inputs = [dict(zip(names, [plane[:, :, :h, :w].contiguous(), *rest], strict=True)) for h, w in sizes]
    require_space(folder, network)
    bound_attention(network, half=False)
    references = parity.expected(network, inputs)
    program = graph.export(network, inputs[0], output, folder / f"{name}.onnx")
    record.parity[f"{name}.onnx"] = parity.require_parity(
        folder / f"{name}.onnx", inputs, references, parity.SINGLE, program
    )
    if not request.half:
        return
    record.islands[name] = to_half(network, tuple(probe))
    bound_attention(network, half=True)
    example = {key: tensor.half() if tensor.ndim == 4 else tensor for key, tensor in inputs[0].items()}
    path = folder / f"{name}.fp16.onnx"
    graph.export(network, example, output, path)
    record.parity[path.name] = parity.require_parity(path, inputs, references, parity.HALF, program)


def export_unet(path: Path, latents: Tensor, folder: Path, request: Request, record: Record) -> dict[str, Any]:
    """Write the UNet's files and return what the manifest says of it."""
    unet = load_unet(path, allow_pickle=request.allow_pickle)
    prompt = empty_prompt(path) if "cross_attention_dim" in unet.config else None
    denoiser = Denoiser(unet, prompt).eval()
    timestep = torch.tensor([20.0, 150.0])
    export_network("unet", denoiser, [latents, timestep], "prediction", folder, request, record)
    return {"unet": {"multiple": UNET_MULTIPLE, **schedule_of(path)}}


def require_space(folder: Path, network: nn.Module) -> None:
    """Raise `BundleError` before long work whose result the disk cannot hold."""
    needed = sum(tensor.numel() * 6 for tensor in network.state_dict().values())
    if free_bytes(folder) < needed:
        raise OSError(f"no space left: {needed >> 20} MiB are needed, {free_bytes(folder) >> 20} MiB are free")


def open_networks(folder: Path, downscale: int) -> Networks:
    backend = open_backend()
    return Networks(
        backend.load(folder / "encoder.onnx"), backend.load(folder / "decoder.onnx"), *PIXEL_RANGE, downscale
    )


def manifest(request: Request, space: str, profile: int | dict[str, Any], record: Record) -> dict[str, Any]:
    return {
        "name": request.out.name,
        "latent_space": name_in_files(space),
        "profile": profile,
        "pixel_range": list(PIXEL_RANGE),
        "decoder_takes_step": False,
        "export": {
            "model": Path(request.model).name if Path(request.model).exists() else request.model,
            "latent_space": space,
            "opset": onnx_graph.OPSET,
            "torch": torch.__version__.partition("+")[0],
            "onnx": onnx.__version__,
            "probe": "photos" if request.photos else "made",
            "fp32_islands": record.islands,
        },
        "parity": record.parity,
    }
