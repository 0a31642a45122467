"""The networks of `tiny`: a linear lapped transform, plus convolutions that learn a correction.

Encoder and decoder start as a lapped orthogonal transform of an orthonormal colour space, and every learned branch
starts at zero. The codec therefore works from iteration 0, and has no block grid that training must remove. The
encoder does not depend on the quantization step, so that one run serves every rate; the decoder does.

Shapes: pixels float32 (N, 3, 8h, 8w) in [-1, 1]; latents float32 (N, 40, h, w), about unit variance; quantization
step (`quant_step`) float32 (N,).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

DOWNSCALE = 8
LATENT_CHANNELS = 40
LUMA_CHANNELS, CHROMA_CHANNELS = 28, 6
MASKING_CHANNELS = 4  # the lowest luma frequencies, whose activity masks errors
ENCODER_BLOCKS, COARSE_BLOCKS, FINE_BLOCKS, FAST_BLOCKS = 6, 7, 3, 9
# Receptive radius of the decoder, in latents; the encoder's is smaller. Each 3x3 convolution adds 1 at its resolution,
# and a block has two of them. Two positions of the fine blocks make a latent; the two over pixels add 1/4 latent.
REACH = math.ceil(1 + 2 * COARSE_BLOCKS + 1 + (2 * FINE_BLOCKS + 1) / 2 + 1 / 4)
STEP_OF_PIXELS = 50.0  # initial quantization step of pixels at step 1, on the 8-bit scale


def lapped_basis(size: int = DOWNSCALE, correlation: float = 0.95) -> np.ndarray:
    """Return the `size` basis functions of the lapped orthogonal transform, float64 (size, 2 * size).

    H. S. Malvar, "Signal Processing with Lapped Transforms", 1992, section 4.3: the DCT's even and odd functions are
    folded over two blocks, then rotated to decorrelate a first-order autoregressive signal.
    """
    n = np.arange(size)
    dct = np.cos(np.pi * np.outer(n, 2 * n + 1) / (2 * size)) * math.sqrt(2 / size)
    dct[0] /= math.sqrt(2)
    difference = (dct[0::2] - dct[1::2]).T / 2
    folded = np.block([[difference, difference], [difference[::-1], -difference[::-1]]])
    lag = np.arange(2 * size)
    covariance = correlation ** np.abs(lag[:, None] - lag[None, :])
    _, rotation = np.linalg.eigh(folded.T @ covariance @ folded)
    return np.asarray((folded @ rotation)[:, ::-1].T)


def zigzag(count: int) -> list[tuple[int, int]]:
    """Return the `count` lowest (vertical, horizontal) frequencies, diagonal by diagonal."""
    pairs = [(v, h) for v in range(DOWNSCALE) for h in range(DOWNSCALE)]
    return sorted(pairs, key=lambda p: (sum(p), abs(p[0] - p[1]), p[0]))[:count]


def linear_analysis() -> Tensor:
    """Return the linear encoder's weights, float32 (40, 3, 16, 16); for [-1, 1] they give the 8-bit scale."""
    basis = lapped_basis()
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    kernels = [
        np.einsum("c,y,x->cyx", colour, basis[v], basis[h])
        for colour, count in zip(colours, (LUMA_CHANNELS, CHROMA_CHANNELS, CHROMA_CHANNELS), strict=True)
        for v, h in zigzag(count)
    ]
    return torch.tensor(127.5 * np.stack(kernels), dtype=torch.float32)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a skip connection; `conditions` is the width of an optional modulation."""

    def __init__(self, channels: int, conditions: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(conditions, 2 * channels) if conditions else None
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        inner = self.first(x)
        if self.modulation is not None:
            scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
            inner = inner * (1 + scale) + shift
        return x + self.second(F.leaky_relu(inner, 0.1))


class StepEmbedding(nn.Module):
    """Quantization step, float32 (N,), to conditions, float32 (N, `width`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.LeakyReLU(0.1), nn.Linear(width, width), nn.Tanh())

    def forward(self, quant_step: Tensor) -> Tensor:
        log_step = torch.log(quant_step)[:, None]
        return self.layers(torch.cat([log_step, log_step.square()], 1))  # type: ignore[no-any-return]


