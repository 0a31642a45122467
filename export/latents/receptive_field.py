"""The receptive radius of a bundle's networks, in latents: measured by perturbing inputs, verified by cutting tiles.

One column of latents in a strip, or of the pixels of these latents, is perturbed. The output changes within the
receptive radius; the comparison is exact because equal shapes give equal bits. NaN is the best perturbation: it passes
weights of 0, inactive units and rounding. In case an operation removes NaN, large, medium and small numbers are tried
as well. Then strips are cut into the engine's tiles, which must reproduce the uncut strip. This check also detects
networks that depend on positions or on a grid coarser than latents.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.networks.backends import Network
from sdtrt.engine.networks.tiling import CUT_TILE, Tiling
from sdtrt.errors import BundleError
from sdtrt.export.latents.sample_images import synthetic_image
from sdtrt.export.latents.statistics import CodecPair
from sdtrt.kernels import reference

STRIP_HEIGHT = 4  # latents, the short side of strips
CROSS_FADED = "tiles of large images are cross-faded"
PERTURBATIONS = (1e20, 3.0, 0.1)  # sizes, tried after NaN

Inputs = Callable[[int], tuple[F32Array, F32Array]]


@dataclass(frozen=True, slots=True)
class StripNetwork:
    """A network on strips of n latents: float32 (C, 4 * before, n * before) to (D, 4 * after, n * after).

    Attributes:
        name: Name for messages.
        network: The network.
        source: Name of its input.
        target: Name of its output.
        inputs: Returns two input strips of n latents: of an image, and of noise.
        before: Input pixels for each latent, 1 if the input is latents.
        after: Output pixels for each latent, 1 if the output is latents.
        step: The input `step` of decoders that take it, else empty.
        transposed: Whether the network gets vertical strips.
    """

    name: str
    network: Network
    source: str
    target: str
    inputs: Inputs
    before: int
    after: int
    step: Mapping[str, F32Array]
    transposed: bool

    def run(self, planes: F32Array) -> F32Array:
        """Return the output for a strip; `BundleError` if the network fails or the output has another size."""
        strip = planes.swapaxes(1, 2) if self.transposed else planes
        output = self.network.run({self.source: np.ascontiguousarray(strip)[None], **self.step})[self.target][0]
        height, width = (length // self.before * self.after for length in strip.shape[1:])
        if output.shape[1:] != (height, width):
            raise BundleError(f"{self.source} {strip.shape} became {output.shape}, expected {width}x{height}")
        return output.swapaxes(1, 2) if self.transposed else output


def measure_receptive_radius(pair: CodecPair, others: Mapping[str, Network] | None = None) -> tuple[int | None, str]:
    """Return the manifest's field `reach`, and a message.

    The reach is the largest receptive radius of the networks, in latents. It is None if it exceeds the overlap of tiles
    of the usual size, if tiles do not reproduce the whole image, or if a network fails on the strips.

    Arguments:
        pair: The encoder and the decoder.
        others: Decoders of the same latents for other looks, by look.
    """
    farthest = CUT_TILE // (6 * pair.downscale)
    reach = 0
    try:
        for strip_network in _strip_networks(pair, others):
            radius = strip_radius(strip_network, farthest)
            if radius is None:
                text = f"more than {farthest} latents, perhaps the whole image"
                return None, f"the {strip_network.name}'s receptive radius is {text}: {CROSS_FADED}"
            reach = max(reach, radius)
        for strip_network in _strip_networks(pair, others):
            difference = seam_error(strip_network, reach)
            if difference != 0:  # the engine promises equal bits, so even rounding must not differ
                change = f"tiles change the {strip_network.name}'s output by {difference:.2g} of its root mean square"
                return None, f"{change}: {CROSS_FADED}"
    except BundleError as error:
        return None, f"the receptive radius could not be measured, so {CROSS_FADED}: {error}"
    return reach, f"receptive radius {reach} latents: tiles of large images are exact"


def strip_radius(strip_network: StripNetwork, farthest: int) -> int | None:
    """Return a network's receptive radius along strips, in latents; None if it exceeds `farthest`."""
    far = 2 * farthest  # dilated convolutions have gaps: a far perturbation may be visible where a near one is not
    reach = _visible_distance(strip_network, far, (np.nan,), kinds=1)
    if reach <= farthest and _visible_distance(strip_network, reach + 1, PERTURBATIONS) > reach:
        reach = _visible_distance(strip_network, far, PERTURBATIONS)
    return reach if reach <= farthest else None


