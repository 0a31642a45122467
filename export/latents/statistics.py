"""Statistics of a latent space, measured on photos: mean, spread, sensitivity, and reconstruction offsets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, F64Array, U8Array
from sdtrt.engine.format.latent_space import ADAPTIVE_PRIOR
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.engine.networks.backends import Network
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.errors import BundleError
from sdtrt.export.latents.sample_images import random_crops
from sdtrt.kernels import reference
from sdtrt.progress import ProgressBar

STEP_CODES = (2304, 1280)  # of qualities 1 and 100: steps 2 and 1/8 of a channel's spread
DEAD_ZONE = 0.12  # quantization steps by which RDOQ widens the zero bin, about
OFFSET_STEP = 0.5  # quantization step at which reconstruction offsets are measured, in spreads
MAX_OFFSET = 0.25  # quantization steps
CROPS, SIDE = 128, 256  # number of crops for mean and spread, and their side in pixels
SENSITIVITY_CROPS, SENSITIVITY_SIDE = 4, 128
PROBE = 0.15  # noise in place of quantization error, in spreads
MEAN_TOLERANCE, SPREAD_TOLERANCE = 0.5, 1.5


@dataclass(frozen=True, slots=True)
class CodecPair:
    """An encoder and its decoder, run on the CPU for measurements.

    Attributes:
        encoder: Pixels to latents at unit scale.
        decoder: Latents at unit scale to pixels.
        low: Lower end of the range of pixels.
        high: Upper end of the range of pixels.
        downscale: Pixels for each latent along a side.
        takes_step: Whether the decoder has an input `step`, the quantization step.
    """

    encoder: Network
    decoder: Network
    low: float
    high: float
    downscale: int
    takes_step: bool = False

    @classmethod
    def load(
        cls, encoder: Path, decoder: Path, pixel_range: tuple[float, float], downscale: int, *, takes_step: bool = False
    ) -> "CodecPair":
        """Load the pair from two ONNX files; arguments are the attributes."""
        backend = OrtCpu()
        return cls(backend.load(encoder), backend.load(decoder), *pixel_range, downscale, takes_step)

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> "CodecPair":
        """Load a bundle's pair; `BundleError` if a file is missing or damaged."""
        files = bundle.file("encoder.onnx"), bundle.file("decoder.onnx")
        own = bundle.profile  # without its prior, which is not needed here and may be damaged
        downscale = (own if isinstance(own, LatentProfile) else bundle.latent_profile).downscale
        return cls.load(*files, bundle.pixel_range, downscale, takes_step=bundle.decoder_takes_step)

    def encode(self, pixels: U8Array) -> F32Array:
        """Return latents, float32 (C, h, w), of RGB pixels, uint8 (H, W, 3)."""
        planes = reference.pixels_to_planes(pixels, self.downscale, self.low, self.high)
        return self.encoder.run({"pixels": planes[None]})["latents"][0]

    def decode(self, latents: F32Array, quant_step: float = 1.0) -> F32Array:
        """Return planes, float32 (3, H, W) on the 8-bit scale, of latents, float32 (C, h, w)."""
        step_input = {"step": np.full(1, quant_step, np.float32)} if self.takes_step else {}
        planes = self.decoder.run({"latents": latents[None], **step_input})["pixels"][0]
        return (planes - self.low) * (255 / (self.high - self.low))


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of each channel of a latent space, all float64 (C,).

    Attributes:
        mean: Mean of the latents.
        spread: Standard deviation of the latents.
        sensitivity: Squared error of pixels (8-bit scale, per pixel value) for a unit squared error of latents.
        offset: Reconstruction offset towards zero, in quantization steps.
        crops: Number of crops measured.
    """

    mean: F64Array
    spread: F64Array
    sensitivity: F64Array
    offset: F64Array
    crops: int


def measure_statistics(pair: CodecPair, photos: Sequence[Path], *, quiet: bool = True) -> Statistics:
    """Return the statistics of random crops of photos.

    Arguments:
        pair: The networks.
        photos: Paths of photos.
        quiet: Whether progress is not printed.

    Raises:
        BundleError: No photo can be read and is large enough, a channel is constant or not finite, or the decoder does
            not respond to the latents.
    """
    rate, planes = ProgressBar(quiet=quiet), []
    for done, crop in enumerate(random_crops(photos, CROPS, SIDE, pair.downscale)):
        rate(min(done, CROPS), CROPS, "crops encoded")
        planes.append(pair.encode(crop))
    if not planes:
        raise BundleError(f"none of {len(photos)} photos can be read and is {pair.downscale} pixels wide and high")
    values = np.concatenate([plane.reshape(len(plane), -1) for plane in planes], axis=1).astype(np.float64)
    mean, spread = values.mean(1), values.std(1)
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise BundleError(f"the encoder's channels have spreads {spread}; expected finite values above 0")
    side = SENSITIVITY_SIDE // pair.downscale
    middles = [_middle(plane, side) for plane in planes[:: -(-len(planes) // SENSITIVITY_CROPS)]]
    sensitivity = _sensitivity(pair, middles, spread, ProgressBar(quiet=quiet))
    if not (np.isfinite(sensitivity).all() and (sensitivity > 0).any()):
        raise BundleError("the decoder's pixels do not change, or are not finite, after small changes of the latents")
    return Statistics(mean, spread, sensitivity, _offset(values, mean, spread), len(planes))


def _middle(plane: F32Array, side: int) -> F32Array:
    top, left = (max(0, n - side) // 2 for n in plane.shape[1:])
    return plane[:, top : top + side, left : left + side]


def _sensitivity(pair: CodecPair, crops: Sequence[F32Array], spread: F64Array, rate: ProgressBar) -> F64Array:
    """Return the sensitivity of each channel, averaged over crops of latents."""
    rng = np.random.default_rng(2)
    gains = np.zeros((len(crops), len(spread)))
    for number, latents in enumerate(crops):
        exact = pair.decode(latents)
        for channel, sigma in enumerate(PROBE * spread):
            rate(number * len(spread) + channel, gains.size, "channels probed")
            disturbed = latents.copy()
            noise = rng.uniform(-1, 1, latents.shape[1:]) * sigma * np.sqrt(3)
            disturbed[channel] += noise.astype(np.float32)
            gains[number, channel] = np.mean((pair.decode(disturbed) - exact) ** 2) / np.mean(noise**2)
    return np.asarray(gains.mean(0))


def _offset(values: F64Array, mean: F64Array, spread: F64Array) -> F64Array:
    """Return how far the centroid of a symbol's latents lies towards zero, in quantization steps."""
    magnitude = np.abs(values - mean[:, None]) / (spread[:, None] * OFFSET_STEP)
    symbols = np.floor(magnitude + 0.5 - DEAD_ZONE)
    coded = symbols > 0
    offset = ((symbols - magnitude) * coded).sum(1) / np.maximum(coded.sum(1), 1)
    return np.asarray(np.clip(offset, -MAX_OFFSET, MAX_OFFSET))


