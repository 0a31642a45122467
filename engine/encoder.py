"""The encoder: from an image and options to a file.

A file has latents, coded for what the networks reproduce well. Two layers correct the output of the networks: an
overlay for text and line art, and a residual for fine detail. The encoder chooses the layers that lower D + lambda R.
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.latent_file import (
    SymbolSearch,
    TileCodingOptions,
    alpha_segments,
    encode_latents_to_file,
    encode_palette_file,
)
from sdtrt.engine.coding.quality_scale import (
    KNEE,
    QUALITY_PER_LAMBDA_HALVING,
    RESIDUAL_LAMBDA,
    RESIDUAL_START,
    STEP_UNIT,
    operating_point,
    quality_for_weight,
    structure_weight,
)
from sdtrt.engine.coding.rate_control import MIN_QUALITY, encode_to_target
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.format import container, metadata, webp_lossless
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Span, pixel_tiles
from sdtrt.engine.format.limits import UNLIMITED
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.engine.image import ImageData, luma, psnr
from sdtrt.engine.layers import residual_codec
from sdtrt.engine.layers.dct import block_grid, forward_dct
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.layers.overlay import choose_overlay, inpaint_covered
from sdtrt.kernels import core
from sdtrt.kernels.reference import BLOCK
from sdtrt.process.threads import parallel_map

MAX_STEP = (1 << 16) - 1  # of a residual, in 1/16 of an 8-bit value
RESIDUAL_SEARCH_EFFORT = 6  # from this effort on other latent qualities are tried under a residual
LATENT_QUALITY_OFFSETS = (-12.0, 12.0)  # these ones
SMALL_RESIDUAL_SHARE = 1 / 3  # of a file: finer latents may be better than so small a residual


class Autoencoder(Protocol):
    """The part of `EngineCodec` that an encoder needs."""

    @property
    def profile(self) -> LatentProfile: ...

    def analyse(self, pixels: U8Array) -> F32Array: ...

    def reconstruct(self, file: File) -> U8Array: ...

    def symbol_search(
        self, pixels: U8Array, latents: F32Array, effort: int, structure: float
    ) -> SymbolSearch | None: ...


class NetworkInput(NamedTuple):
    """The input of the encoder network, and its output.

    Attributes:
        pixels: uint8 (H, W, 3); the pixels under the overlay are inpainted.
        latents: float32 (C, h, w).
        overlay: uint8 (H, W, 4), or None.
    """

    pixels: U8Array
    latents: F32Array
    overlay: U8Array | None

    @property
    def is_hidden(self) -> bool:
        """Whether the overlay covers the whole image."""
        return self.overlay is not None and bool(self.overlay[:, :, 3].all())


def encode_image(
    codec: Autoencoder,
    image: ImageData,
    options: EncodeOptions,
    roi: RoiWeights | None = None,
    analysed: NetworkInput | None = None,
) -> bytes:
    """Encode an image.

    Arguments:
        codec: the networks and their latent profile.
        image: the image.
        options: rate target, effort, method, layers.
        roi: weights of the squared error; None without a region of interest.
        analysed: the input and output of the encoder network, if it has run already.

    Raises:
        ValueError: if no file is as small or as good as the rate target.
    """
    if analysed is None:
        overlay = overlay_if_useful(image, options, options.first_quality)
        pixels = network_pixels(image.pixels, overlay)
        analysed = NetworkInput(pixels, codec.analyse(pixels), overlay)
    height, width = image.pixels.shape[:2]
    if options.method == "palette":
        file = encode_palette_file(
            analysed.latents,
            width,
            height,
            codec.profile,
            grey=image.grey,
            alpha=alpha_segments(image.alpha, codec.profile, divided=False),
            chunks=metadata.to_chunks(image.metadata),
        )
        return container.write(file)
    encoder = ImageEncoder(codec, image, options, roi, analysed)
    return encode_to_target(options, width, height, encoder.encode_at, encoder.psnr_of_file)


def encode_latents(latents: F32Array, width: int, height: int, profile: LatentProfile, options: EncodeOptions) -> bytes:
    """Encode latents that come without an image.

    Arguments:
        latents: float32 (C, h, w) at unit scale.
        width, height: size of the image in pixels.
        profile: latent profile to quantize with.
        options: rate target, effort, method; the layers are those of images, and ignored.

    Raises:
        ValueError: if no file is as small as the rate target, a PSNR is asked for, or the latents are unfit as in
            `encode_latents_to_file`.
    """
    if options.method == "palette":
        return container.write(encode_palette_file(latents, width, height, profile))
    coding = TileCodingOptions(effort=options.effort)

    def encode_at(quality: float) -> bytes:
        file = encode_latents_to_file(latents, width, height, profile, profile.step_code(quality), coding)
        return container.write(file)

    return encode_to_target(options, width, height, encode_at, None)


def overlay_if_useful(image: ImageData, options: EncodeOptions, quality: float) -> U8Array | None:
    """Choose the overlay of an image at a quality, uint8 (H, W, 4); None if the image is better without."""
    if options.layers == 1 or options.method == "palette":
        return None
    return choose_overlay(image.pixels, operating_point(quality, layers=2).lmbda)


def network_pixels(pixels: U8Array, overlay: U8Array | None) -> U8Array:
    """Return the pixels for the encoder network: those under the overlay are inpainted."""
    return pixels if overlay is None else inpaint_covered(pixels, overlay)


class ImageEncoder:
    """Encodes one image at several qualities.

    The encoder network runs once per overlay, the decoder network once per set of latents.
    """

    def __init__(
        self,
        codec: Autoencoder,
        image: ImageData,
        options: EncodeOptions,
        roi: RoiWeights | None,
        analysed: NetworkInput,
    ) -> None:
        self._codec, self._image, self._options, self._roi = codec, image, options, roi
        self._profile = codec.profile
        self._alpha = None if image.alpha is None else alpha_segments(image.alpha, codec.profile)
        self._chunks = {} if image.metadata is metadata.NO_METADATA else metadata.to_chunks(image.metadata)
        self._inputs = {lambda_octave(options.first_quality): analysed}
        self._reconstructions: dict[tuple[object, ...], U8Array] = {}  # of the quality that was asked for last
        self.height, self.width = image.pixels.shape[:2]

    def encode_at(self, quality: float) -> bytes:
        """Encode at a quality. A residual is kept only if it lowers D + lambda R."""
        self._reconstructions.clear()
        roi_quality = self._roi_quality(quality)
        files = self._residual_candidates(roi_quality, quality) if self._may_have_residual(quality) else []
        is_thorough = self._options.effort >= RESIDUAL_SEARCH_EFFORT
        has_small_residual = roi_quality > KNEE and min(map(residual_share, files), default=1) < SMALL_RESIDUAL_SHARE
        if not files or is_thorough or has_small_residual:
            files.append(self._encode_latents(roi_quality, quality))
        written = [container.write(file) for file in files]
        if len(files) == 1:
            return written[0]
        lmbda = operating_point(roi_quality, layers=self._options.layers).lmbda
        costs = [self._rd_cost(file, len(data), lmbda) for file, data in zip(files, written, strict=True)]
        return written[costs.index(min(costs))]

    def psnr_of_file(self, data: bytes) -> float:
        """Return the PSNR of a file's image in dB, for grey images that of luma."""
        return psnr_of(self._image, self._decode(container.read(data, UNLIMITED)))

    def _may_have_residual(self, quality: float) -> bool:
        is_fine = self._roi_quality(quality) > RESIDUAL_START
        return self._options.layers == 2 and is_fine and not self._network_input_at(quality).is_hidden

    def _roi_quality(self, quality: float) -> float:
        """Return the quality of the region with the largest ROI weight, which the quantization steps are for."""
        if self._roi is None:
            return quality
        return quality_for_weight(quality, self._roi.largest, layers=self._options.layers)

    def _residual_candidates(self, roi_quality: float, quality: float) -> list[File]:
        """Encode with a residual over latents of one quality, with more effort over latents of several."""
        point = operating_point(roi_quality, layers=self._options.layers)
        residual_step = min(max(round(STEP_UNIT * point.residual_step), 1), MAX_STEP)
        offsets = (0.0, *LATENT_QUALITY_OFFSETS) if self._options.effort >= RESIDUAL_SEARCH_EFFORT else (0.0,)
        files = [self._encode_latents(point.latent_quality + offset, quality, residual_step) for offset in offsets]
        overlay = self._network_input_at(quality).overlay
        layered = [self._add_residual(file, residual_step, overlay) for file in files]
        return [file for file in layered if file.layout.residual_step]

    def _encode_latents(self, latent_quality: float, quality: float, residual_step: int = 0) -> File:
        """Encode latents and overlay, without a residual.

        Arguments:
            latent_quality: quality of the latents.
            quality: quality of the overlay and the ROI.
            residual_step: step of the residual that will be added, 0 for none.
        """
        analysed, search = self._network_input_at(quality), None
        code = self._profile.step_code(MIN_QUALITY if analysed.is_hidden else latent_quality)
        if not analysed.is_hidden:
            structure = structure_weight(residual_step)
            effort = self._options.effort
            search = self._codec.symbol_search(analysed.pixels, analysed.latents, effort, structure)
        options = TileCodingOptions(
            effort=self._options.effort, rate_weight=self._latent_rate_weights(quality), search=search
        )
        file = encode_latents_to_file(
            analysed.latents,
            self.width,
            self.height,
            self._profile,
            code,
            options,
            grey=self._image.grey,
            alpha=self._alpha,
            chunks=self._chunks,
        )
        if analysed.overlay is None:
            return file
        return with_segments(file, "overlay", self._overlay_segments(file, analysed.overlay), overlay=True)

    def _rd_cost(self, file: File, nbytes: int, lmbda: float) -> float:
        """Compute D + lambda R of a file: D is the squared 8-bit error, weighted by the ROI, R the bits."""
        original, decoded = self._image.pixels, self._decode(file)
        if self._image.grey:
            original, decoded = (np.repeat(luma(pixels)[:, :, None], 3, axis=2) for pixels in (original, decoded))
        error = np.square(original.astype(np.float32) - decoded).sum(2)
        if self._roi:
            error *= self._roi.weights / np.float32(self._roi.largest)
        return float(error.sum(dtype=np.float64)) + lmbda * 8 * nbytes

    def _add_residual(self, file: File, residual_step: int, overlay: U8Array | None) -> File:
        reconstruction = self._reconstruction(file)
        if self._image.grey:
            difference = self._image.pixels[:, :, :1].astype(np.int16) - luma(reconstruction)[:, :, None]
            residual = np.repeat(difference, 3, axis=2)
        else:
            residual = self._image.pixels.astype(np.int16) - reconstruction
        if overlay is not None:
            residual[overlay[:, :, 3] == webp_lossless.OPAQUE] = 0

        def encode_tile(place: tuple[Span, Span]) -> bytes:
            rows, columns = place
            coefficients = forward_dct(residual[slice(*rows), slice(*columns)])
            return residual_codec.encode_residual(coefficients, residual_step, self._block_lambdas(rows, columns))

        segments = parallel_map(encode_tile, self._pixel_tiles(file), core.threads_over_tiles())
        return with_segments(file, "residual", segments, residual_step=residual_step) if any(segments) else file

    def _latent_rate_weights(self, quality: float) -> F32Array | None:
        """Compute the factor of lambda for each latent, 1 where the ROI weight is largest; None without an ROI.

        The factors are closer to 1 than the ROI weights, because the step of latents changes less with quality than
        lambda does.
        """
        if self._roi is None or self._roi.is_uniform:
            return None
        layers = self._options.layers
        roi_point, point = (operating_point(q, layers=layers) for q in (self._roi_quality(quality), quality))
        halvings = (roi_point.latent_quality - point.latent_quality) / QUALITY_PER_LAMBDA_HALVING
        exponent = np.float32(halvings / math.log2(self._roi.largest))
        weights: F32Array = self._roi.rate_weights(self._profile.downscale) ** exponent
        return weights

    def _block_lambdas(self, rows: Span, columns: Span) -> F32Array | float:
        """Return lambda for each 8x8 block of a tile, in squared residual steps per bit."""
        if self._roi is None or self._roi.is_uniform:
            return RESIDUAL_LAMBDA
        rate_weights = self._roi.rate_weights(BLOCK)
        down, across = block_grid(rows[1] - rows[0], columns[1] - columns[0])
        y = np.minimum(rows[0] // BLOCK + np.arange(down), rate_weights.shape[0] - 1)
        x = np.minimum(columns[0] // BLOCK + np.arange(across), rate_weights.shape[1] - 1)
        return np.float32(RESIDUAL_LAMBDA) * rate_weights[np.ix_(y, x)]

    def _overlay_segments(self, file: File, overlay: U8Array) -> list[bytes]:
        tiles = [overlay[slice(*rows), slice(*columns)] for rows, columns in self._pixel_tiles(file)]
        return [webp_lossless.encode_rgba(tile) if tile[:, :, 3].any() else b"" for tile in tiles]

    def _pixel_tiles(self, file: File) -> list[tuple[Span, Span]]:
        return pixel_tiles(self.width, self.height, self._profile.downscale, file.layout)

    def _decode(self, file: File) -> U8Array:
        return LayerReader(file).apply(self._reconstruction(file).copy())

    def _reconstruction(self, file: File) -> U8Array:
        """Return the output of the networks for a file's latents; files with equal latents share it."""
        latents = file.segments[: file.layout.levels * file.layout.num_tiles]
        key = (file.header.step_code, *latents)
        if key not in self._reconstructions:
            self._reconstructions[key] = self._codec.reconstruct(file)
        return self._reconstructions[key]

    def _network_input_at(self, quality: float) -> NetworkInput:
        """Return overlay and latents for a quality; they are computed once for each octave of lambda."""
        octave = lambda_octave(quality)
        if octave not in self._inputs:
            overlay = overlay_if_useful(self._image, self._options, quality)
            same = next((i for i in self._inputs.values() if i.overlay is None and overlay is None), None)
            if same is None:
                pixels = network_pixels(self._image.pixels, overlay)
                same = NetworkInput(pixels, self._codec.analyse(pixels), overlay)
            self._inputs[octave] = same
        return self._inputs[octave]


def lambda_octave(quality: float) -> int:
    """Return the rounded base-2 logarithm of lambda at a quality."""
    return round(math.log2(operating_point(quality, layers=2).lmbda))


def residual_share(file: File) -> float:
    """Return the residual's share of the bytes of a file's segments."""
    residual = sum(len(file.segment("residual", tile)) for tile in range(file.layout.num_tiles))
    return residual / sum(map(len, file.segments))


def with_segments(file: File, kind: str, segments: list[bytes], **changes: Any) -> File:
    """Return a file with segments of one more kind.

    Arguments:
        file: a file without that kind.
        kind: name of the kind, as in `Layout.kinds`.
        segments: one segment for each tile.
        changes: the fields of `Layout` that say that the kind is present.
    """
    layout = replace(file.layout, **changes)
    first = layout.segment_index(kind, 0)
    return replace(file, segments=[*file.segments[:first], *segments, *file.segments[first:]], layout=layout)


def psnr_of(image: ImageData, pixels: U8Array) -> float:
    """Return the PSNR of decoded pixels in dB, for grey images that of luma."""
    return psnr(luma(image.pixels), luma(pixels)) if image.grey else psnr(image.pixels, pixels)