class Deblock(nn.Module):
    """Two 3x3 convolutions over the decoded pixels, which smooth the borders of blocks."""

    def __init__(self, conditions: int, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.modulation = nn.Linear(conditions, 2 * width)
        self.second = zeroed(nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, pixels: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        inner = F.leaky_relu(self.first(pixels) * (1 + scale) + shift, 0.1)
        return pixels + 0.1 * self.second(inner)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Pixels to latents."""

    def __init__(self, spread: Tensor, width: int = 96) -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, LATENT_CHANNELS, 2 * DOWNSCALE, stride=DOWNSCALE, bias=False)
        self.linear.weight.data = linear_analysis() / spread[:, None, None, None]
        self.patches = nn.Conv2d(3, width, DOWNSCALE, stride=DOWNSCALE)
        self.blocks = nn.ModuleList([ResidualBlock(width) for _ in range(ENCODER_BLOCKS)])
        self.out = zeroed(nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1))
        # The branch's unit is the quantization step, so that a change of its weights moves all channels equally.
        self.register_buffer("out_scale", STEP_OF_PIXELS / spread[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        overlap = DOWNSCALE // 2
        linear = self.linear(F.pad(pixels, (overlap,) * 4, mode="replicate"))
        return linear + self.learned(pixels) * self.out_scale  # type: ignore[no-any-return]

    def learned(self, pixels: Tensor) -> Tensor:
        """Return the correction of the linear transform, in quantization steps at step 1."""
        x = F.leaky_relu(self.patches(pixels), 0.1)
        for block in self.blocks:
            x = block(x)
        return self.out(x)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Latents and quantization step to pixels, not clamped."""

    def __init__(self, spread: Tensor, width: int = 128, fine_width: int = 48, conditions: int = 32) -> None:
        super().__init__()
        self.linear = nn.Parameter(linear_analysis() * spread[:, None, None, None] / 127.5**2)
        self.embedding = StepEmbedding(conditions)
        self.coarse_in = nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1)
        self.coarse = nn.ModuleList([ResidualBlock(width, conditions) for _ in range(COARSE_BLOCKS)])
        self.fine_in = nn.Conv2d(width, 4 * fine_width, 3, padding=1)
        self.fine = nn.ModuleList([ResidualBlock(fine_width, conditions) for _ in range(FINE_BLOCKS)])
        self.out = zeroed(nn.Conv2d(fine_width, 3 * 16, 3, padding=1))
        self.deblock = Deblock(conditions)

    def forward(self, latents: Tensor, quant_step: Tensor) -> Tensor:
        condition = self.embedding(quant_step)
        # Blocks overlap by half, so the outermost latents are repeated as their own neighbours.
        padded = F.pad(latents, (1, 1, 1, 1), mode="replicate")
        linear = F.conv_transpose2d(padded, self.linear, stride=DOWNSCALE, padding=DOWNSCALE + DOWNSCALE // 2)
        return self.deblock(linear + 0.1 * self.learned(latents, condition), condition)

    def learned(self, latents: Tensor, condition: Tensor) -> Tensor:
        """Return ten times the correction of the linear transform's pixels."""
        x = self.coarse_in(latents)
        for block in self.coarse:
            x = block(x, condition)
        x = F.leaky_relu(F.pixel_shuffle(self.fine_in(x), 2), 0.1)
        for block in self.fine:
            x = block(x, condition)
        return F.pixel_shuffle(self.out(x), 4)


class SeparableBlock(nn.Module):
    """A 1x1 convolution to twice the channels, a 3x3 convolution of each, a 1x1 convolution back; a skip connection.

    It has half the arithmetic of one 3x3 convolution (M. Sandler and others, "MobileNetV2: Inverted Residuals and
    Linear Bottlenecks", 2018).
    """

    def __init__(self, channels: int, conditions: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.widen = nn.Conv2d(channels, inner, 1)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.modulation = nn.Linear(conditions, 2 * inner)
        self.narrow = zeroed(nn.Conv2d(inner, channels, 1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        inner = self.depthwise(F.leaky_relu(self.widen(x), 0.1)) * (1 + scale) + shift
        return x + self.narrow(F.leaky_relu(inner, 0.1))  # type: ignore[no-any-return]


class FastDecoder(nn.Module):
    """Latents and quantization step to pixels, not clamped, by 12 kMAC a pixel; `Decoder` takes 46.

    All convolutions are at an eighth of the image's width and height, where they are fastest.

    Arguments:
        linear: The linear transform of the decoder to imitate, float32 (40, 3, 16, 16).
    """

    def __init__(self, linear: Tensor, width: int = 128, conditions: int = 32) -> None:
        super().__init__()
        self.linear = nn.Conv2d(LATENT_CHANNELS, 3 * DOWNSCALE**2, 3, bias=False)
        self.linear.weight.data = block_convolution(linear)
        self.embedding = StepEmbedding(conditions)
        self.coarse_in = nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1)
        self.blocks = nn.ModuleList([SeparableBlock(width, conditions) for _ in range(FAST_BLOCKS)])
        self.out = zeroed(nn.Conv2d(width, 3 * DOWNSCALE**2, 1))

    def forward(self, latents: Tensor, quant_step: Tensor) -> Tensor:
        padded = F.pad(latents, (1, 1, 1, 1), mode="replicate")
        learned = self.learned(latents, self.embedding(quant_step))
        return F.pixel_shuffle(self.linear(padded) + 0.1 * learned, DOWNSCALE)

    def learned(self, latents: Tensor, condition: Tensor) -> Tensor:
        """Return ten times the correction of the linear transform's pixels, float32 (N, 192, h, w)."""
        x = self.coarse_in(latents)
        for block in self.blocks:
            x = block(x, condition)
        return self.out(x)  # type: ignore[no-any-return]


def block_convolution(kernels: Tensor) -> Tensor:
    """Return the weights of a 3x3 convolution that gives blocks of pixels, for `F.pixel_shuffle`.

    It equals the transposed convolution of `Decoder.linear`: a block of 8x8 pixels depends on its own latents and on
    those of its neighbours, whose blocks of 16x16 overlap it.

    Arguments:
        kernels: The transposed convolution's weights, float32 (C, 3, 16, 16).
    """
    overlap, channels = DOWNSCALE // 2, len(kernels)
    weights = torch.zeros(3, DOWNSCALE, DOWNSCALE, channels, 3, 3)
    padded = F.pad(kernels, (DOWNSCALE - overlap,) * 4)  # (C, 3, 24, 24): the own block of pixels, amid its neighbours
    blocks = padded.reshape(channels, 3, 3, DOWNSCALE, 3, DOWNSCALE)
    for down in range(3):
        for right in range(3):  # the latents above a block reach it by the lowest rows of their kernels
            weights[..., down, right] = blocks[:, :, 2 - down, :, 2 - right].permute(1, 2, 3, 0)
    return weights.reshape(3 * DOWNSCALE**2, channels, 3, 3)


class RateModel(nn.Module):
    """The training's estimate of the rate: a causal 5x5 window gives each symbol's logistic distribution.

    Files are coded with an integer prior instead, which `export.prior.train` trains on the final latents.
    """

    def __init__(self, width: int = 96, conditions: int = 16) -> None:
        super().__init__()
        self.embedding = StepEmbedding(conditions)
        self.window = nn.Conv2d(LATENT_CHANNELS, width, 5, padding=2)
        self.inject = nn.Linear(conditions, width)
        self.mix = nn.Conv2d(width, width, 1)
        self.out = zeroed(nn.Conv2d(width, 2 * LATENT_CHANNELS, 1))
        causal = torch.zeros(5, 5)
        causal[:2] = 1
        causal[2, :2] = 1
        self.register_buffer("causal", causal, persistent=False)

    def forward(self, symbols: Tensor, latents: Tensor, channel_steps: Tensor, quant_step: Tensor) -> Tensor:
        """Return the bits, float32 (N, 40, h, w), of `symbols`: noisy latents in units of `channel_steps`."""
        x = F.conv2d(latents, self.window.weight * self.causal, self.window.bias, padding=2)
        x = F.leaky_relu(x + self.inject(self.embedding(quant_step))[:, :, None, None], 0.1)
        x = self.out(F.leaky_relu(self.mix(x), 0.1))
        location, log_scale = x.chunk(2, 1)
        location = location / channel_steps
        scale = torch.exp(log_scale - 1.2).clamp(0.03) / channel_steps + 0.05
        # By symmetry the lower tail is used: differences of sigmoids near 1 would lose all digits.
        far = -(symbols - location).abs()
        probability = torch.sigmoid((far + 0.5) / scale) - torch.sigmoid((far - 0.5) / scale)
        return -torch.log2(probability.clamp_min(1e-7))


class Autoencoder(nn.Module):
    """Encoder, quantizer, decoder and rate model, which are trained together."""

    def __init__(self, spread: Tensor) -> None:
        super().__init__()
        self.encoder = Encoder(spread)
        self.decoder = Decoder(spread)
        self.rate = RateModel()
        self.log_weight = nn.Parameter(torch.log(STEP_OF_PIXELS / spread))

    def forward(self, pixels: Tensor, quant_step: Tensor, dead_zone: Tensor) -> tuple[Tensor, Tensor]:
        """Return (pixels, bits)."""
        latents, bits = self.latents_and_bits(pixels, quant_step, dead_zone)
        return self.decoder(latents, quant_step), bits

    def latents_and_bits(self, pixels: Tensor, quant_step: Tensor, dead_zone: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents and bits. Latents are rounded with straight-through gradients; bits are of noisy latents."""
        channel_steps = self.channel_steps(quant_step)
        exact = self.encoder(pixels) / channel_steps
        rounded = quantized(exact, dead_zone)
        noisy = exact + torch.rand_like(exact) - 0.5
        return (exact + (rounded - exact).detach()) * channel_steps, self.rate(
            noisy, noisy * channel_steps, channel_steps, quant_step
        )

    @torch.no_grad()
    def quantized(self, pixels: Tensor, quant_step: Tensor, dead_zone: Tensor) -> Tensor:
        """Return the quantized latents that a decoder would get."""
        channel_steps = self.channel_steps(quant_step)
        return quantized(self.encoder(pixels) / channel_steps, dead_zone) * channel_steps

    def channel_steps(self, quant_step: Tensor) -> Tensor:
        """Return each channel's quantization step, float32 (N, 40, 1, 1)."""
        return (quant_step[:, None] * torch.exp(self.log_weight))[:, :, None, None]


def quantized(exact: Tensor, dead_zone: Tensor) -> Tensor:
    """Return the symbols, as floats, of latents in quantization steps; `dead_zone` is float32 (N,)."""
    return torch.sign(exact) * torch.floor(exact.abs() + 0.5 - dead_zone[:, None, None, None])


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Set the weights and bias of `layer` to 0, so that its branch starts at zero; return `layer`."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
