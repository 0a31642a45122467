"""Main path: picture -> latents and layers -> file, and back."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.dial import vividness
from sdtrt.engine.coding.interest import Interest
from sdtrt.engine.coding.latents import Search, alpha_segments, encode_latents_to_file, palette_file
from sdtrt.engine.coding.quantized import padded
from sdtrt.engine.coding.rate import Wish
from sdtrt.engine.coding.stored import StoredLatents
from sdtrt.engine.format import alpha, container, metadata
from sdtrt.engine.format.arguments import value_text
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import Span
from sdtrt.engine.format.limits import DEFAULT_LIMITS, UNLIMITED, Limits
from sdtrt.engine.format.profile import outline_of_file
from sdtrt.engine.layered import LayeredPicture, Networks, Seen, overlay_for, seen_of
from sdtrt.engine.layers.stored import Layers
from sdtrt.engine.networks.batching import ahead, batches
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.gradient import FILE, Gradient
from sdtrt.engine.networks.parsed import Parsed
from sdtrt.engine.networks.tiled import Report, Tiled
from sdtrt.engine.networks.view import FAITHFUL, RECOMMENDED, Look, View
from sdtrt.engine.picture import Picture, Pixels
from sdtrt.engine.refined import TURNS, Refiner
from sdtrt.errors import BundleError

if TYPE_CHECKING:
    from sdtrt.engine.networks.pipeline import Pipeline

Floats = NDArray[np.float32]


class PictureCodec:
    """A bundle and where its networks run; may be used from several threads. For parts of pictures see `parts`."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        backend: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        precision: str = "auto",
        tile: int | None = None,
        overlap: int | None = None,
        report: Report | None = None,
    ) -> None:
        from sdtrt.engine.networks.pipeline import open_pipeline  # here, since `sdtrt info` needs no networks

        model = checked_model(model)
        bundle = find_bundle(model)
        # Networks are opened when they are first needed: the current folder may be another one by then.
        self.bundle: Bundle = replace(bundle, folder=bundle.folder.absolute())
        self.profile = self.bundle.latent_profile()
        self._tiled = Tiled.of(self.bundle, tile, overlap, report)
        self.pipeline: Pipeline = open_pipeline(self._tiled, backend, device, threads, precision)
        self._gradient = Gradient(self.bundle, threads) if FILE in self.bundle.files else None
        self._state: dict[str, Any] = {
            "model": str(self.bundle.folder if bundle.folder == Path(model) else model),
            "backend": backend,
            "device": device,
            "threads": threads,
            "precision": precision,
            "tile": tile,
            "overlap": overlap,
            "report": report,
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return the model and the options: networks, locks and memory belong to this process."""
        return self._state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the model again, on the machine at hand."""
        self.__init__(**state)  # type: ignore[misc]

    def encode(self, picture: Picture, wish: Wish, interest: Interest | None = None) -> bytes:
        require_no_roi(wish, interest)
        overlay = overlay_for(picture, wish, wish.first_quality)
        pixels = seen_of(picture.pixels, overlay)
        return self._code((picture, Seen(pixels, self.analyse(pixels), overlay)), wish, interest)

    def encode_batch(
        self,
        pictures: Iterable[Picture],
        wish: Wish,
        roi_weights_of: Callable[[Picture], Interest | None] | None = None,
    ) -> Iterator[bytes]:
        """Yield the file of each picture; a thread of its own quantizes and codes, behind the networks."""
        require_no_roi(wish, roi_weights_of)

        def code(analysed: tuple[Picture, Seen]) -> bytes:
            return self._code(analysed, wish, roi_weights_of(analysed[0]) if roi_weights_of else None)

        return ahead(code, self._analysed(pictures, wish))

    def _analysed(self, pictures: Iterable[Picture], wish: Wish) -> Iterator[tuple[Picture, Seen]]:
        for batch in batches(pictures, self.pipeline.largest_batch, lambda picture: picture.pixels.shape):
            overlays = [overlay_for(picture, wish, wish.first_quality) for picture in batch]
            seen = [seen_of(picture.pixels, overlay) for picture, overlay in zip(batch, overlays, strict=True)]
            latents = self.pipeline.analyse(seen)
            yield from zip(batch, map(Seen, seen, latents, overlays), strict=True)

    def _code(self, analysed: tuple[Picture, Seen], wish: Wish, interest: Interest | None = None) -> bytes:
        picture, seen = analysed
        height, width = picture.pixels.shape[:2]
        parts: dict[str, Any] = {
            "grey": picture.grey,
            "chunks": metadata.chunks_of(picture.metadata),
            "alpha": alpha_segments(picture.alpha, self.profile, divided=wish.method != "palette"),
        }
        if wish.method == "palette":
            return container.write(palette_file(seen.latents, width, height, self.profile, **parts))
        parts |= {"effort": wish.effort}
        networks = Networks(self.analyse, self.shown, self.search)
        coded = LayeredPicture(picture, wish, self.profile, networks, seen, interest, parts)
        return wish.file(coded.file, width, height, coded.measure)

    def encode_latents(self, latents: Floats, width: int, height: int, wish: Wish) -> bytes:
        """Return the file of a picture's latents alone, float32 (C, h, w)."""
        return encode_latents_to_file(latents, width, height, self.profile, wish)

    def search(self, pixels: Pixels, latents: Floats, effort: int, structure: float = 1) -> Search | None:
        """Return what chooses the symbols of a picture at an effort, None for the choice that latents tell of.

        `structure`, 0 to 1, is by how much of the usual lost structure counts beside squared error.
        """
        if self._gradient is None or effort not in TURNS:
            return None
        return Refiner(self._gradient, self.profile, pixels, latents, TURNS[effort], structure)

    def shown(self, file: File) -> Pixels:
        """Return what networks make of a file's latents, uint8 (H, W, 3), without what lies over it."""
        return self.pipeline.synthesise([self.parsed(self.stored(file, UNLIMITED), FAITHFUL)])[0]

    def decode(self, data: bytes, limits: Limits = DEFAULT_LIMITS, view: View = RECOMMENDED) -> Picture:
        """Return the picture in a file."""
        file = self.checked(container.read(data, limits))
        parsed = self.parsed(self.stored(file, limits), view)
        return picture_of_file(file, self.pipeline.synthesise([parsed])[0], look=parsed.look)

    def decode_batch(
        self, files: Iterable[bytes], limits: Limits = DEFAULT_LIMITS, view: View = RECOMMENDED
    ) -> Iterator[Picture]:
        """Yield the picture of each file; a thread of its own parses and decodes symbols, ahead of the networks."""

        def parse(data: bytes) -> tuple[File, Parsed]:
            file = self.checked(container.read(data, limits))
            return file, self.parsed(self.stored(file, limits), view)

        for batch in batches(ahead(parse, files), self.pipeline.largest_batch, lambda one: one[1].sort):
            found = self.pipeline.synthesise([parsed for _, parsed in batch])
            for (file, parsed), pixels in zip(batch, found, strict=True):
                yield picture_of_file(file, pixels, look=parsed.look)

    def decode_into(
        self, data: bytes, array: Any, stream: Any, limits: Limits = DEFAULT_LIMITS, view: View = RECOMMENDED
    ) -> None:
        """Queue the decoding of a file into a device array; see `sdtrt.Codec.decode_into`."""
        file = self.checked(container.read(data, limits))
        parsed = self.parsed(self.stored(file, limits), view)
        whole = parsed.part((0, parsed.shape[1]), (0, parsed.shape[2]))
        self.pipeline.synthesise_into(whole, Layers(file), array, stream)

    def checked(self, file: File) -> File:
        """Return a file that this model decodes; `BundleError` if it is in another latent space."""
        space = outline_of_file(file).latent_space
        if space != self.bundle.latent_space:
            raise BundleError(
                f"the file is in latent space {space}, model {self.bundle.name} decodes "
                f"{self.bundle.latent_space}; name a model of that space (see: sdtrt models)"
            )
        return file

    def stored(self, file: File, limits: Limits = DEFAULT_LIMITS, whole: Sequence[bool] | None = None) -> StoredLatents:
        """Return a file's latents; errors as of `StoredLatents`."""
        return StoredLatents(file, limits, whole, own=self.profile)

    def parsed(self, stored: StoredLatents, view: View = RECOMMENDED, *, now: bool = True) -> Parsed:
        """Return a file for the networks; of a picture that is one tile to them the latents are decoded `now`.

        Raises `BundleError` if the bundle cannot show it so.
        """
        header, unet, vivid = stored.file.header, self.bundle.unet, self.vividness(stored.file, view)
        if unet is None and view.denoise:
            raise BundleError(f"model {self.bundle.name} has no UNet to denoise with; export one with --unet")
        trajectory = unet.trajectory(header.prior, header.step, stored.deltas, view.denoise) if unet else None
        if unet and trajectory:
            return Parsed(padded(stored.part(), unet.multiple), header, trajectory, vivid)
        now = now and self._tiled.is_one(*stored.shape[1:])
        return Parsed(stored.part() if now else stored, header, vividness=vivid)

    def vividness(self, file: File, view: View) -> float:
        """Return the share, 0 to 1, that the bundle's vivid decoder has in a file's pixels."""
        look = self.bundle.look if view.look == "auto" else view.look
        if look == "vivid" and not self.bundle.is_vivid:
            raise BundleError(f"model {self.bundle.name} has no decoder for the vivid look; decode with look faithful")
        return vividness(file.layout.residual) if look == "vivid" else 0.0

    def analyse(self, pixels: Pixels) -> Floats:
        """Return the latents, float32 (C, h, w), of RGB pixels, uint8 (H, W, 3)."""
        return self.pipeline.analyse([pixels])[0]

    def synthesise(self, latents: Floats, header: Header) -> Pixels:
        """Return the RGB pixels, uint8 (H, W, 3), of latents, float32 (C, h, w); the header gives size and step."""
        return self.pipeline.synthesise([Parsed(latents, header)])[0]


def checked_model(model: str | os.PathLike[str]) -> str | Path:
    """Return the name of a model or the folder of a bundle; an empty one would be the current folder."""
    expected = "expected the name of a model or the folder of a bundle"
    if not isinstance(model, str | os.PathLike):
        raise TypeError(f"model is {value_text(model)}, {expected}")
    name = os.fsdecode(model)
    if not name:
        raise ValueError(f"model is {model!r}, {expected}")
    return name if isinstance(model, str) else Path(name)


def require_no_roi(wish: Wish, interest: object) -> None:
    """Raise `ValueError` if a region of interest is asked for that the method cannot take into account."""
    if interest is not None and wish.method == "palette":
        raise ValueError("method is 'palette', which has no region of interest; expected 'latents' beside roi")


def picture_of_file(
    file: File, pixels: Pixels, rows: Span | None = None, columns: Span | None = None, *, look: Look
) -> Picture:
    """Return the picture of which networks made `pixels`, some rows and columns (None: all), with all else in its file.

    The pixels are changed in place.
    """
    plane = alpha.alpha_of_file(file, rows, columns)
    shown = Layers(file).put(pixels, rows, columns)
    return Picture(shown, plane, file.header.grey, metadata.metadata_of_file(file), look)
