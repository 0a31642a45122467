"""The codec: from an image to a file, and back. The main path of the run time."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.latent_file import SymbolSearch
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.coding.quality_scale import allows_fast, allows_int8
from sdtrt.engine.coding.quantized_latents import FloatLatents, LatentSource
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.denoising.schedule import Trajectory
from sdtrt.engine.encoder import NetworkInput, encode_image, network_pixels, overlay_if_useful
from sdtrt.engine.format import alpha, container, metadata
from sdtrt.engine.format.arguments import value_text
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import Span
from sdtrt.engine.format.limits import DEFAULT_LIMITS, UNLIMITED, Limits
from sdtrt.engine.gradient_search import ITERATIONS_BY_EFFORT, GradientSearch
from sdtrt.engine.image import ImageData
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.batching import group_into_batches, prefetch
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.engine.networks.choices import Look
from sdtrt.engine.networks.decode_request import DEFAULT_DECODE_OPTIONS, FAITHFUL, DecodeOptions, DecodeRequest
from sdtrt.engine.networks.gradient import FILE, DecoderGradient
from sdtrt.engine.networks.tiling import ProgressCallback, TiledRunner
from sdtrt.errors import BundleError

if TYPE_CHECKING:
    from sdtrt.engine.networks.pipeline import Pipeline


class EngineCodec:
    """A bundle, and a pipeline that runs its networks. Several threads may use it.

    `engine.regions` decodes parts of images, `engine.salvage` damaged files.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Bundle,
        *,
        backend: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        precision: str = "auto",
        tile: int | None = None,
        overlap: int | None = None,
        report: ProgressCallback | None = None,
        single_call: bool = False,
    ) -> None:
        from sdtrt.engine.networks.pipeline import open_pipeline  # not above, since `sdtrt info` runs no networks

        self.bundle = model if isinstance(model, Bundle) else find_bundle(checked_model(model))
        is_folder = isinstance(model, Bundle) or _is_path_of(model, self.bundle.folder)
        self.profile = self.bundle.latent_profile
        self._tiled = TiledRunner.of(self.bundle, tile, overlap, report)
        self.pipeline: Pipeline = open_pipeline(
            self._tiled, backend, device, threads, precision, single_call=single_call
        )
        self._gradient = DecoderGradient(self.bundle, threads) if FILE in self.bundle.files else None
        self._state: dict[str, Any] = {
            "model": str(self.bundle.folder if is_folder else model),
            "backend": backend,
            "device": device,
            "threads": threads,
            "precision": precision,
            "tile": tile,
            "overlap": overlap,
            "report": report,
            "single_call": single_call,
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return the options to open the model again; networks, locks and memory belong to one process."""
        return self._state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def encode(self, image: ImageData, options: EncodeOptions, roi: RoiWeights | None = None) -> bytes:
        """Encode an image; arguments and errors of `encoder.encode_image`."""
        require_no_roi(options, roi)
        return encode_image(self, image, options, roi)

    def encode_batch(
        self,
        images: Iterable[ImageData],
        options: EncodeOptions,
        roi_weights_of: Callable[[ImageData], RoiWeights | None] | None = None,
    ) -> Iterator[bytes]:
        """Yield the file of each image.

        On the CPU several images are encoded at once. On a GPU a second thread quantizes and codes while the networks
        run.
        """
        require_no_roi(options, roi_weights_of)
        codec, count = self._for_batches()
        if count is not None and count > 1:

            def encode_alone(image: ImageData) -> bytes:
                return encode_image(codec, image, options, roi_weights_of(image) if roi_weights_of else None)

            return prefetch(encode_alone, images, count)

        def encode(analysed: tuple[ImageData, NetworkInput]) -> bytes:
            image, network_input = analysed
            roi = roi_weights_of(image) if roi_weights_of else None
            return encode_image(self, image, options, roi, network_input)

        return prefetch(encode, self._analyse_batches(images, options))

    def _for_batches(self) -> tuple["EngineCodec", int | None]:
        """Return the codec for many images, and how many images threads should work on at once.

        The number is None on a device.
        """
        pipeline, count = self.pipeline.for_batches()
        if pipeline is self.pipeline:
            return self, count
        codec = object.__new__(EngineCodec)  # a copy by `copy` would open the model again
        codec.__dict__.update(self.__dict__, pipeline=pipeline)
        return codec, count

    def _analyse_batches(
        self, images: Iterable[ImageData], options: EncodeOptions
    ) -> Iterator[tuple[ImageData, NetworkInput]]:
        for batch in group_into_batches(images, self.pipeline.largest_batch, lambda image: image.pixels.shape):
            overlays = [overlay_if_useful(image, options, options.first_quality) for image in batch]
            pixels = [network_pixels(image.pixels, overlay) for image, overlay in zip(batch, overlays, strict=True)]
            latents = self.pipeline.analyse(pixels)
            yield from zip(batch, map(NetworkInput, pixels, latents, overlays), strict=True)

    def symbol_search(
        self, pixels: U8Array, latents: F32Array, effort: int, structure: float = 1
    ) -> SymbolSearch | None:
        """Return the search by the decoder's gradient for an effort; None if RDOQ alone is used.

        Arguments:
            pixels: uint8 (H, W, 3), the input of the encoder network.
            latents: float32 (C, h, w), its output.
            effort: 1 to 9.
            structure: 0 to 1, share of the usual weight of lost structure next to the squared error.
        """
        if self._gradient is None or effort not in ITERATIONS_BY_EFFORT:
            return None
        return GradientSearch(self._gradient, self.profile, pixels, latents, ITERATIONS_BY_EFFORT[effort], structure)

    def reconstruct(self, file: File) -> U8Array:
        """Return the output of the networks for a file's latents, uint8 (H, W, 3), without the layers."""
        request = self.prepare(self.read_latents(file, UNLIMITED), FAITHFUL)
        return self.pipeline.synthesise([replace(request, single_precision=True)])[0]

    def decode(
        self, source: bytes | File, limits: Limits = DEFAULT_LIMITS, options: DecodeOptions = DEFAULT_DECODE_OPTIONS
    ) -> ImageData:
        """Decode the image in a file.

        Arguments:
            source: the bytes of a file, or the parsed file.
            limits: bounds of what a file may ask for.
            options: look and denoising.

        Raises:
            FormatError: if the file is damaged.
            LimitError: if the file exceeds the limits.
            BundleError: if the file is in another latent space, or the bundle lacks a network for the options.
        """
        file = source if isinstance(source, File) else container.read(source, limits)
        request = self.prepare(self.read_latents(file, limits), options)
        return assemble_image(file, self.pipeline.synthesise([request])[0], look=request.look)

    def decode_batch(
        self,
        sources: Iterable[bytes | File],
        limits: Limits = DEFAULT_LIMITS,
        options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
    ) -> Iterator[ImageData]:
        """Yield the image of each file.

        On the CPU one thread decodes one file after the other, or several threads several files at once. On a GPU a
        second thread parses and decodes symbols while the networks run.
        """
        codec, count = self._for_batches()
        if count is not None:
            yield from prefetch(lambda source: codec.decode(source, limits, options), sources, count)
            return

        def prepare(source: bytes | File) -> tuple[File, DecodeRequest]:
            file = source if isinstance(source, File) else container.read(source, limits)
            return file, self.prepare(self.read_latents(file, limits), options)

        prepared = prefetch(prepare, sources)
        for batch in group_into_batches(prepared, self.pipeline.largest_batch, lambda pair: pair[1].batch_key):
            outputs = self.pipeline.synthesise([request for _, request in batch])
            for (file, request), pixels in zip(batch, outputs, strict=True):
                yield assemble_image(file, pixels, look=request.look)

    def decode_into(
        self,
        source: bytes | File,
        array: Any,
        stream: Any,
        limits: Limits = DEFAULT_LIMITS,
        options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
    ) -> None:
        """Queue the decoding of a file into a device array; see `sdtrt.Codec.decode_into`."""
        file = source if isinstance(source, File) else container.read(source, limits)
        request = self.prepare(self.read_latents(file, limits), options)
        whole = request.crop((0, request.latents.shape[1]), (0, request.latents.shape[2]))
        self.pipeline.synthesise_into(whole, LayerReader(file), array, stream)

    def read_latents(self, file: File, limits: Limits, intact_segments: Iterable[bool] | None = None) -> LatentReader:
        """Return a reader of a file's latents.

        Raises:
            BundleError: if the file is in another latent space than this model.
        """
        space = file.space.latent_space
        if space != self.bundle.latent_space:
            raise BundleError(
                f"the file is in latent space {space}, model {self.bundle.name} decodes "
                f"{self.bundle.latent_space}; name a model of that space (see: sdtrt models)"
            )
        intact = None if intact_segments is None else [*intact_segments]
        return LatentReader(file, limits, intact, model_profile=self.profile)

    def prepare(
        self, reader: LatentReader, options: DecodeOptions = DEFAULT_DECODE_OPTIONS, *, decode_now: bool = True
    ) -> DecodeRequest:
        """Return the input of the networks.

        Arguments:
            reader: the latents of a file.
            options: look and denoising.
            decode_now: whether to decode the symbols here, if the image is one tile to the networks.

        Raises:
            BundleError: if the bundle lacks a network for the options.
        """
        header, unet = reader.file.header, self.bundle.unet
        look = self._look(reader.file, options)
        single_precision = not allows_int8(reader.file.layout.residual_step)

        def request(latents: LatentSource, trajectory: Trajectory | None = None) -> DecodeRequest:
            return DecodeRequest(latents, header, trajectory, look, single_precision)

        if unet is None and options.denoise_steps:
            raise BundleError(f"model {self.bundle.name} has no UNet to denoise with; export one with --unet")
        if unet is not None:
            trajectory = unet.trajectory(header.prior, header.quant_step, reader.channel_steps, options.denoise_steps)
            if trajectory is not None:
                return request(reader.read().pad_to_multiple(unet.multiple), trajectory)
        decode_now = decode_now and self._tiled.fits_one_tile(*reader.shape[1:])
        return request(reader.read() if decode_now else reader)

    def _look(self, file: File, options: DecodeOptions) -> Look:
        """Return the look of a file's pixels, which is faithful if a residual excludes the fast one."""
        look = self.bundle.look if options.look == "auto" else options.look
        if look not in self.bundle.looks:
            raise BundleError(
                f"model {self.bundle.name} has no decoder for the look {look}; its looks are "
                f"{', '.join(self.bundle.looks)}"
            )
        return look if look == "faithful" or allows_fast(file.layout.residual_step) else "faithful"

    def analyse(self, pixels: U8Array) -> F32Array:
        """Return the latents, float32 (C, h, w), of RGB pixels, uint8 (H, W, 3)."""
        return self.pipeline.analyse([pixels])[0]

    def synthesise(self, latents: F32Array, header: Header) -> U8Array:
        """Return the RGB pixels, uint8 (H, W, 3), of latents, float32 (C, h, w); the header gives size and step."""
        return self.pipeline.synthesise([DecodeRequest(FloatLatents(latents), header)])[0]


def checked_model(model: str | os.PathLike[str]) -> str | Path:
    """Return the name of a model or the folder of a bundle; an empty one would be the current folder."""
    expected = "expected the name of a model or the folder of a bundle"
    if not isinstance(model, str | os.PathLike):
        raise TypeError(f"model is {value_text(model)}, {expected}")
    name = os.fsdecode(model)
    if not name:
        raise ValueError(f"model is {model!r}, {expected}")
    return name if isinstance(model, str) else Path(name)


def _is_path_of(model: str | os.PathLike[str], folder: Path) -> bool:
    """Return whether a model was named by its folder; False if the current folder is gone."""
    try:
        return Path(model).absolute() == folder
    except FileNotFoundError:
        return False


def require_no_roi(options: EncodeOptions, roi: object) -> None:
    """Raise `ValueError` if there is a region of interest, and the method cannot take it into account."""
    if roi is not None and options.method == "palette":
        raise ValueError("method is 'palette', which has no region of interest; expected 'latents' beside roi")


def assemble_image(
    file: File, pixels: U8Array, rows: Span | None = None, columns: Span | None = None, *, look: Look
) -> ImageData:
    """Combine the output of the networks with layers, alpha and metadata.

    Arguments:
        file: the parsed file.
        pixels: uint8 (H, W, 3), output of the networks; changed in place.
        rows, columns: the part of the image that `pixels` are; None for all.
        look: the look of the pixels.
    """
    layout = file.layout
    if layout.overlay or layout.residual_step:
        pixels = LayerReader(file).apply(pixels, rows, columns)
    plane = alpha.read_alpha(file, rows, columns) if layout.alpha else None
    kept = metadata.read_metadata(file) if file.chunks else metadata.NO_METADATA
    return ImageData(pixels, plane, file.header.grey, kept, look)
