"""Pictures to latents and back on the host: the kernels' references around networks in ONNX Runtime.

Large pictures go through in tiles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.backends import Backend, Network
from sdtrt.engine.bundle import Bundle
from sdtrt.engine.denoise import denoised
from sdtrt.engine.quantized import Parsed, latents_of, part_of
from sdtrt.engine.tiles import Span, Tiling
from sdtrt.errors import BundleError, DeviceError
from sdtrt.kernels import reference

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class HostPipeline:
    """A bundle's networks, each opened at its first use; see `engine.pipeline.Pipeline`."""

    largest_batch = 1

    def __init__(self, bundle: Bundle, backend: Backend, tiling: Tiling) -> None:
        self.name = backend.name
        self._bundle, self._backend, self._profile, self._tiling = bundle, backend, bundle.latent_profile(), tiling
        self._networks: dict[str, Network] = {}

    def analyse(self, pixels: Sequence[Pixels]) -> list[Floats]:
        return [self._analyse(one) for one in pixels]

    def synthesise(self, pictures: Sequence[Parsed]) -> list[Pixels]:
        return [self._synthesise(one) for one in pictures]

    def synthesise_into(self, picture: Parsed, array: Any, stream: Any) -> None:
        raise DeviceError(f"device memory needs a GPU; this codec runs by {self.name}")

    def _analyse(self, pixels: Pixels) -> Floats:
        scale = self._profile.downscale

        def encode(rows: Span, columns: Span) -> Floats:
            part = pixels[scale * rows[0] : scale * rows[1], scale * columns[0] : scale * columns[1]]
            planes = reference.pixels_to_planes(part, scale, *self._bundle.pixel_range)
            return self._run("encoder.onnx", {"pixels": planes[None]})["latents"][0]

        _, height, width = self._profile.grid(pixels.shape[1], pixels.shape[0])
        bands = self._tiling.bands(height, width, encode, scale=1)
        return np.concatenate([band for _, band in bands], axis=1)

    def _synthesise(self, picture: Parsed) -> Pixels:
        header, scale = picture.header, self._profile.downscale
        pixels = np.empty((header.height, header.width, 3), np.uint8)
        tiling, multiple = self._tiling, 1
        if picture.trajectory and self._bundle.unet:  # which looks everywhere
            tiling, multiple = replace(tiling, cut=False), self._bundle.unet.multiple

        def decode(rows: Span, columns: Span) -> Floats:
            return self._decoded(latents_of(part_of(picture.contents, rows, columns))[None], picture)

        _, height, width = picture.shape
        for top, band in tiling.bands(height, width, decode, scale=scale, multiple=multiple):
            rows = pixels[top : top + band.shape[1]]
            rows[:] = reference.planes_to_pixels(band, header.width, len(rows), *self._bundle.pixel_range)
        return pixels

    def _decoded(self, latents: Floats, picture: Parsed) -> Floats:
        if picture.trajectory:
            latents = denoised(latents, picture.trajectory, self._predict)
        step = {"step": np.array([picture.header.step], np.float32)} if self._bundle.decoder_takes_step else {}
        return self._run("decoder.onnx", {"latents": latents, **step})["pixels"][0]

    def _predict(self, latents: Floats, timestep: Floats) -> Floats:
        return self._run("unet.onnx", {"latents": latents, "timestep": timestep})["prediction"]

    def _run(self, name: str, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        if name not in self._networks:
            self._networks[name] = self._backend.load(self._bundle.file(name))
        outputs = self._networks[name].run(inputs)
        for tensor, values in outputs.items():
            if not np.isfinite(values).all():
                raise BundleError(f"{self._bundle.name}'s {name} gave values in {tensor} that are not finite")
        return outputs