def _visible_distance(strip_network: StripNetwork, most: int, sizes: Sequence[float], kinds: int = 2) -> int:
    """Return the largest distance, up to `most` latents, at which a perturbation of a strip's middle is visible."""
    rng = np.random.default_rng(5)
    distance = 0
    for planes in strip_network.inputs(2 * most + 1)[:kinds]:
        expected = strip_network.run(planes)
        middle = slice(most * strip_network.before, (most + 1) * strip_network.before)
        for size in sizes:
            changed = planes.copy()
            changed[:, :, middle] += np.float32(size) * rng.standard_normal(changed[:, :, middle].shape, np.float32)
            differs = (strip_network.run(changed) != expected).any((0, 1)).reshape(-1, strip_network.after).any(1)
            distance = max(distance, *abs(np.flatnonzero(differs) - most).tolist(), 0)
    return distance


def seam_error(strip_network: StripNetwork, reach: int) -> float:
    """Return the largest difference between a strip cut into three tiles and the uncut strip.

    The unit is the root mean square of the uncut strip's output.
    """
    tiling = Tiling(max(6 * reach, STRIP_HEIGHT), 2 * reach, cut=True)
    length = 2 * (tiling.tile - reach) + 1
    while gcd(*(start for start, _ in tiling.spans(length))) > 1:  # else a coarser grid could match all tiles
        length += 1
    planes, _ = strip_network.inputs(length)
    uncut = strip_network.run(planes)
    bands = tiling.bands(
        STRIP_HEIGHT,
        length,
        lambda rows, columns: strip_network.run(
            planes[:, :, strip_network.before * columns[0] : strip_network.before * columns[1]]
        ),
        scale=strip_network.after,
    )
    joined = np.concatenate([band for _, band in bands], axis=1)
    return float(abs(joined - uncut).max() / max(np.sqrt(np.mean(uncut**2)), np.finfo(np.float32).tiny))


def _strip_networks(pair: CodecPair, others: Mapping[str, Network] | None) -> Iterator[StripNetwork]:
    """Yield all networks, on horizontal and then on vertical strips."""
    scale = pair.downscale
    step = {"step": np.ones(1, np.float32)} if pair.takes_step else {}
    decoders = {"decoder": pair.decoder} | {f"{look} decoder": network for look, network in (others or {}).items()}
    pixels = partial(_pixel_strips, pair)
    for transposed in (False, True):
        encoder = StripNetwork("encoder", pair.encoder, "pixels", "latents", pixels, scale, 1, {}, transposed)
        yield encoder
        for name, decoder in decoders.items():
            yield StripNetwork(
                name, decoder, "latents", "pixels", partial(_latent_strips, encoder), 1, scale, step, transposed
            )


def _pixel_strips(pair: CodecPair, count: int) -> tuple[F32Array, F32Array]:
    scale = pair.downscale
    height, width = STRIP_HEIGHT * scale, count * scale
    noise = np.random.default_rng(6).integers(0, 256, (height, width, 3), np.uint8)
    image, noise_planes = (
        reference.pixels_to_planes(pixels, scale, pair.low, pair.high)
        for pixels in (synthetic_image(width, height), noise)
    )
    return image, noise_planes


def _latent_strips(encoder: StripNetwork, count: int) -> tuple[F32Array, F32Array]:
    latents = encoder.run(encoder.inputs(count)[0])
    return latents, np.random.default_rng(7).standard_normal(latents.shape, np.float32)
