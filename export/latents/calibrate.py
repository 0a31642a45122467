"""The numbers of a latent space, measured on photos: mean, spread, the decoder's sensitivity, reconstruction points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdtrt._arrays import F32Array, F64Array, U8Array
from sdtrt.engine.format.profile import ADAPTIVE_PRIOR, LatentProfile
from sdtrt.engine.networks.backends import Network
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.errors import BundleError
from sdtrt.export.latents.sample_images import crops_of
from sdtrt.kernels import reference
from sdtrt.progress import ProgressBar

STEP_CODES = (2304, 1280)  # of qualities 1 and 100: steps 2 and 1/8 of a channel's spread
DEAD_ZONE = 0.12  # by how much of a step bits widen the zero bin, about
OFFSET_STEP = 0.5  # the step at which reconstruction offsets are measured
MAX_OFFSET = 0.25
CROPS, SIDE = 128, 256  # that mean and spread are measured on, and how many pixels wide they are
SENSITIVITY_CROPS, SENSITIVITY_SIDE = 4, 128
PROBE = 0.15  # noise that stands for quantization error, in spreads
MEAN_TOLERANCE, SPREAD_TOLERANCE = 0.5, 1.5


@dataclass(frozen=True, slots=True)
class Networks:
    """A pair to be measured; pixels lie between `low` and `high`, latents are at unit scale."""

    encoder: Network
    decoder: Network
    low: float
    high: float
    downscale: int
    takes_step: bool = False

    @classmethod
    def load(
        cls, encoder: Path, decoder: Path, pixel_range: tuple[float, float], downscale: int, *, takes_step: bool = False
    ) -> "Networks":
        """Return the pair in two ONNX files, to be run on the CPU."""
        backend = OrtCpu()
        return cls(backend.load(encoder), backend.load(decoder), *pixel_range, downscale, takes_step)

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> "Networks":
        """Return a bundle's pair; `BundleError` if a file is missing or damaged."""
        files = bundle.file("encoder.onnx"), bundle.file("decoder.onnx")
        own = bundle.profile  # without its prior, which is not needed, and may be damaged
        downscale = (own if isinstance(own, LatentProfile) else bundle.latent_profile()).downscale
        return cls.load(*files, bundle.pixel_range, downscale, takes_step=bundle.decoder_takes_step)

    def encode(self, pixels: U8Array) -> F32Array:
        planes = reference.pixels_to_planes(pixels, self.downscale, self.low, self.high)
        return self.encoder.run({"pixels": planes[None]})["latents"][0]

    def decode(self, latents: F32Array, step: float = 1.0) -> F32Array:
        """Return planes, float32 (3, H, W), on the 8-bit scale."""
        told = {"step": np.full(1, step, np.float32)} if self.takes_step else {}
        planes = self.decoder.run({"latents": latents[None], **told})["pixels"][0]
        return (planes - self.low) * (255 / (self.high - self.low))


@dataclass(frozen=True, slots=True)
class Statistics:
    """What photos say, all float64 (C,).

    `gain` is the squared error of pixels, on the 8-bit scale and per pixel value, for unit squared error of latents.
    """

    mean: F64Array
    spread: F64Array
    gain: F64Array
    offset: F64Array
    crops: int


