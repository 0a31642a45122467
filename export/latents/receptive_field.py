"""A bundle's reach: how many latents away its networks look, found by changing their input, proved by cutting it.

One column of latents in a strip, or of the pixels that they stand for, is changed: it is seen as far as the output
changes at all, which is exact since equal shapes give equal bits. NaN is the change that hides nowhere: it stays NaN
times a weight of 0, in a dead unit, and far below what rounding takes away. Should an operation swallow it, huge, plain
and small numbers are there as well. Then strips are cut into the engine's own tiles, which must give the whole again:
that also sees networks that look no farther, but on a grid coarser than latents, or at positions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.networks.backends import Network
from sdtrt.engine.networks.tiles import CUT_TILE, Tiling
from sdtrt.errors import BundleError
from sdtrt.export.latents.sample_images import synthetic_image
from sdtrt.export.latents.statistics import CodecPair
from sdtrt.kernels import reference

STRIP_HEIGHT = 4  # latents, the short side of strips
PERTURBATIONS = (1e20, 3.0, 0.1)  # sizes of changes beside NaN

Inputs = Callable[[int], tuple[F32Array, F32Array]]


@dataclass(frozen=True, slots=True)
class StripNetwork:
    """A network along strips of n latents: float32 (C, 4 * before, n * before) to (D, 4 * after, n * after).

    `inputs` gives two such strips for n: of an image, and of noise. If `transposed`, strips are upright to the network.
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
        """Return what the network makes of a strip; `BundleError` if it fails, or the size is another."""
        given = planes.swapaxes(1, 2) if self.transposed else planes
        found = self.network.run({self.source: np.ascontiguousarray(given)[None], **self.step})[self.target][0]
        height, width = (length // self.before * self.after for length in given.shape[1:])
        if found.shape[1:] != (height, width):
            raise BundleError(f"{self.source} {given.shape} became {found.shape}, expected {width}x{height}")
        return found.swapaxes(1, 2) if self.transposed else found


def measure_receptive_radius(pair: CodecPair, vivid: Network | None = None) -> tuple[int | None, str]:
    """Return a manifest's `reach` and, in words, what it means; None if tiles cut by it would not give the whole.

    That is the reach of the encoder and of all decoders, `vivid` being another one of the same latents. It is None,
    too, beyond what tiles of the usual size can overlap by, and for networks that fail on the strips they are tried on.
    """
    farthest = CUT_TILE // (6 * pair.downscale)
    reach = 0
    try:
        for strip_network in _strip_networks(pair, vivid):
            found = strip_radius(strip_network, farthest)
            if found is None:
                far = f"farther than {farthest} latents, perhaps at the whole image"
                return None, f"the {strip_network.name} looks {far}: tiles of large images fade into each other"
            reach = max(reach, found)
        for strip_network in _strip_networks(pair, vivid):
            difference = seam_error(strip_network, reach)
            if difference != 0:  # the engine promises the very bits, so not even rounding may differ
                other = f"cut into tiles, the {strip_network.name} gives values that differ by {difference:.2g} of their size"
                return None, f"{other}: tiles of large images fade into each other"
    except BundleError as error:
        return None, f"how far the networks look is not known, so tiles of large images fade into each other: {error}"
    return reach, f"reach {reach} latents: tiles of large images are exact"


def strip_radius(strip_network: StripNetwork, farthest: int) -> int | None:
    """Return how many latents away a network looks along strips; None if more than `farthest`."""
    far = 2 * farthest  # dilated convolutions leave gaps: what is near may not be seen, but what is farther
    reach = _visible_distance(strip_network, far, (np.nan,), kinds=1)
    if reach <= farthest and _visible_distance(strip_network, reach + 1, PERTURBATIONS) > reach:
        reach = _visible_distance(strip_network, far, PERTURBATIONS)
    return reach if reach <= farthest else None


def _visible_distance(strip_network: StripNetwork, most: int, sizes: Sequence[float], kinds: int = 2) -> int:
    """Return at how many latents' distance, up to `most`, changes of a strip's middle are seen."""
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
    """Return by how much a strip of three tiles differs from the whole at most, in parts of its root mean square."""
    tiling = Tiling(max(6 * reach, STRIP_HEIGHT), 2 * reach, cut=True)
    length = 2 * (tiling.tile - reach) + 1
    while gcd(*(start for start, _ in tiling.spans(length))) > 1:  # a coarser grid could fit all tiles
        length += 1
    planes, _ = strip_network.inputs(length)
    whole = strip_network.run(planes)
    bands = tiling.bands(
        STRIP_HEIGHT,
        length,
        lambda rows, columns: strip_network.run(
            planes[:, :, strip_network.before * columns[0] : strip_network.before * columns[1]]
        ),
        scale=strip_network.after,
    )
    found = np.concatenate([band for _, band in bands], axis=1)
    return float(abs(found - whole).max() / max(np.sqrt(np.mean(whole**2)), np.finfo(np.float32).tiny))


def _strip_networks(pair: CodecPair, vivid: Network | None) -> Iterator[StripNetwork]:
    """Yield all networks, along rows and along columns."""
    scale = pair.downscale
    step = {"step": np.ones(1, np.float32)} if pair.takes_step else {}
    decoders = {"decoder": pair.decoder} | ({"vivid decoder": vivid} if vivid else {})
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
