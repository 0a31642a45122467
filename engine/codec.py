"""Main path: picture -> latents -> file, and back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.latents import deltas, file_of_latents, palette_file, quantized_of_file
from sdtrt.engine.coding.quantized import padded
from sdtrt.engine.coding.rate import Measure, Wish
from sdtrt.engine.format import alpha, container, metadata
from sdtrt.engine.format.container import DEFAULT_LIMITS, UNLIMITED, File, Header, Limits
from sdtrt.engine.format.metadata import NOTHING, Metadata
from sdtrt.engine.format.profile import profile_of_file
from sdtrt.engine.networks.batching import ahead, batches
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.parsed import Parsed
from sdtrt.engine.networks.tiled import Report, Tiled
from sdtrt.errors import BundleError

if TYPE_CHECKING:
    from sdtrt.engine.networks.pipeline import Pipeline

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Picture:
    """RGB pixels, uint8 (H, W, 3); `alpha`, uint8 (H, W), or None; `grey` if the three channels came from one."""

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    grey: bool = False
    metadata: Metadata = NOTHING


class PictureCodec:
    """A bundle and where its networks run; may be used from several threads."""

    def __init__(
        self,
        model: str | Path,
        *,
        backend: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        report: Report | None = None,
    ) -> None:
        from sdtrt.engine.networks.pipeline import (
            open_pipeline,  # here, since `sdtrt info` and the like need no networks
        )

        self.bundle: Bundle = find_bundle(model)
        self.profile = self.bundle.latent_profile()
        tiled = Tiled.of(self.bundle, tile, overlap, report)
        self._pipeline: Pipeline = open_pipeline(tiled, backend, device, threads)

    def encode(self, picture: Picture, wish: Wish) -> bytes:
        return self._code((picture, self.analyse(picture.pixels)), wish)

    def encode_batch(self, pictures: Iterable[Picture], wish: Wish) -> Iterator[bytes]:
        """Yield the file of each picture; a thread of its own quantizes and codes, behind the networks."""
        return ahead(lambda analysed: self._code(analysed, wish), self._analysed(pictures))

    def _analysed(self, pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Floats]]:
        for batch in batches(pictures, self._pipeline.largest_batch, lambda picture: picture.pixels.shape):
            yield from zip(batch, self._pipeline.analyse([picture.pixels for picture in batch]), strict=True)

    def _code(self, analysed: tuple[Picture, Floats], wish: Wish) -> bytes:
        picture, latents = analysed
        height, width = picture.pixels.shape[:2]
        chunks = metadata.chunks_of(picture.metadata)
        if picture.alpha is not None:
            chunks[container.ALPHA] = alpha.encode(picture.alpha)
        parts = {"grey": picture.grey, "chunks": chunks}

        def measure(data: bytes) -> float:
            pixels = self._pipeline.synthesise([self._parsed(container.read(data, UNLIMITED), UNLIMITED, None)])[0]
            return psnr(luma(picture.pixels), luma(pixels)) if picture.grey else psnr(picture.pixels, pixels)

        return self.encode_latents(latents, width, height, wish, measure, **parts)

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

    def decode(self, data: bytes, limits: Limits = DEFAULT_LIMITS, denoise: int | None = None) -> Picture:
        """Return the picture in a file; `denoise` is how many steps, None for what the bundle recommends."""
        file = self._read(data, limits)
        return self._picture(file, self._pipeline.synthesise([self._parsed(file, limits, denoise)])[0])

    def decode_batch(
        self, files: Iterable[bytes], limits: Limits = DEFAULT_LIMITS, denoise: int | None = None
    ) -> Iterator[Picture]:
        """Yield the picture of each file; a thread of its own parses and decodes symbols, ahead of the networks."""

        def parse(data: bytes) -> tuple[File, Parsed]:
            file = self._read(data, limits)
            return file, self._parsed(file, limits, denoise)

        for batch in batches(ahead(parse, files), self._pipeline.largest_batch, lambda one: one[1].sort):
            found = self._pipeline.synthesise([parsed for _, parsed in batch])
            yield from (self._picture(file, pixels) for (file, _), pixels in zip(batch, found, strict=True))

    def decode_into(
        self, data: bytes, array: Any, stream: Any, limits: Limits = DEFAULT_LIMITS, denoise: int | None = None
    ) -> None:
        """Queue the decoding of a file into a device array; see `sdtrt.Codec.decode_into`."""
        parsed = self._parsed(self._read(data, limits), limits, denoise)
        self._pipeline.synthesise_into(parsed, array, stream)

    def _read(self, data: bytes, limits: Limits) -> File:
        file = container.read(data, limits)
        space = profile_of_file(file).latent_space
        if space != self.bundle.latent_space:
            raise BundleError(
                f"the file is in latent space {space}, model {self.bundle.name} decodes "
                f"{self.bundle.latent_space}; name a model of that space (see: sdtrt models)"
            )
        return file

    def _parsed(self, file: File, limits: Limits, denoise: int | None) -> Parsed:
        contents, header, unet = quantized_of_file(file, limits), file.header, self.bundle.unet
        if unet is None:
            if denoise:
                raise BundleError(f"model {self.bundle.name} has no UNet to denoise with; export one with --unet")
            return Parsed(contents, header)
        steps = deltas(profile_of_file(file), header)
        trajectory = unet.trajectory(header.prior, header.step, steps, denoise)
        return Parsed(padded(contents, unet.multiple) if trajectory else contents, header, trajectory)

    def _picture(self, file: File, pixels: NDArray[np.uint8]) -> Picture:
        return Picture(pixels, alpha.alpha_of_file(file), file.header.grey, metadata.metadata_of_file(file))

    def analyse(self, pixels: NDArray[np.uint8]) -> Floats:
        """Return the latents, float32 (C, h, w), of RGB pixels, uint8 (H, W, 3)."""
        return self._pipeline.analyse([pixels])[0]

    def synthesise(self, latents: Floats, header: Header) -> NDArray[np.uint8]:
        """Return the RGB pixels, uint8 (H, W, 3), of latents, float32 (C, h, w); the header gives size and step."""
        return self._pipeline.synthesise([Parsed(latents, header)])[0]


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
