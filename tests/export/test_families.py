"""Autoencoders of every family: what is exported does what diffusers' own pipelines do with them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

import sdtrt
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.export import build as export_build
from sdtrt.export.build import build, coders
from sdtrt.export.checkpoints.checkpoint import load_autoencoder
from sdtrt.export.checkpoints.spaces import KNOWN, identify, name_in_files
from sdtrt.export.export_options import ExportOptions
from sdtrt.export.graphs.networks import downscale_of
from sdtrt.export.latents.sample_images import synthetic_image

TOLERANCES = {"": 1e-4, ".fp16": 0.1}
GROUPS = {"norm_num_groups": 4}


def blocks(levels: int) -> dict[str, Any]:
    return {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}


def asymmetric(levels: int = 4) -> Any:
    widths = {"down_block_out_channels": (8,) * levels, "up_block_out_channels": (8,) * (levels - 1) + (16,)}
    return diffusers.AsymmetricAutoencoderKL(**blocks(levels), **widths, **GROUPS)


def flux2(levels: int = 4) -> Any:
    widths = {"block_out_channels": (8,) * levels, "decoder_block_out_channels": (4,) * levels}
    plain = {"layers_per_block": 1, "mid_block_add_attention": False}
    vae = diffusers.AutoencoderKLFlux2(**blocks(levels), **widths, **plain, **GROUPS)
    vae.bn.running_mean.uniform_(-1, 1)
    vae.bn.running_var.uniform_(0.5, 4)
    return vae


def video(levels: int) -> dict[str, Any]:
    # With one level, the residual blocks of the middle and of the upsampling part are enough.
    return {"base_dim": 8, "dim_mult": [1] * levels, "num_res_blocks": int(levels > 1)}


def qwen(levels: int = 4) -> Any:
    return diffusers.AutoencoderKLQwenImage(**video(levels))


def wan21(levels: int = 4) -> Any:
    return diffusers.AutoencoderKLWan(**video(levels))


def wan22(levels: int = 4) -> Any:
    n = np.arange(48)
    statistics = {"z_dim": 48, "latents_mean": (n % 7 / 7 - 0.5).tolist(), "latents_std": (n % 5 / 4 + 0.5).tolist()}
    patches = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12}
    changes = {"decoder_base_dim": 12, "temperal_downsample": [False, True, True][1 - levels :]}
    return diffusers.AutoencoderKLWan(**video(levels), **statistics, **patches, **changes)


def dc(levels: int = 6) -> Any:
    each: dict[str, Any] = {
        "block_out_channels": (8, 8, 8, 16, 16, 32)[-levels:],
        "block_types": ("ResBlock",) * (levels - 1) + ("EfficientViTBlock",),
        "layers_per_block": (1,) * levels,
        "qkv_multiscales": ((),) * (levels - 1) + ((5,),),
    }
    both = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in each.items()}
    kinds = {"downsample_block_type": "Conv", "upsample_block_type": "interpolate", "attention_head_dim": 8}
    return diffusers.AutoencoderDC(scaling_factor=0.41407, **both, **kinds)


def encode_scaled(vae: Any, pixels: Tensor) -> Tensor:
    return vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor


def decode_scaled(vae: Any, latents: Tensor) -> Tensor:
    return vae.decode(latents / vae.config.scaling_factor).sample


def encode_packed(vae: Any, pixels: Tensor) -> Tensor:
    return vae.bn(diffusers.Flux2Pipeline._patchify_latents(vae.encode(pixels).latent_dist.mean))


def decode_packed(vae: Any, latents: Tensor) -> Tensor:
    spread = (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
    raw = latents * spread.view(1, -1, 1, 1) + vae.bn.running_mean.view(1, -1, 1, 1)
    return vae.decode(diffusers.Flux2Pipeline._unpatchify_latents(raw)).sample


def statistics(vae: Any) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor(vae.config[name]).view(1, -1, 1, 1) for name in ("latents_mean", "latents_std"))


def encode_frame(vae: Any, pixels: Tensor) -> Tensor:
    mean, spread = statistics(vae)
    return (vae.encode(pixels.unsqueeze(2)).latent_dist.mean.squeeze(2) - mean) / spread


def decode_frame(vae: Any, latents: Tensor) -> Tensor:
    mean, spread = statistics(vae)
    return vae.decode((latents * spread + mean).unsqueeze(2)).sample.squeeze(2)


def encode_dc(vae: Any, pixels: Tensor) -> Tensor:
    return vae.encode(pixels).latent * vae.config.scaling_factor


@dataclass(frozen=True)
class Case:
    """A checkpoint, the known latent space that it is of, and how pipelines get latents at unit scale, and pictures."""

    make: Callable[..., Any]
    space: str | None
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor], Tensor]
    downscale: int = 8
    levels: int = 1  # of the small one that is exported; 0 if another is like it
    half: bool = False


CASES = {
    "AsymmetricAutoencoderKL": Case(asymmetric, "sd1", encode_scaled, decode_scaled, levels=0),
    "AutoencoderKLFlux2": Case(flux2, "flux2", encode_packed, decode_packed, downscale=16),
    "AutoencoderKLQwenImage": Case(qwen, "wan21", encode_frame, decode_frame, half=True),
    "AutoencoderKLWan, 2.1": Case(wan21, "wan21", encode_frame, decode_frame, levels=0),
    "AutoencoderKLWan, 2.2": Case(wan22, None, encode_frame, decode_frame, downscale=16, levels=0),
    "AutoencoderDC": Case(dc, "sana", encode_dc, decode_scaled, downscale=32, levels=2),
}
EXPORTED = {name: case for name, case in CASES.items() if case.levels}


def run(path: Path, name: str, tensor: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    half = "16" in session.get_inputs()[0].type
    return session.run(None, {name: (tensor.half() if half else tensor).numpy()})[0].astype(np.float32)


def assert_close(found: np.ndarray, expected: Tensor, tolerance: float) -> None:
    scale = float(expected.square().mean().sqrt())
    np.testing.assert_allclose(found, expected.numpy(), atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_coders_every_family_matches_diffusers_in_torch(tmp_path: Path, case: Case) -> None:
    """Networks as deep as the published ones: their latent space is told, and they do what diffusers does."""
    torch.manual_seed(0)
    vae = case.make().eval()
    vae.save_pretrained(tmp_path / "vae")
    pixels = torch.rand(2, 3, 32, 64) * 2 - 1
    loaded = load_autoencoder(tmp_path / "vae")
    space, _ = identify(loaded.channels, loaded.factors, "vae", loaded.kind)
    assert space == case.space
    encoder, decoder = coders(loaded, space or "mine")
    assert downscale_of(encoder) == case.downscale == (KNOWN[space].downscale if space else case.downscale)
    with torch.inference_mode():
        latents = case.encode(vae, pixels)
        assert_close(encoder(pixels).numpy(), latents, 1e-4)
        assert_close(decoder(latents).clamp(-1, 1).numpy(), case.decode(vae, latents).clamp(-1, 1), 1e-4)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two small pictures: so few levels leave attention much to do."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, pixels in enumerate((synthetic_image(32, 24), synthetic_image(24, 40))):
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


@pytest.mark.parametrize("case", EXPORTED.values(), ids=EXPORTED)
def test_build_every_family_matches_diffusers_and_round_trips(
    tmp_path: Path, pictures: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_build, "PROBE_SIDE", 32)
    torch.manual_seed(0)
    vae = case.make(case.levels).eval()
    vae.save_pretrained(tmp_path / "vae")
    pixels = torch.rand(1, 3, 24, 40) * 2 - 1
    with torch.inference_mode():
        latents = case.encode(vae, pixels)
        back = case.decode(vae, latents).clamp(-1, 1)
    request = ExportOptions(str(tmp_path / "vae"), tmp_path / "bundle", "x-small", half=case.half, photos=pictures)
    assert build(request)[0] == f"latent space x-small: {'as given, not ' + case.space if case.space else 'as given'}"
    bundle = Bundle.open(tmp_path / "bundle")
    for suffix in ("", ".fp16") if case.half else ("",):
        tolerance = TOLERANCES[suffix]
        assert_close(run(bundle.file(f"encoder{suffix}.onnx"), "pixels", pixels), latents, tolerance)
        shown = run(bundle.file(f"decoder{suffix}.onnx"), "latents", latents).clip(-1, 1)
        assert_close(shown, back, tolerance)
    require_round_trip(bundle, latents[0].numpy())


def require_round_trip(bundle: Bundle, latents: np.ndarray) -> None:
    """A picture there and back: its size, and the name of its space; and latents, to within the quantizer's steps."""
    pixels = synthetic_image(26, 19)
    with sdtrt.Codec.open(bundle.folder, device="cpu", threads=1) as codec:
        data = codec.encode(pixels)
        assert codec.decode(data).size == (26, 19)
        found = codec.decode_latents(codec.encode_latents(latents, quality=100))
    assert sdtrt.info(data).latent_space == name_in_files("x-small")
    profile = bundle.latent_profile
    steps = profile.std * profile.step_weight * 2 ** ((profile.step_code(100) - 2048) / 256)
    assert float((np.abs(found - latents) / steps[:, None, None]).mean()) < 0.5