def measure(networks: Networks, photos: Sequence[Path], *, quiet: bool = True) -> Statistics:
    """Return the statistics of random crops of photos; `BundleError` if every photo is too small."""
    rate, planes = ProgressBar(quiet=quiet), []
    for done, crop in enumerate(crops_of(photos, CROPS, SIDE, networks.downscale)):
        rate(min(done, CROPS), CROPS, "crops encoded")
        planes.append(networks.encode(crop))
    if not planes:
        raise BundleError(f"none of {len(photos)} photos can be read and is {networks.downscale} pixels wide and high")
    values = np.concatenate([plane.reshape(len(plane), -1) for plane in planes], axis=1).astype(np.float64)
    mean, spread = values.mean(1), values.std(1)
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise BundleError(f"the encoder's channels have spreads {spread}; each must carry something")
    side = SENSITIVITY_SIDE // networks.downscale
    middles = [_middle(plane, side) for plane in planes[:: -(-len(planes) // SENSITIVITY_CROPS)]]
    gain = _gain(networks, middles, spread, ProgressBar(quiet=quiet))
    if not (np.isfinite(gain).all() and (gain > 0).any()):
        raise BundleError("the decoder does not answer to small changes of latents with finite ones of pixels")
    return Statistics(mean, spread, gain, _offset(values, mean, spread), len(planes))


def _middle(plane: F32Array, side: int) -> F32Array:
    top, left = (max(0, n - side) // 2 for n in plane.shape[1:])
    return plane[:, top : top + side, left : left + side]


def _gain(networks: Networks, crops: Sequence[F32Array], spread: F64Array, rate: ProgressBar) -> F64Array:
    """Return the mean gain of crops of latents."""
    rng = np.random.default_rng(2)
    gains = np.zeros((len(crops), len(spread)))
    for number, latents in enumerate(crops):
        exact = networks.decode(latents)
        for channel, sigma in enumerate(PROBE * spread):
            rate(number * len(spread) + channel, gains.size, "channels probed")
            disturbed = latents.copy()
            noise = rng.uniform(-1, 1, latents.shape[1:]) * sigma * np.sqrt(3)
            disturbed[channel] += noise.astype(np.float32)
            gains[number, channel] = np.mean((networks.decode(disturbed) - exact) ** 2) / np.mean(noise**2)
    return np.asarray(gains.mean(0))


def _offset(values: F64Array, mean: F64Array, spread: F64Array) -> F64Array:
    """Return how far towards zero, in steps, the centroid of a symbol's latents lies."""
    magnitude = np.abs(values - mean[:, None]) / (spread[:, None] * OFFSET_STEP)
    symbols = np.floor(magnitude + 0.5 - DEAD_ZONE)
    coded = symbols > 0
    offset = ((symbols - magnitude) * coded).sum(1) / np.maximum(coded.sum(1), 1)
    return np.asarray(np.clip(offset, -MAX_OFFSET, MAX_OFFSET))


def profile_fields(statistics: Statistics, latent_space: str, downscale: int) -> dict[str, Any]:
    """Return the fields of a profile's JSON file, vectors to the 7 digits that float32 holds.

    Steps are inverse to the root of the decoder's gain, which at high rate gives least error for the bits (Gersho &
    Gray, "F64Array Quantization and Signal Compression", 1992, section 8.3); their geometric mean is the spread.
    """
    weight = 1 / (np.sqrt(np.maximum(statistics.gain, 1e-6 * statistics.gain.max())) * statistics.spread)
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
    """Return in what measured latents differ from their profile's, None if they agree."""
    if len(statistics.mean) != profile.channels:
        return f"latents have {len(statistics.mean)} channels, those of {profile.latent_space} {profile.channels}"
    distance = np.abs(statistics.mean - profile.mean) / profile.spread
    ratio = statistics.spread / profile.spread
    wrong = (distance > MEAN_TOLERANCE) | (ratio > SPREAD_TOLERANCE) | (ratio < 1 / SPREAD_TOLERANCE)
    if not wrong.any():
        return None
    channel = int(np.argmax(np.maximum(distance / MEAN_TOLERANCE, np.abs(np.log(ratio)) / np.log(SPREAD_TOLERANCE))))
    return (
        f"latents do not look like {profile.latent_space}: channel {channel} has mean {statistics.mean[channel]:.3g} "
        f"and spread {statistics.spread[channel]:.3g}, expected {profile.mean[channel]:.3g} and "
        f"{profile.spread[channel]:.3g}; is the latent space or the scale another?"
    )
