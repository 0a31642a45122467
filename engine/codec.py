"""Main path: picture -> latents and layers -> file, and back."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.coding.latent_file import SymbolSearch, alpha_segments, encode_latents_to_bytes, encode_palette_file
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.coding.quality_scale import vivid_weight
from sdtrt.engine.coding.quantized_latents import pad_to_multiple
from sdtrt.engine.coding.rate_control import EncodeOptions
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.encoder import ImageEncoder, NetworkInput, Networks, network_pixels, overlay_if_useful
from sdtrt.engine.format import alpha, container, metadata
from sdtrt.engine.format.arguments import value_text
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import Span
from sdtrt.engine.format.limits import DEFAULT_LIMITS, UNLIMITED, Limits
from sdtrt.engine.format.profile import read_space_info
from sdtrt.engine.gradient_search import ITERATIONS_BY_EFFORT, GradientSearch
from sdtrt.engine.image import ImageData
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.batching import group_into_batches, prefetch
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.decode_options import DEFAULT_DECODE_OPTIONS, FAITHFUL, DecodeOptions, Look
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.engine.networks.gradient import FILE, DecoderGradient
from sdtrt.engine.networks.tiled import Report, TiledRunner
from sdtrt.errors import BundleError

if TYPE_CHECKING:
    from sdtrt.engine.networks.pipeline import Pipeline


class EngineCodec:
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
        self._tiled = TiledRunner.of(self.bundle, tile, overlap, report)
        self.pipeline: Pipeline = open_pipeline(self._tiled, backend, device, threads, precision)
        self._gradient = DecoderGradient(self.bundle, threads) if FILE in self.bundle.files else None
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

    def encode(self, picture: ImageData, options: EncodeOptions, roi: RoiWeights | None = None) -> bytes:
        require_no_roi(options, roi)
        overlay = overlay_if_useful(picture, options, options.first_quality)
        pixels = network_pixels(picture.pixels, overlay)
        return self._encode_analysed((picture, NetworkInput(pixels, self.analyse(pixels), overlay)), options, roi)

    def encode_batch(
        self,
        pictures: Iterable[ImageData],
        options: EncodeOptions,
        roi_weights_of: Callable[[ImageData], RoiWeights | None] | None = None,
    ) -> Iterator[bytes]:
        """Yield the file of each picture; a thread of its own quantizes and codes, behind the networks."""
        require_no_roi(options, roi_weights_of)

        def code(analysed: tuple[ImageData, NetworkInput]) -> bytes:
            return self._encode_analysed(analysed, options, roi_weights_of(analysed[0]) if roi_weights_of else None)

        return prefetch(code, self._analysed(pictures, options))

    def _analysed(
        self, pictures: Iterable[ImageData], options: EncodeOptions
    ) -> Iterator[tuple[ImageData, NetworkInput]]:
        for batch in group_into_batches(pictures, self.pipeline.largest_batch, lambda picture: picture.pixels.shape):
            overlays = [overlay_if_useful(picture, options, options.first_quality) for picture in batch]
            seen = [network_pixels(picture.pixels, overlay) for picture, overlay in zip(batch, overlays, strict=True)]
            latents = self.pipeline.analyse(seen)
            yield from zip(batch, map(NetworkInput, seen, latents, overlays), strict=True)

    def _encode_analysed(
        self, analysed: tuple[ImageData, NetworkInput], options: EncodeOptions, roi: RoiWeights | None = None
    ) -> bytes:
        picture, seen = analysed
        height, width = picture.pixels.shape[:2]
        parts: dict[str, Any] = {
            "grey": picture.grey,
            "chunks": metadata.to_chunks(picture.metadata),
            "alpha": alpha_segments(picture.alpha, self.profile, divided=options.method != "palette"),
        }
        if options.method == "palette":
            return container.write(encode_palette_file(seen.latents, width, height, self.profile, **parts))
        parts |= {"effort": options.effort}
        networks = Networks(self.analyse, self.reconstruct, self.symbol_search)
        coded = ImageEncoder(picture, options, self.profile, networks, seen, roi, parts)
        return options.file(coded.file, width, height, coded.measure)

    def encode_latents(self, latents: F32Array, width: int, height: int, options: EncodeOptions) -> bytes:
        """Return the file of a picture's latents alone, float32 (C, h, w)."""
        return encode_latents_to_bytes(latents, width, height, self.profile, options)

    def symbol_search(
        self, pixels: U8Array, latents: F32Array, effort: int, structure: float = 1
    ) -> SymbolSearch | None:
        """Return what chooses the symbols of a picture at an effort, None for the choice that latents tell of.

        `structure`, 0 to 1, is by how much of the usual lost structure counts beside squared error.
        """
        if self._gradient is None or effort not in ITERATIONS_BY_EFFORT:
            return None
        return GradientSearch(self._gradient, self.profile, pixels, latents, ITERATIONS_BY_EFFORT[effort], structure)

    def reconstruct(self, file: File) -> U8Array:
        """Return what networks make of a file's latents, uint8 (H, W, 3), without what lies over it."""
        return self.pipeline.synthesise([self.prepare(self.stored(file, UNLIMITED), FAITHFUL)])[0]

    def decode(
        self, data: bytes, limits: Limits = DEFAULT_LIMITS, options: DecodeOptions = DEFAULT_DECODE_OPTIONS
    ) -> ImageData:
        """Return the picture in a file."""
        file = self.require_same_space(container.read(data, limits))
        parsed = self.prepare(self.stored(file, limits), options)
        return assemble_image(file, self.pipeline.synthesise([parsed])[0], look=parsed.look)

    def decode_batch(
        self, files: Iterable[bytes], limits: Limits = DEFAULT_LIMITS, options: DecodeOptions = DEFAULT_DECODE_OPTIONS
    ) -> Iterator[ImageData]:
        """Yield the picture of each file; a thread of its own parses and decodes symbols, ahead of the networks."""

        def parse(data: bytes) -> tuple[File, DecodeRequest]:
            file = self.require_same_space(container.read(data, limits))
            return file, self.prepare(self.stored(file, limits), options)

        for batch in group_into_batches(
            prefetch(parse, files), self.pipeline.largest_batch, lambda one: one[1].batch_key
        ):
            found = self.pipeline.synthesise([parsed for _, parsed in batch])
            for (file, parsed), pixels in zip(batch, found, strict=True):
                yield assemble_image(file, pixels, look=parsed.look)

    def decode_into(
        self,
        data: bytes,
        array: Any,
        stream: Any,
        limits: Limits = DEFAULT_LIMITS,
        options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
    ) -> None:
        """Queue the decoding of a file into a device array; see `sdtrt.Codec.decode_into`."""
        file = self.require_same_space(container.read(data, limits))
        parsed = self.prepare(self.stored(file, limits), options)
        intact_segments = parsed.crop((0, parsed.shape[1]), (0, parsed.shape[2]))
        self.pipeline.synthesise_into(intact_segments, LayerReader(file), array, stream)

    def require_same_space(self, file: File) -> File:
        """Return a file that this model decodes; `BundleError` if it is in another latent space."""
        space = read_space_info(file).latent_space
        if space != self.bundle.latent_space:
            raise BundleError(
                f"the file is in latent space {space}, model {self.bundle.name} decodes "
                f"{self.bundle.latent_space}; name a model of that space (see: sdtrt models)"
            )
        return file

    def stored(
        self, file: File, limits: Limits = DEFAULT_LIMITS, intact_segments: Sequence[bool] | None = None
    ) -> LatentReader:
        """Return a file's latents; errors as of `LatentReader`."""
        return LatentReader(file, limits, intact_segments, model_profile=self.profile)

    def prepare(
        self, stored: LatentReader, options: DecodeOptions = DEFAULT_DECODE_OPTIONS, *, now: bool = True
    ) -> DecodeRequest:
        """Return a file for the networks; of a picture that is one tile to them the latents are decoded `now`.

        Raises `BundleError` if the bundle cannot show it so.
        """
        header, unet, vivid = stored.file.header, self.bundle.unet, self.vivid_weight(stored.file, options)
        if unet is None and options.denoise_steps:
            raise BundleError(f"model {self.bundle.name} has no UNet to denoise with; export one with --unet")
        trajectory = unet.trajectory(header.prior, header.step, stored.channel_steps, options.denoise_steps) if unet else None
        if unet and trajectory:
            return DecodeRequest(pad_to_multiple(stored.read(), unet.multiple), header, trajectory, vivid)
        now = now and self._tiled.fits_one_tile(*stored.shape[1:])
        return DecodeRequest(stored.read() if now else stored, header, vivid_weight=vivid)

    def vivid_weight(self, file: File, options: DecodeOptions) -> float:
        """Return the share, 0 to 1, that the bundle's vivid decoder has in a file's pixels."""
        look = self.bundle.look if options.look == "auto" else options.look
        if look == "vivid" and not self.bundle.has_vivid_decoder:
            raise BundleError(f"model {self.bundle.name} has no decoder for the vivid look; decode with look faithful")
        return vivid_weight(file.layout.residual) if look == "vivid" else 0.0

    def analyse(self, pixels: U8Array) -> F32Array:
        """Return the latents, float32 (C, h, w), of RGB pixels, uint8 (H, W, 3)."""
        return self.pipeline.analyse([pixels])[0]

    def synthesise(self, latents: F32Array, header: Header) -> U8Array:
        """Return the RGB pixels, uint8 (H, W, 3), of latents, float32 (C, h, w); the header gives size and step."""
        return self.pipeline.synthesise([DecodeRequest(latents, header)])[0]


def checked_model(model: str | os.PathLike[str]) -> str | Path:
    """Return the name of a model or the folder of a bundle; an empty one would be the current folder."""
    expected = "expected the name of a model or the folder of a bundle"
    if not isinstance(model, str | os.PathLike):
        raise TypeError(f"model is {value_text(model)}, {expected}")
    name = os.fsdecode(model)
    if not name:
        raise ValueError(f"model is {model!r}, {expected}")
    return name if isinstance(model, str) else Path(name)


def require_no_roi(options: EncodeOptions, roi: object) -> None:
    """Raise `ValueError` if a region of interest is asked for that the method cannot take into account."""
    if roi is not None and options.method == "palette":
        raise ValueError("method is 'palette', which has no region of interest; expected 'latents' beside roi")


def assemble_image(
    file: File, pixels: U8Array, rows: Span | None = None, columns: Span | None = None, *, look: Look
) -> ImageData:
    """Return the picture of which networks made `pixels`, some rows and columns (None: all), with all else in its file.

    The pixels are changed in place.
    """
    plane = alpha.read_alpha(file, rows, columns)
    shown = LayerReader(file).apply(pixels, rows, columns)
    return ImageData(shown, plane, file.header.grey, metadata.read_metadata(file), look)