def profile_fields(statistics: Statistics, latent_space: str, downscale: int) -> dict[str, Any]:
    """Return the fields of a profile's JSON file, with vectors to the 7 digits of float32.

    A channel's quantization step is inverse to the square root of its sensitivity, which at high rate minimises the
    error at a given rate (Gersho & Gray, "Vector Quantization and Signal Compression", 1992, section 8.3). The steps'
    geometric mean equals that of the spreads.
    """
    weight = 1 / (np.sqrt(np.maximum(statistics.sensitivity, 1e-6 * statistics.sensitivity.max())) * statistics.spread)
    weight /= np.exp(np.log(weight).mean())
    vectors = {"mean": statistics.mean, "spread": statistics.spread, "weight": weight, "offset": statistics.offset}
    return {
        "latent_space": latent_space,
        "channels": len(weight),
        "downscale": downscale,
        "step_codes": list(STEP_CODES),
        "prior": ADAPTIVE_PRIOR,
        **{name: [float(f"{value:.7g}") for value in vector] for name, vector in vectors.items()},
    }


def disagreement(statistics: Statistics, profile: LatentProfile) -> str | None:
    """Return a message about how measured latents differ from a profile; None if they agree."""
    if len(statistics.mean) != profile.channels:
        return f"latents have {len(statistics.mean)} channels, those of {profile.latent_space} {profile.channels}"
    distance = np.abs(statistics.mean - profile.mean) / profile.std
    ratio = statistics.spread / profile.std
    wrong = (distance > MEAN_TOLERANCE) | (ratio > SPREAD_TOLERANCE) | (ratio < 1 / SPREAD_TOLERANCE)
    if not wrong.any():
        return None
    channel = int(np.argmax(np.maximum(distance / MEAN_TOLERANCE, np.abs(np.log(ratio)) / np.log(SPREAD_TOLERANCE))))
    return (
        f"latents do not match {profile.latent_space}: channel {channel} has mean {statistics.mean[channel]:.3g} "
        f"and spread {statistics.spread[channel]:.3g}, expected {profile.mean[channel]:.3g} and "
        f"{profile.std[channel]:.3g}; check the latent space and the latent scale"
    )
