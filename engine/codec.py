"""Main path: picture -> latents -> file, and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine import alpha, container
from sdtrt.engine.backends import Network, open_backend
from sdtrt.engine.bundle import Bundle, find_bundle
from sdtrt.engine.container import DEFAULT_LIMITS, UNLIMITED, Header, Limits
from sdtrt.engine.latents import file_of_latents, latents_of_file, palette_file
from sdtrt.engine.profile import profile_of_file
from sdtrt.engine.rate import Measure, Wish
from sdtrt.errors import BundleError
from sdtrt.kernels import reference

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Picture:
    """RGB pixels, uint8 (H, W, 3); `alpha`, uint8 (H, W), or None; `grey` if the three channels came from one."""

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    grey: bool = False


class PictureCodec:
    """A bundle's networks, each opened at its first use; may be used from several threads."""

    def __init__(
        self, model: str | Path, *, backend: str = "auto", device: str = "auto", threads: int | None = None
    ) -> None:
        self.bundle: Bundle = find_bundle(model)
        self.profile = self.bundle.latent_profile()
        self._backend = open_backend(backend, device, threads)
        self._networks: dict[str, Network] = {}

    def encode(self, picture: Picture, wish: Wish) -> bytes:
        height, width = picture.pixels.shape[:2]
        chunks = {} if picture.alpha is None else {container.ALPHA: alpha.encode(picture.alpha)}
        parts = {"grey": picture.grey, "chunks": chunks}

        def measure(data: bytes) -> float:
            file = container.read(data, UNLIMITED)
            pixels = self.synthesise(latents_of_file(file, UNLIMITED), file.header)
            return psnr(luma(picture.pixels), luma(pixels)) if picture.grey else psnr(picture.pixels, pixels)

        return self.encode_latents(self.analyse(picture.pixels), width, height, wish, measure, **parts)

    def encode_latents(
        self, latents: Floats, width: int, height: int, wish: Wish, measure: Measure | None = None, **parts: Any
    ) -> bytes:
        """Return the file of a picture's latents, float32 (C, h, w); `parts` as in `file_of_latents`."""
        if wish.method == "palette":
            return container.write(palette_file(latents, width, height, self.profile, **parts))

        def code_file(step_code: int) -> bytes:
            return container.write(
                file_of_latents(latents, width, height, self.profile, step_code, effort=wish.effort, **parts)
            )

        return wish.file(code_file, self.profile, width, height, measure)

    def decode(self, data: bytes, limits: Limits = DEFAULT_LIMITS) -> Picture:
        file = container.read(data, limits)
        self._require(profile_of_file(file).latent_space)
        pixels = self.synthesise(latents_of_file(file, limits), file.header)
        return Picture(pixels, alpha.alpha_of_file(file), file.header.grey)

    def analyse(self, pixels: NDArray[np.uint8]) -> Floats:
        """Return the latents, float32 (C, h, w), of RGB pixels, uint8 (H, W, 3)."""
        planes = reference.pixels_to_planes(pixels, self.profile.downscale, *self.bundle.pixel_range)
        return self._run("encoder.onnx", {"pixels": planes[None]})["latents"][0]

    def synthesise(self, latents: Floats, header: Header) -> NDArray[np.uint8]:
        """Return the RGB pixels, uint8 (H, W, 3), of latents, float32 (C, h, w); the header gives size and step."""
        step = {"step": np.array([header.step], np.float32)} if self.bundle.decoder_takes_step else {}
        planes = self._run("decoder.onnx", {"latents": latents[None], **step})["pixels"][0]
        return reference.planes_to_pixels(planes, header.width, header.height, *self.bundle.pixel_range)

    def _run(self, name: str, inputs: dict[str, Floats]) -> dict[str, Floats]:
        if name not in self._networks:
            self._networks[name] = self._backend.load(self.bundle.file(name))
        outputs = self._networks[name].run(inputs)
        for tensor, values in outputs.items():
            if not np.isfinite(values).all():
                raise BundleError(f"{self.bundle.name}'s {name} gave values in {tensor} that are not finite")
        return outputs

    def _require(self, latent_space: str) -> None:
        if latent_space != self.bundle.latent_space:
            raise BundleError(
                f"the file is in latent space {latent_space}, model {self.bundle.name} decodes "
                f"{self.bundle.latent_space}; name a model of that space (see: sdtrt models)"
            )


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the brightness of RGB pixels, uint8 (H, W, 3) to (H, W): what a grey picture's are delivered as.

    ITU-R BT.601's weights in 1/65536, rounded, as Pillow has them.
    """
    weighted = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighted + 32768) >> 16).astype(np.uint8)


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two pictures of 8 bits, in dB; infinite if they are equal."""
    error = np.square(first.astype(np.float64) - second).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
