"""The encoder's side of layers: latents of what networks are good at, an overlay and a residual for the rest."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.coding.latent_file import SymbolSearch, encode_latents_to_file
from sdtrt.engine.coding.quality_scale import (
    KNEE,
    QUALITY_PER_LAMBDA_HALVING,
    RESIDUAL_LAMBDA,
    RESIDUAL_START,
    STEP_UNIT,
    operating_point,
    quality_for_weight,
    vivid_weight,
)
from sdtrt.engine.coding.rate_control import MIN_QUALITY, EncodeOptions
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.format import container, webp_lossless
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Span, pixel_tiles
from sdtrt.engine.format.limits import UNLIMITED
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.engine.image import ImageData, luma, psnr
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import block_grid, forward_dct
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.layers.overlay import choose_overlay, inpaint_covered
from sdtrt.kernels.reference import BLOCK

MAX_STEP = (1 << 16) - 1
RESIDUAL_SEARCH_EFFORT, LATENT_QUALITY_OFFSETS = (
    6,
    (-12.0, 12.0),
)  # from which other qualities of latents are tried, and which
SMALL_RESIDUAL_SHARE = 1 / 3  # of a file: a residual as small may be worth less than finer latents instead of it


class Networks(NamedTuple):
    """The networks' part."""

    analyse: Callable[[U8Array], F32Array]  # from pixels to latents
    show: Callable[[File], U8Array]  # from a file to what networks make of its latents
    search: Callable[[U8Array, F32Array, int, float], SymbolSearch | None]  # arguments as of `PictureCodec.search`


class NetworkInput(NamedTuple):
    """What networks see of a picture, and its latents: without what the overlay holds, uint8 (H, W, 4), if any."""

    pixels: U8Array
    latents: F32Array
    overlay: U8Array | None


def overlay_if_useful(picture: ImageData, options: EncodeOptions, quality: float) -> U8Array | None:
    """Return the overlay of a picture at a quality, None if it is better off without."""
    return (
        choose_overlay(picture.pixels, operating_point(quality, layers=2).lmbda)
        if options.layers == 2 and options.method == "latents"
        else None
    )


def network_pixels(pixels: U8Array, overlay: U8Array | None) -> U8Array:
    """Return the pixels that networks are to see."""
    return pixels if overlay is None else inpaint_covered(pixels, overlay)


