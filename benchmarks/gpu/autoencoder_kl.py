"""Stable Diffusion 1.x's autoencoder in plain PyTorch, with the names of diffusers' `AutoencoderKL`.

A state dict of one loads into the other, and gives the same outputs (`tests/benchmarks/test_autoencoder_kl.py`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (128, 256, 512, 512)
LATENT_CHANNELS = 4
LAYERS = 2  # residual blocks of each level of the encoder; the decoder has one more
GROUPS, EPSILON = 32, 1e-6


class AutoencoderKL(nn.Module):
    """Pixels in [-1, 1] to the mean of the posterior, (N, 4, H/8, W/8), and back; no sample is drawn."""

    def __init__(self, widths: Sequence[int] = WIDTHS, layers: int = LAYERS) -> None:
        super().__init__()
        self.encoder = Encoder(widths, layers)
        self.decoder = Decoder(widths, layers)
        self.quant_conv = nn.Conv2d(2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1)
        self.post_quant_conv = nn.Conv2d(LATENT_CHANNELS, LATENT_CHANNELS, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(pixels))[:, :LATENT_CHANNELS]

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latents))


class Encoder(nn.Module):
    def __init__(self, widths: Sequence[int], layers: int) -> None:
        super().__init__()
        before = (widths[0], *widths)
        self.conv_in = convolution(3, widths[0])
        self.down_blocks = nn.ModuleList(
            DownBlock(before[n], width, layers, shrinks=n < len(widths) - 1) for n, width in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[-1])
        self.conv_norm_out = normalization(widths[-1])
        self.conv_out = convolution(widths[-1], 2 * LATENT_CHANNELS)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.conv_in(pixels)
        for block in self.down_blocks:
            hidden = block(hidden)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(hidden))))


class Decoder(nn.Module):
    def __init__(self, widths: Sequence[int], layers: int) -> None:
        super().__init__()
        widths = widths[::-1]
        before = (widths[0], *widths)
        self.conv_in = convolution(LATENT_CHANNELS, widths[0])
        self.mid_block = MidBlock(widths[0])
        self.up_blocks = nn.ModuleList(
            UpBlock(before[n], width, layers + 1, grows=n < len(widths) - 1) for n, width in enumerate(widths)
        )
        self.conv_norm_out = normalization(widths[-1])
        self.conv_out = convolution(widths[-1], 3)

    def forward(self, latents: Tensor) -> Tensor:
        hidden = self.mid_block(self.conv_in(latents))
        for block in self.up_blocks:
            hidden = block(hidden)
        return self.conv_out(F.silu(self.conv_norm_out(hidden)))


class DownBlock(nn.Module):
    def __init__(self, before: int, width: int, layers: int, *, shrinks: bool) -> None:
        super().__init__()
        self.resnets = residual_blocks(before, width, layers)
        self.downsamplers = nn.ModuleList([Downsample(width)] if shrinks else [])

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            hidden = layer(hidden)
        return hidden


class UpBlock(nn.Module):
    def __init__(self, before: int, width: int, layers: int, *, grows: bool) -> None:
        super().__init__()
        self.resnets = residual_blocks(before, width, layers)
        self.upsamplers = nn.ModuleList([Upsample(width)] if grows else [])

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            hidden = layer(hidden)
        return hidden


class MidBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnets = residual_blocks(width, width, 2)
        self.attentions = nn.ModuleList([Attention(width)])

    def forward(self, hidden: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](hidden)))


class ResidualBlock(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = normalization(before), convolution(before, width)
        self.norm2, self.conv2 = normalization(width), convolution(width, width)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(hidden)))
        return self.conv_shortcut(hidden) + self.conv2(F.silu(self.norm2(inner)))


class Attention(nn.Module):
    """Of all positions to each other, with one head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.group_norm = normalization(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, hidden: Tensor) -> Tensor:
        tokens = self.group_norm(hidden).flatten(2).transpose(1, 2)
        query, key, value = (project(tokens).unsqueeze(1) for project in (self.to_q, self.to_k, self.to_v))
        attended = self.to_out[0](F.scaled_dot_product_attention(query, key, value).squeeze(1))
        return hidden + attended.transpose(1, 2).reshape(hidden.shape)


class Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv(F.pad(hidden, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = convolution(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest"))


def residual_blocks(before: int, width: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(width if n else before, width) for n in range(count))


def convolution(before: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, padding=1)


def normalization(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, width, EPSILON)


class EncoderOf(nn.Module):
    """Pixels to latents with mean 0 and deviation 1 on what they were fitted to: what a bundle's encoder is."""

    def __init__(self, autoencoder: AutoencoderKL, mean: float, deviation: float) -> None:
        super().__init__()
        self.autoencoder, self.mean, self.deviation = autoencoder, mean, deviation

    def forward(self, pixels: Tensor) -> Tensor:
        return (self.autoencoder.encode(pixels) - self.mean) / self.deviation


class DecoderOf(nn.Module):
    """Such latents to pixels: what a bundle's decoder is."""

    def __init__(self, autoencoder: AutoencoderKL, mean: float, deviation: float) -> None:
        super().__init__()
        self.autoencoder, self.mean, self.deviation = autoencoder, mean, deviation

    def forward(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents * self.deviation + self.mean)


def random_coders(pixels: Tensor, widths: Sequence[int] = WIDTHS, layers: int = LAYERS) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder with random weights, the same each time; latents of `pixels` have deviation 1."""
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(widths, layers).eval()
    with torch.inference_mode():
        latents = autoencoder.encode(pixels)
    numbers = float(latents.mean()), float(latents.std())
    return EncoderOf(autoencoder, *numbers).eval(), DecoderOf(autoencoder, *numbers).eval()
