"""The exported networks: encoder, decoder and denoiser as functions of tensors, with latents at unit scale."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdtrt.export.checkpoints.families import family_of
from sdtrt.export.checkpoints.prompt import Prompt
from sdtrt.export.checkpoints.spaces import Factors
from sdtrt.export.graphs.attention import bake_prompt


class Encoder(nn.Module):
    """Pixels (N, 3, H, W) in [-1, 1] to the mean of the posterior at unit scale, (N, C, h, w).

    The encoder takes over modules of `vae` and may change them for the export.
    """

    def __init__(self, vae: nn.Module, factors: Factors) -> None:
        super().__init__()
        family = family_of(vae)
        self.encoder = vae.encoder
        self.quant_conv = getattr(vae, "quant_conv", None)
        family.simplify(self, vae.config)
        self.channels = vae.config[family.channels]
        self.pixel_patch, self.latent_patch = family.pixel_patch(vae.config), family.latent_patch(vae.config)
        _register(self, factors)

    def forward(self, pixels: Tensor) -> Tensor:
        moments = self.encoder(_packed(pixels, self.pixel_patch))
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        return (_packed(moments[:, : self.channels], self.latent_patch) - self.shift) * self.scale


class Decoder(nn.Module):
    """Latents at unit scale (N, C, h, w) to pixels (N, 3, H, W), not clamped; it takes over modules of `vae`."""

    def __init__(self, vae: nn.Module, factors: Factors) -> None:
        super().__init__()
        family = family_of(vae)
        self.decoder = vae.decoder
        self.post_quant_conv = getattr(vae, "post_quant_conv", None)
        family.simplify(self, vae.config)
        self.pixel_patch, self.latent_patch = family.pixel_patch(vae.config), family.latent_patch(vae.config)
        _register(self, factors)

    def forward(self, latents: Tensor) -> Tensor:
        raw = _unpacked(latents / self.scale + self.shift, self.latent_patch)
        if self.post_quant_conv is not None:
            raw = self.post_quant_conv(raw)
        return _unpacked(self.decoder(raw), self.pixel_patch)


def _register(network: nn.Module, factors: Factors) -> None:
    """Register the factors, float32 (1, 1 or C, 1, 1), as buffers, which are converted to half with the network."""
    for name, values in (("scale", factors.scale), ("shift", factors.shift)):
        network.register_buffer(name, torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1))


def _packed(plane: Tensor, patch: int) -> Tensor:
    return F.pixel_unshuffle(plane, patch) if patch > 1 else plane


def _unpacked(plane: Tensor, patch: int) -> Tensor:
    return F.pixel_shuffle(plane, patch) if patch > 1 else plane


class Denoiser(nn.Module):
    """Noisy latents (N, C, h, w) and timesteps, float32 (N,), to the UNet's prediction (N, C, h, w)."""

    def __init__(self, unet: nn.Module, prompt: Prompt | None) -> None:
        super().__init__()
        self.unet = unet
        self.conditional = prompt is not None
        self.added: dict[str, Tensor] = {}  # not buffers, so that they stay in single precision
        if prompt is None:
            return
        bake_prompt(unet, prompt.embedding)
        for name, tensor in (("text_embeds", prompt.pooled), ("time_ids", prompt.time_ids)):
            if tensor is not None:
                self.added[name] = tensor

    def forward(self, latents: Tensor, timestep: Tensor) -> Tensor:
        if not self.conditional:
            return self.unet(latents, timestep, return_dict=False)[0]  # type: ignore[no-any-return]
        added = {name: tensor.expand(latents.shape[0], -1) for name, tensor in self.added.items()}
        return self.unet(  # type: ignore[no-any-return]
            latents, timestep, encoder_hidden_states=None, added_cond_kwargs=added or None, return_dict=False
        )[0]


def downscale_of(encoder: Encoder) -> int:
    """Return the number of pixels for each latent along a side."""
    with torch.inference_mode():
        return 64 // encoder(torch.zeros(1, 3, 64, 64)).shape[-1]
