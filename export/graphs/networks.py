"""What is exported: encoder, decoder and denoiser as plain functions of tensors, latents at unit scale."""

import torch
from torch import Tensor, nn

from sdtrt.export.checkpoints.prompt import Prompt
from sdtrt.export.graphs.attention import bake_prompt


class Encoder(nn.Module):
    """Pixels (N, 3, H, W) in [-1, 1] to the mean of the posterior, never a sample, at unit scale (N, C, h, w)."""

    def __init__(self, vae: nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.encoder = vae.encoder
        self.quant_conv = getattr(vae, "quant_conv", None)
        self.channels = vae.config.latent_channels
        self.scale, self.shift = scale, shift

    def forward(self, pixels: Tensor) -> Tensor:
        moments = self.encoder(pixels)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        return (moments[:, : self.channels] - self.shift) * self.scale  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Latents at unit scale (N, C, h, w) to pixels (N, 3, H, W), not clamped."""

    def __init__(self, vae: nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.decoder = vae.decoder
        self.post_quant_conv = getattr(vae, "post_quant_conv", None)
        self.scale, self.shift = scale, shift

    def forward(self, latents: Tensor) -> Tensor:
        raw = latents / self.scale + self.shift
        if self.post_quant_conv is not None:
            raw = self.post_quant_conv(raw)
        return self.decoder(raw)  # type: ignore[no-any-return]


class Denoiser(nn.Module):
    """Noisy latents (N, C, h, w) and timesteps, float32 (N,), to the UNet's prediction (N, C, h, w)."""

    def __init__(self, unet: nn.Module, prompt: Prompt | None) -> None:
        super().__init__()
        self.unet = unet
        self.conditional = prompt is not None
        self.added: dict[str, Tensor] = {}  # no buffers: they stay in single precision
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
    """Return how many pixels wide a latent is."""
    with torch.inference_mode():
        return 64 // encoder(torch.zeros(1, 3, 64, 64)).shape[-1]
