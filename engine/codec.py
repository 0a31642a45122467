"""Main path: picture -> latents -> file, and back."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.interest import Interest
from sdtrt.engine.coding.latents import alpha_segments, file_of_latents, palette_file
from sdtrt.engine.coding.quantized import padded
from sdtrt.engine.coding.rate import Measure, Wish
from sdtrt.engine.coding.stored import StoredLatents
from sdtrt.engine.format import alpha, container, metadata
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import Span
from sdtrt.engine.format.limits import DEFAULT_LIMITS, UNLIMITED, Limits
from sdtrt.engine.format.profile import profile_of_file
from sdtrt.engine.networks.batching import ahead, batches
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.parsed import Parsed
from sdtrt.engine.networks.tiled import Report, Tiled
from sdtrt.engine.picture import Picture, Pixels, luma, psnr
from sdtrt.errors import BundleError

if TYPE_CHECKING:
    from sdtrt.engine.networks.pipeline import Pipeline

Floats = NDArray[np.float32]


class PictureCodec:
    """A bundle and where its networks run; may be used from several threads. For parts of pictures see `parts`."""

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
        from sdtrt.engine.networks.pipeline import open_pipeline  # here, since `sdtrt info` needs no networks

        self.bundle: Bundle = find_bundle(model)
        self.profile = self.bundle.latent_profile()
        self._tiled = Tiled.of(self.bundle, tile, overlap, report)
        self.pipeline: Pipeline = open_pipeline(self._tiled, backend, device, threads)

    def encode(self, picture: Picture, wish: Wish, interest: Interest | None = None) -> bytes:
        return self._code((picture, self.analyse(picture.pixels)), wish, interest)

    def encode_batch(self, pictures: Iterable[Picture], wish: Wish) -> Iterator[bytes]:
        """Yield the file of each picture; a thread of its own quantizes and codes, behind the networks."""
        return ahead(lambda analysed: self._code(analysed, wish), self._analysed(pictures))

    def _analysed(self, pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Floats]]:
        for batch in batches(pictures, self.pipeline.largest_batch, lambda picture: picture.pixels.shape):
            yield from zip(batch, self.pipeline.analyse([picture.pixels for picture in batch]), strict=True)

    def _code(self, analysed: tuple[Picture, Floats], wish: Wish, interest: Interest | None = None) -> bytes:
        picture, latents = analysed
        height, width = picture.pixels.shape[:2]
        parts = {
            "grey": picture.grey,
            "chunks": metadata.chunks_of(picture.metadata),
            "alpha": alpha_segments(picture.alpha, self.profile, divided=wish.method != "palette"),
        }

        def measure(data: bytes) -> float:
            parsed = self.parsed(StoredLatents(container.read(data, UNLIMITED), UNLIMITED))
            pixels = self.pipeline.synthesise([parsed])[0]
            return psnr(luma(picture.pixels), luma(pixels)) if picture.grey else psnr(picture.pixels, pixels)

        return self.encode_latents(latents, width, height, wish, measure, interest, **parts)

    def encode_latents(
        self,
        latents: Floats,
        width: int,
        height: int,
        wish: Wish,
        measure: Measure | None = None,
        interest: Interest | None = None,
        **parts: Any,
    ) -> bytes:
        """Return the file of a picture's latents, float32 (C, h, w); `parts` as in `file_of_latents`."""
        if wish.method == "palette":
            if interest:
                raise ValueError("method palette knows no region of interest")
            return container.write(palette_file(latents, width, height, self.profile, **parts))
        finer = interest.finer if interest else 0
        price = interest.price(self.profile.downscale) if interest else None
        if price is not None and price.max() == 1:  # the same everywhere, as without interest
            price = None
        parts |= {"effort": wish.effort, "price": price}

        def code_file(step_code: int) -> bytes:
            code = max(step_code - finer, 0)
            return container.write(file_of_latents(latents, width, height, self.profile, code, **parts))

        return wish.file(code_file, self.profile, width, height, measure)

    def decode(self, data: bytes, limits: Limits = DEFAULT_LIMITS, denoise: int | None = None) -> Picture:
        """Return the picture in a file; `denoise` is how many steps, None for what the bundle recommends."""
        file = self.checked(container.read(data, limits))
        return picture_of_file(file, self.pipeline.synthesise([self.parsed(StoredLatents(file, limits), denoise)])[0])

    def decode_batch(
        self, files: Iterable[bytes], limits: Limits = DEFAULT_LIMITS, denoise: int | None = None
    ) -> Iterator[Picture]:
        """Yield the picture of each file; a thread of its own parses and decodes symbols, ahead of the networks."""

        def parse(data: bytes) -> tuple[File, Parsed]:
            file = self.checked(container.read(data, limits))
            return file, self.parsed(StoredLatents(file, limits), denoise)

        for batch in batches(ahead(parse, files), self.pipeline.largest_batch, lambda one: one[1].sort):
            found = self.pipeline.synthesise([parsed for _, parsed in batch])
            yield from (picture_of_file(file, pixels) for (file, _), pixels in zip(batch, found, strict=True))

    def decode_into(
        self, data: bytes, array: Any, stream: Any, limits: Limits = DEFAULT_LIMITS, denoise: int | None = None
    ) -> None:
        """Queue the decoding of a file into a device array; see `sdtrt.Codec.decode_into`."""
        parsed = self.parsed(StoredLatents(self.checked(container.read(data, limits)), limits), denoise)
        whole = parsed.part((0, parsed.shape[1]), (0, parsed.shape[2]))
        self.pipeline.synthesise_into(whole, array, stream)

    def checked(self, file: File) -> File:
        """Return a file that this model decodes; `BundleError` if it is in another latent space."""
        space = profile_of_file(file).latent_space
        if space != self.bundle.latent_space:
            raise BundleError(
                f"the file is in latent space {space}, model {self.bundle.name} decodes "
                f"{self.bundle.latent_space}; name a model of that space (see: sdtrt models)"
            )
        return file

    def parsed(self, stored: StoredLatents, denoise: int | None = None, *, now: bool = True) -> Parsed:
        """Return a file for the networks; of a picture that is one tile to them the latents are decoded `now`."""
        header, unet = stored.file.header, self.bundle.unet
        if unet is None and denoise:
            raise BundleError(f"model {self.bundle.name} has no UNet to denoise with; export one with --unet")
        trajectory = unet.trajectory(header.prior, header.step, stored.deltas, denoise) if unet else None
        if unet and trajectory:
            return Parsed(padded(stored.part(), unet.multiple), header, trajectory)
        return Parsed(stored.part() if now and self._tiled.is_one(*stored.shape[1:]) else stored, header)

    def analyse(self, pixels: Pixels) -> Floats:
        """Return the latents, float32 (C, h, w), of RGB pixels, uint8 (H, W, 3)."""
        return self.pipeline.analyse([pixels])[0]

    def synthesise(self, latents: Floats, header: Header) -> Pixels:
        """Return the RGB pixels, uint8 (H, W, 3), of latents, float32 (C, h, w); the header gives size and step."""
        return self.pipeline.synthesise([Parsed(latents, header)])[0]


def picture_of_file(file: File, pixels: Pixels, rows: Span | None = None, columns: Span | None = None) -> Picture:
    """Return the picture of which `pixels` are some rows and columns (None: all), with all else that its file holds."""
    plane = alpha.alpha_of_file(file, rows, columns)
    return Picture(pixels, plane, file.header.grey, metadata.metadata_of_file(file))
