"""`Codec`: a model, opened once for many calls; the options of encoding and decoding an image.

Every entry point uses the names of the fields of `ImageEncodeOptions` and `ImageDecodeOptions`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from PIL import Image

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine import regions, salvage
from sdtrt.engine.codec import EngineCodec, require_no_roi
from sdtrt.engine.coding.encode_options import DEFAULT_EFFORT, DEFAULT_ROI_WEIGHT, MAX_ROI_WEIGHT, EncodeOptions, Method
from sdtrt.engine.coding.latent_file import decode_latents
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.format import container
from sdtrt.engine.format.arguments import (
    checked_instance,
    checked_integer,
    checked_items,
    checked_number,
    checked_truth,
    value_text,
)
from sdtrt.engine.format.container import MAX_SIDE, File
from sdtrt.engine.format.limits import DEFAULT_LIMITS, EXPECTED_LIMITS, Limits
from sdtrt.engine.format.metadata import NO_METADATA, Metadata
from sdtrt.engine.image import ImageData
from sdtrt.engine.networks.choices import BUILT_IN, LookOption
from sdtrt.engine.networks.decode_request import DecodeOptions, Denoise
from sdtrt.engine.part_options import Region
from sdtrt.images.convert import ImageLike, to_engine_image, to_pil
from sdtrt.images.roi import Roi, roi_weights
from sdtrt.images.sources import Source, bytes_of, opened, parse
from sdtrt.process.text import printable

if TYPE_CHECKING:
    from sdtrt.latents.coding import LatentsLike

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEncodeOptions(EncodeOptions):
    """The options of `sdtrt.encode`, except the model."""

    roi: Roi | None = None
    roi_weight: float = DEFAULT_ROI_WEIGHT
    strip: bool = False
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        EncodeOptions.__post_init__(self)
        require_no_roi(self, self.roi)
        self._set("roi_weight", checked_number("roi_weight", self.roi_weight, 1, MAX_ROI_WEIGHT))
        checked_truth("strip", self.strip)
        checked_instance("limits", self.limits, Limits, EXPECTED_LIMITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDecodeOptions(DecodeOptions):
    """The options of `sdtrt.decode`, except the model."""

    region: Region | None = None
    partial: bool = False
    strip: bool = False
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        DecodeOptions.__post_init__(self)
        checked_truth("strip", self.strip)
        checked_instance("limits", self.limits, Limits, EXPECTED_LIMITS)
        if checked_truth("partial", self.partial) and (self.region is not None or self.denoise_steps):
            raise ValueError("a partial image has no region and is not denoised")


class Codec:
    """A model, opened once for many calls. Several threads may share it. Close it, or use it as a context manager.

    A codec can be pickled and copied, also after use: loading the pickle opens the model again with the same options. A
    closed codec stays closed.
    """

    def __init__(self, engine_codec: EngineCodec) -> None:
        """Not for direct use: call `Codec.open`."""
        self._engine_codec: EngineCodec | None = engine_codec

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str] = BUILT_IN,
        *,
        device: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
        precision: str = "auto",
        tile: int | None = None,
        overlap: int | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Open a model. Networks on the CPU are loaded at their first use.

        Arguments:
            model: the name of a model, or the folder of a bundle. Default "tiny".
            device: "cpu", "cuda" or "cuda:N". "auto" (default) takes the first device that works on this machine.
            backend: "trt", "ort" or "openvino". "auto" (default) takes the fastest one that works here; `sdtrt doctor`
                explains why the others do not.
            threads: int, at least 1: threads of each network on the CPU. Default None: one per core that this process
                may use.
            precision: "fp32"; "bf16" (OpenVINO, a processor with bfloat16); "int8" (a bundle with a decoder in eight
                bits); "auto" (default): the fastest after `sdtrt doctor --measure`, before it "bf16", else "fp32".
            tile: int, pixels: the side of the tiles in which larger images go through the networks. 0 disables tiles.
                Default None: a side that fits the model. The default tiles of "tiny" do not change the result.
            overlap: int, pixels: how far neighbouring tiles overlap. Default None: an overlap that fits the model.
            report: a function of two numbers: the tiles of an image that are done, and all its tiles. It is called
                before the first tile and after each tile. Default None.

        Raises:
            BundleError: the model does not exist or is damaged.
            DeviceError: this machine cannot run the model.
            ValueError, TypeError: an argument is wrong.

        Examples:
            >>> with sdtrt.Codec.open(device="cpu") as codec:
            ...     files = codec.encode_batch(["a.jpg", "b.jpg"], quality=40)
        """
        if report is not None and not callable(report):
            raise TypeError(f"report is {value_text(report)}, expected a function of two numbers, or None")
        machine: dict[str, Any] = {"device": device, "backend": backend, "threads": threads, "precision": precision}
        return cls(EngineCodec(model, **machine, tile=tile, overlap=overlap, report=report))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def warm(self, width: int, height: int) -> None:
        """Load the networks and run them once on an image of a size, so that later calls for that size are fast."""
        codec = self._opened()
        height, width = (checked_integer(*side, 1, MAX_SIDE) for side in (("height", height), ("width", width)))
        codec.decode(codec.encode(ImageData(np.zeros((height, width, 3), np.uint8)), EncodeOptions()))

    def close(self) -> None:
        """Release the networks after the device has done its queued work. Any later call raises `ValueError`."""
        self._engine_codec = None

    def encode(
        self,
        image: ImageLike,
        *,
        quality: float | None = None,
        max_bytes: int | None = None,
        bpp: float | None = None,
        target_psnr: float | None = None,
        effort: int = DEFAULT_EFFORT,
        method: Method = "latents",
        layers: int = 2,
        roi: Roi | None = None,
        roi_weight: float = DEFAULT_ROI_WEIGHT,
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> bytes:
        """Encode an image and return the bytes of an `.sdt` file.

        Arguments, errors and warnings are those of `sdtrt.encode`, without `model`. A closed codec raises `ValueError`.
        """
        options = ImageEncodeOptions(
            quality=quality,
            max_bytes=max_bytes,
            bpp=bpp,
            target_psnr=target_psnr,
            effort=effort,
            method=method,
            layers=layers,
            roi=roi,
            roi_weight=roi_weight,
            strip=strip,
            limits=limits,
        )
        return self._encode(image, options)

    def _encode(self, image: ImageLike, options: ImageEncodeOptions) -> bytes:
        codec, image_data = self._opened(), to_engine_image(image, strip=options.strip, limits=options.limits)
        return codec.encode(image_data, options, weights_of(image_data, options))

    def decode(
        self,
        source: Source,
        *,
        region: Region | None = None,
        partial: bool = False,
        denoise: Denoise = "auto",
        look: LookOption = "auto",
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Image.Image:
        """Decode an `.sdt` file and return its image, of mode L, LA, RGB or RGBA.

        Arguments, errors and warnings are those of `sdtrt.decode`, without `model`. A file of another latent space than
        this model's raises `BundleError`, a closed codec `ValueError`.
        """
        options = ImageDecodeOptions(
            region=region, partial=partial, denoise=denoise, look=look, strip=strip, limits=limits
        )
        return self._decode(source, options)

    def _decode(self, source: Source | File, options: ImageDecodeOptions) -> Image.Image:
        """Decode a file, which may be parsed already unless the options ask for a partial image."""
        codec, limits = self._opened(), options.limits
        if isinstance(source, File):
            if options.region is None:
                image = codec.decode(source, limits, options)
            else:
                image = regions.decode_region(codec, source, options.region, limits, options)
        elif options.partial:
            image = salvage.salvage(codec, bytes_of(source), limits, options)
        else:
            with opened(source) as content:
                return self._decode(parse(content, limits, lazily=options.region is not None), options)
        return to_pil(image, strip=options.strip)

    def preview(
        self, source: Source, *, scale: int = 8, strip: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> Image.Image:
        """Decode an `.sdt` file at 1/`scale` of its size. Sides are rounded up.

        Arguments and errors are those of `sdtrt.preview`, without `model`.
        """
        checked_truth("strip", strip)
        with opened(source) as content:
            return self._preview(parse(content, limits, lazily=True), scale=scale, strip=strip, limits=limits)

    def _preview(self, file: File, *, scale: int, strip: bool, limits: Limits) -> Image.Image:
        return to_pil(regions.preview(self._opened(), file, scale, limits), strip=strip)

    def decode_rows(
        self, source: Source, *, denoise: Denoise = "auto", look: LookOption = "auto", limits: Limits = DEFAULT_LIMITS
    ) -> Iterator[U8Array]:
        """Return an iterator over the RGB pixels of a file, in bands of rows, uint8 (n, width, 3), from top to bottom.

        The image is never held whole. Memory holds a row of tiles, or all latents if they are denoised. A wrong
        argument or a damaged head raises at the call, damage further on while iterating. A file given by its path is
        closed at the end, at an error, by the iterator's `close`, and when the iterator is dropped.

        Arguments:
            source: as for `sdtrt.decode`.
            denoise: as for `sdtrt.decode`.
            look: as for `sdtrt.decode`.
            limits: as for `sdtrt.decode`.

        Raises:
            ValueError, TypeError, FormatError, LimitError, BundleError, DeviceError, OSError: as `sdtrt.decode` does.
        """
        codec, options = self._opened(), DecodeOptions(denoise, look)
        with ExitStack() as stack:
            content = stack.enter_context(opened(source))
            _, rows = regions.decode_rows(codec, content, limits, options)
            return RowIterator(rows, stack.pop_all())

    def encode_rows(
        self,
        rows: Iterable[U8Array],
        width: int,
        height: int,
        *,
        quality: float | None = None,
        effort: int = DEFAULT_EFFORT,
        grey: bool = False,
        metadata: Metadata = NO_METADATA,
    ) -> bytes:
        """Encode an image that comes in bands of rows, and is never held whole. Memory holds a row of tiles.

        The file equals that of `encode` with `layers=1`: the layers need the whole image. No limit applies, because the
        caller states the size.

        Arguments:
            rows: bands of rows, uint8 (n, width, 3), from top to bottom.
            width: int, at least 1: the width of the image in pixels.
            height: int, at least 1: the height of the image in pixels.
            quality: float, 1 (smallest) to 100 (best). Default None: 50.
            effort: int, 1 (fast) to 9 (slow), default 5.
            grey: bool, default False: decoders return an image with one channel.
            metadata: EXIF, XMP and text to store. Default: none.

        Raises:
            ValueError: there are more or fewer rows than `height`, or an argument is out of range.
            TypeError: an argument has a wrong type.
        """
        options = EncodeOptions(quality=quality, effort=effort)
        checked_instance("metadata", metadata, Metadata, "a Metadata")
        checked_truth("grey", grey)
        return regions.encode_rows(self._opened(), rows, width, height, options, grey=grey, metadata=metadata)

    def encode_batch(
        self,
        images: Iterable[ImageLike],
        *,
        quality: float | None = None,
        max_bytes: int | None = None,
        bpp: float | None = None,
        target_psnr: float | None = None,
        effort: int = DEFAULT_EFFORT,
        method: Method = "latents",
        layers: int = 2,
        roi: Roi | None = None,
        roi_weight: float = DEFAULT_ROI_WEIGHT,
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> list[bytes]:
        """Encode several images with the same options, and return the file of each.

        Networks and entropy coding overlap, and a device takes several images at once. Arguments, errors and warnings
        are those of `encode`; `roi` applies to every image. An error has a note with the image's number, counted from
        0, and its path.
        """
        options = ImageEncodeOptions(
            quality=quality,
            max_bytes=max_bytes,
            bpp=bpp,
            target_psnr=target_psnr,
            effort=effort,
            method=method,
            layers=layers,
            roi=roi,
            roi_weight=roi_weight,
            strip=strip,
            limits=limits,
        )
        codec = self._opened()
        images_data = each_item(
            "images", images, lambda image: to_engine_image(image, strip=options.strip, limits=options.limits)
        )
        weights = None if roi is None else lambda image_data: weights_of(image_data, options)
        return list(codec.encode_batch(images_data, options, weights))

    def decode_batch(
        self,
        files: Iterable[Source],
        *,
        region: Region | None = None,
        partial: bool = False,
        denoise: Denoise = "auto",
        look: LookOption = "auto",
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> list[Image.Image]:
        """Decode several files with the same options, and return the image of each.

        Several files are decoded at once. Files are decoded one after the
        other if `region` or `partial` is given. Arguments, errors and warnings are those of `decode`. An error in a
        file or its symbols has a note with the file's number, counted from 0.
        """
        options = ImageDecodeOptions(
            region=region, partial=partial, denoise=denoise, look=look, strip=strip, limits=limits
        )
        codec = self._opened()
        if options.partial or options.region is not None:
            return list(each_item("files", files, lambda source: self._decode(source, options)))
        images_data = codec.decode_batch(each_item("files", files, bytes_of), options.limits, options)
        return [to_pil(image_data, strip=options.strip) for image_data in images_data]

    def decode_into(
        self,
        source: Source,
        array: Any,
        *,
        stream: Any,
        denoise: Denoise = "auto",
        look: LookOption = "auto",
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Queue the decoding of a file into device memory, in order with a CUDA stream.

        The call returns when the work is queued: later work on `stream` finds the RGB pixels in the array. Keep the
        array until then. Alpha and metadata are neither written nor checked. A grey image has three channels, equal but
        for rounding. There is no `region` and no `partial`: the array receives the whole image.

        Damage and limits are noticed before anything is queued for the array. If the device fails later, `stream` waits
        for all work that may still write into the array.

        Arguments:
            array: a C-contiguous device array, uint8 (height, width, 3), with `__cuda_array_interface__` or DLPack.
            stream: an object with `__cuda_stream__`, or the handle of a stream. The default stream is refused.
            source: as for `sdtrt.decode`.
            denoise: as for `sdtrt.decode`.
            look: as for `sdtrt.decode`.
            limits: as for `sdtrt.decode`.

        Raises:
            DeviceError: this codec runs on the CPU, or the device fails.
            ValueError, TypeError: the array or the stream is unfit, or an option is wrong.
            FormatError, LimitError, BundleError, OSError: as `sdtrt.decode` does.
        """
        codec, options = self._opened(), DecodeOptions(denoise, look)
        codec.decode_into(bytes_of(source), array, stream, limits, options)

    def encode_latents(
        self,
        latents: "LatentsLike",
        *,
        quality: float | None = None,
        max_bytes: int | None = None,
        bpp: float | None = None,
        effort: int = DEFAULT_EFFORT,
        method: Method = "latents",
        width: int | None = None,
        height: int | None = None,
        key: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> bytes:
        """Encode latents of this model's latent space, and return the bytes of an `.sdt` file.

        Arguments, errors and warnings are those of `sdtrt.encode_latents`, without `latent_space`.
        """
        from sdtrt.latents.coding import LatentsEncodeOptions, latents_to_file

        options = LatentsEncodeOptions(
            quality=quality,
            max_bytes=max_bytes,
            bpp=bpp,
            effort=effort,
            method=method,
            width=width,
            height=height,
            key=key,
            limits=limits,
        )
        return latents_to_file(latents, self._opened().profile, options, stacklevel=2)

    def decode_latents(self, source: Source, *, limits: Limits = DEFAULT_LIMITS) -> F32Array:
        """Return the latents in an `.sdt` file, float32 (C, h, w), as the decoder gets them.

        Arguments and errors are those of `sdtrt.decode_latents`.
        """
        profile = self._opened().profile
        return decode_latents(container.read(bytes_of(source), limits), limits, profile)

    def _opened(self) -> EngineCodec:
        if self._engine_codec is None:
            raise ValueError("this codec is closed")
        return self._engine_codec


def weights_of(image_data: ImageData, options: ImageEncodeOptions) -> RoiWeights | None:
    """Return the ROI weights of an image; None without a region of interest."""
    if options.roi is None:
        return None
    height, width = image_data.pixels.shape[:2]
    return roi_weights(options.roi, options.roi_weight, width, height)


class RowIterator(Iterator[U8Array]):
    """An iterator over bands of rows that closes their file at its end."""

    def __init__(self, rows: Iterator[U8Array], file: ExitStack) -> None:
        self._rows, self._file = rows, file

    def __next__(self) -> U8Array:
        try:
            return next(self._rows)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the iteration, and close the file if it was opened from a path."""
        self._rows = iter(())
        self._file.close()

    def __del__(self) -> None:
        self.close()


def each_item(name: str, items: Iterable[In], work: Callable[[In], Out]) -> Iterator[Out]:
    """Return an iterator over the results of `work`; a note of each error gives the item's number, counted from 0.

    `name` is the argument's name. `TypeError` is raised at once if the argument is not a collection.
    """
    iterator: Iterator[In] = checked_items(name, items, "a list or another iterable")

    def results() -> Iterator[Out]:
        for position, item in enumerate(iterator):
            try:
                result = work(item)
            except TypeError as error:
                raise TypeError(f"{name}[{position}]: {error}") from error
            except Exception as error:
                path = f": {printable(os.fsdecode(item))}" if isinstance(item, str | os.PathLike) else ""
                error.add_note(f"number {position} of the batch, from 0{path}")
                raise
            yield result

    return results()