class ImageEncoder:
    """A picture that is coded at one quality after the other.

    `seen` is what networks saw at the wish's `first_quality`; `parts` are passed on to `encode_latents_to_file`.
    """

    def __init__(
        self,
        picture: ImageData,
        options: EncodeOptions,
        profile: LatentProfile,
        networks: Networks,
        seen: NetworkInput,
        roi: RoiWeights | None,
        parts: dict[str, Any],
    ) -> None:
        self._picture, self._options, self._profile, self._parts = picture, options, profile, parts
        self._networks, self._roi = networks, roi
        self._seen = {lambda_octave(options.first_quality): seen}
        self._networks_pictures: dict[tuple[object, ...], U8Array] = {}  # of the file that was asked for last
        self.height, self.width = picture.pixels.shape[:2]

    def file(self, quality: float) -> bytes:
        """Return the picture's file at a quality, by latents alone where no residual is worth its bits."""
        self._networks_pictures.clear()
        finest = self._finest(quality)
        files = self._with_residuals(finest, quality) if self._has_residual(quality) else []
        thorough = self._options.effort >= RESIDUAL_SEARCH_EFFORT
        if not files or thorough or (finest > KNEE and min(map(residual_share, files)) < SMALL_RESIDUAL_SHARE):
            files.append(self._without_residual(finest, quality))
        written = [container.write(file) for file in files]
        if len(files) == 1:
            return written[0]
        lmbda = operating_point(finest, layers=self._options.layers).lmbda
        costs = [self._cost(file, len(data), lmbda) for file, data in zip(files, written, strict=True)]
        return written[costs.index(min(costs))]

    def measure(self, data: bytes) -> float:
        """Return the PSNR of a file's picture, in dB; of a grey one that of its brightness."""
        return psnr_of(self._picture, self._shown(container.read(data, UNLIMITED)))

    def _has_residual(self, quality: float) -> bool:
        overlay = self._seen_at(quality).overlay
        hidden = overlay is not None and overlay[:, :, 3].all()
        return self._options.layers == 2 and self._finest(quality) > RESIDUAL_START and not hidden

    def _finest(self, quality: float) -> float:
        """Return the quality of what counts most, of which the steps are."""
        return quality_for_weight(quality, self._roi.largest, layers=self._options.layers) if self._roi else quality

    def _with_residuals(self, finest: float, quality: float) -> list[File]:
        """Return the file of a quality, and with effort of others of latents, if they have a residual."""
        known = operating_point(finest, layers=self._options.layers)
        step = min(max(round(STEP_UNIT * known.residual_step), 1), MAX_STEP)
        tried = (0.0, *LATENT_QUALITY_OFFSETS) if self._options.effort >= RESIDUAL_SEARCH_EFFORT else (0.0,)
        files = [self._without_residual(known.latent_quality + more, quality, beside=step) for more in tried]
        layered = [self._with_residual(file, step, self._seen_at(quality).overlay) for file in files]
        return [file for file in layered if file.layout.residual_step]

    def _without_residual(self, latents: float, quality: float, beside: int = 0) -> File:
        """Return the file of a quality of latents, with the overlay of another one.

        `beside` is the step of the residual that it will have, 0 for none.
        """
        seen, rate_weight = self._seen_at(quality), self._latents_price(quality)
        hidden = seen.overlay is not None and seen.overlay[:, :, 3].all()
        code = self._profile.step_code(MIN_QUALITY if hidden else latents)
        search = None
        if not hidden:  # a residual brings lost structure back
            search = self._networks.search(seen.pixels, seen.latents, self._options.effort, vivid_weight(beside))
        parts = self._parts | {"rate_weight": rate_weight, "search": search}
        file = encode_latents_to_file(seen.latents, self.width, self.height, self._profile, code, **parts)
        if seen.overlay is None:
            return file
        return with_segments(file, "overlay", self._overlay_segments(file, seen.overlay), overlay=True)

    def _cost(self, file: File, nbytes: int, lmbda: float) -> float:
        """Return what a file of a size costs: squared error, by how much it counts where, and bits at their price."""
        wanted, shown = self._picture.pixels, self._shown(file)
        if self._picture.grey:
            wanted, shown = (np.repeat(luma(pixels)[:, :, None], 3, axis=2) for pixels in (wanted, shown))
        error = np.square(wanted.astype(np.float32) - shown).sum(2)
        if self._roi:
            error *= self._roi.weights / np.float32(self._roi.largest)
        return float(error.sum(dtype=np.float64)) + lmbda * 8 * nbytes

    def _with_residual(self, file: File, step: int, overlay: U8Array | None) -> File:
        shown = self._networks_picture(file)
        if self._picture.grey:
            residual = np.repeat(self._picture.pixels[:, :, :1].astype(np.int16) - luma(shown)[:, :, None], 3, axis=2)
        else:
            residual = self._picture.pixels.astype(np.int16) - shown
        if overlay is not None:
            residual[overlay[:, :, 3] == webp_lossless.OPAQUE] = 0
        places = self._places(file)
        segments = [
            residual_codec.encode_residual(
                forward_dct(residual[slice(*down), slice(*across)]), step, self._price(down, across)
            )
            for down, across in places
        ]
        return with_segments(file, "residual", segments, residual_step=step) if any(segments) else file

    def _latents_price(self, quality: float) -> F32Array | None:
        """Return by how much dearer a bit of each latent is than where interest is greatest; None if of none.

        By less than the weights tell, where steps of latents are finer by less than those would ask for.
        """
        if self._roi is None or self._roi.is_uniform:
            return None
        ends = (self._finest(quality), quality)
        finest, usual = (operating_point(one, layers=self._options.layers).latent_quality for one in ends)
        octaves = (finest - usual) / QUALITY_PER_LAMBDA_HALVING
        return self._roi.rate_weights(self._profile.downscale) ** np.float32(octaves / math.log2(self._roi.largest))

    def _price(self, down: Span, across: Span) -> F32Array | float:
        """Return what a bit may cost in each block of a tile, in squared steps."""
        if self._roi is None or self._roi.is_uniform:
            return RESIDUAL_LAMBDA
        rate_weights = self._roi.rate_weights(BLOCK)
        rows, columns = block_grid(down[1] - down[0], across[1] - across[0])
        at = np.minimum(down[0] // BLOCK + np.arange(rows), rate_weights.shape[0] - 1)
        beside = np.minimum(across[0] // BLOCK + np.arange(columns), rate_weights.shape[1] - 1)
        return np.float32(RESIDUAL_LAMBDA) * rate_weights[np.ix_(at, beside)]

    def _overlay_segments(self, file: File, overlay: U8Array) -> list[bytes]:
        parts = [overlay[slice(*down), slice(*across)] for down, across in self._places(file)]
        return [webp_lossless.encode_rgba(part) if part[:, :, 3].any() else b"" for part in parts]

    def _places(self, file: File) -> list[tuple[Span, Span]]:
        return pixel_tiles(self.width, self.height, self._profile.downscale, file.layout)

    def _shown(self, file: File) -> U8Array:
        return LayerReader(file).apply(self._networks_picture(file).copy())

    def _networks_picture(self, file: File) -> U8Array:
        """Return what networks make of a file's latents, which are shown once whatever lies over them."""
        latents = file.segments[: file.layout.levels * file.layout.num_tiles]
        key = (file.header.step_code, *latents)
        if key not in self._networks_pictures:
            self._networks_pictures[key] = self._networks.show(file)
        return self._networks_pictures[key]

    def _seen_at(self, quality: float) -> NetworkInput:
        """Return what networks see at a quality, looked at anew if bits cost much more or less than before."""
        octave = lambda_octave(quality)
        if octave not in self._seen:
            overlay = overlay_if_useful(self._picture, self._options, quality)
            alike = next((s for s in self._seen.values() if s.overlay is None and overlay is None), None)
            pixels = network_pixels(self._picture.pixels, overlay)
            self._seen[octave] = alike or NetworkInput(pixels, self._networks.analyse(pixels), overlay)
        return self._seen[octave]


def lambda_octave(quality: float) -> int:
    """Return in which octave the price of a bit lies at a quality."""
    return round(math.log2(operating_point(quality, layers=2).lmbda))


def residual_share(file: File) -> float:
    """Return the share of a file's bytes that its residual takes."""
    residual = sum(len(file.segment("residual", tile)) for tile in range(file.layout.num_tiles))
    return residual / sum(map(len, file.segments))


def with_segments(file: File, kind: str, segments: list[bytes], **changes: Any) -> File:
    """Return a file with segments of one more kind, which `changes` of its layout stand for."""
    layout = replace(file.layout, **changes)
    first = layout.segment_index(kind, 0)
    return replace(file, segments=[*file.segments[:first], *segments, *file.segments[first:]], layout=layout)


def psnr_of(picture: ImageData, pixels: U8Array) -> float:
    """Return the PSNR in dB of what is shown of a picture, of a grey one that of its brightness."""
    return psnr(luma(picture.pixels), luma(pixels)) if picture.grey else psnr(picture.pixels, pixels)
