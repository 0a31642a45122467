"""`Codec`: a model, opened once for many calls."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Self, TypeVar

import numpy as np
from PIL import Image

from sdtrt._arrays import F32Array, U8Array
from sdtrt.engine import parts
from sdtrt.engine.codec import EngineCodec, require_no_roi
from sdtrt.engine.coding.latent_file import decode_latents
from sdtrt.engine.coding.rate_control import EncodeOptions, Method
from sdtrt.engine.coding.roi import RoiWeights
from sdtrt.engine.coding.stream_codec import DEFAULT_EFFORT
from sdtrt.engine.format import container
from sdtrt.engine.format.arguments import checked_instance, checked_integer, checked_items, checked_truth, value_text
from sdtrt.engine.format.container import MAX_SIDE
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits, checked_limits
from sdtrt.engine.format.metadata import NO_METADATA, Metadata
from sdtrt.engine.image import ImageData, Region
from sdtrt.engine.networks.bundle import BUILT_IN
from sdtrt.engine.networks.decode_options import DecodeOptions, Denoise, LookOption
from sdtrt.images.convert import ImageLike, to_engine_image, to_pil
from sdtrt.images.roi import DEFAULT_WEIGHT, Roi, checked_weight, roi_weights
from sdtrt.latents.coding import LatentsLike, file_of
from sdtrt.process.text import printable
from sdtrt.sources import Source, bytes_of, opened

In = TypeVar("In")
Out = TypeVar("Out")


class Codec:
    """A model, opened once for many calls. Usable from several threads; close it, or use it as a context manager.

    A codec can be pickled and copied, also after it was used: the model is opened again, by the same options, where
    the pickle is loaded. A closed codec stays closed.
    """

    def __init__(self, pictures: EngineCodec) -> None:
        """Not for direct use: `Codec.open`."""
        self._pictures: EngineCodec | None = pictures

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
        """Open a model by its name, or a bundle by its folder.

        Arguments:
            model: the name of a model, or the folder of a bundle; "tiny" by default.
            device: "auto", "cpu", "cuda" or "cuda:N"; "auto" takes the first that works on this machine.
            backend: "auto", "trt", "ort" or "openvino"; `sdtrt doctor` says why some do not work here.
            threads: threads of each network on the CPU; None is one per core that this process may use.
            precision: "fp32", "bf16", which needs OpenVINO and a processor with bfloat16, or "auto", which is bf16
                where OpenVINO runs and the processor has it.
            tile: pixels; larger images go through the networks in tiles. 0 is without tiles, None fits the model: for
                "tiny" such tiles change nothing.
            overlap: pixels by which tiles overlap; None fits the model.
            report: called with the number of tiles of an image that are done, and of all, before the first tile and
                after each one.

        Networks on the CPU are loaded at their first use. Raises `BundleError` if there is no such model,
        `DeviceError` if the machine cannot run it, `TypeError` or `ValueError` for a wrong argument.
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
        """Load the networks and run them on a picture of a size, so that no later call for that size waits for it."""
        codec = self._opened()
        height, width = (
            checked_integer(name, side, 1, MAX_SIDE) for name, side in (("height", height), ("width", width))
        )
        codec.decode(codec.encode(ImageData(np.zeros((height, width, 3), np.uint8)), EncodeOptions()))

    def close(self) -> None:
        """Release the networks, once the device has done what is queued; any later call raises `ValueError`."""
        self._pictures = None

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
        roi_weight: float = DEFAULT_WEIGHT,
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> bytes:
        """Return an image as the bytes of an `.sdt` file; the same image gives the same bytes.

        Arguments:
            image: a Pillow image, an array, uint8 (H, W), (H, W, 3) or (H, W, 4), or the path of an image file.
            quality: 1 (smallest) to 100 (best), 50 if nothing is asked for. Or one of the following instead:
            max_bytes: the largest size of the whole file; the best quality that fits is taken, also beyond 1 or 100.
            bpp: the same as a rate.
            target_psnr: the lowest PSNR in dB of the image in the faithful look, for about the smallest file.
            effort: 1 (fast) to 9 (slow): how hard better pictures of a size are looked for.
            method: "latents", or "palette" for the method of 2022, a baseline: 256 colours of latents, deflated.
            layers: 2, or 1 for latents alone: without what networks cannot hold, letters and lines exactly and fine
                detail at qualities above 50.
            roi: a region of interest, (left, top, width, height), or a mask of the image's size: an array, uint8
                (H, W), an image or a path, white where interest is. Error there counts `roi_weight` times, 1 to 64:
                at an equal quality the rest stays as it is and the file grows, at equal bytes the rest loses.
            strip: leave out EXIF, XMP and text, which are kept otherwise.

        Raises `ValueError` if the image has no file so small or so good, `LimitError` if it exceeds `limits`. What of
        it will not be in the file, such as bits beyond 8, is told by an `ImageWarning`.
        """
        options = EncodeOptions(
            quality=quality,
            max_bytes=max_bytes,
            bpp=bpp,
            target_psnr=target_psnr,
            effort=effort,
            method=method,
            layers=layers,
        )
        require_no_roi(options, roi)
        codec, weight = self._opened(), checked_weight(roi_weight)
        picture = to_engine_image(image, strip=strip, limits=limits)
        height, width = picture.pixels.shape[:2]
        weights = None if roi is None else roi_weights(roi, weight, width, height)
        return codec.encode(picture, options, weights)

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
        """Return the image in an `.sdt` file, of mode L, LA, RGB or RGBA.

        Arguments:
            source: the file's bytes, its path, or a binary stream, read from where it stands, and put back there.
            region: (left, top, width, height) in pixels: that part alone, the same as if it were cropped from the
                whole; of a large file only the streams that it needs are read and decoded.
            partial: show what there is of a file that is cut short or damaged; what is missing, which is coarse or
                grey, is told by an `ImageWarning` and in the image's `info["sdtrt:missing"]`.
            denoise: in how many steps the model's UNet cleans the latents, 0 or "off" for none; "auto" is what the
                model's bundle recommends, which is none unless it was measured to help at the file's quality.
            look: "faithful", with the least error, or "vivid", as sharp and rich as the file leaves room for, if the
                model has a decoder for that; it fades out where the file has a residual. "auto" is what the model's
                bundle recommends.
            strip: leave out EXIF, XMP and text, which are in the image's `info` otherwise, and with them, in IPTC's
                words, that the image was altered by an algorithm.

        Raises `FormatError` if the file is damaged, `LimitError` if it exceeds `limits`, `BundleError` if it is in
        another latent space than this model's, or is to be denoised and the model has no UNet, or to be vivid and it
        has no decoder for that; `ValueError` if the region is not within the image.
        """
        codec, options = self._opened(), DecodeOptions.of(denoise, look)
        checked_truth("strip", strip)
        if checked_truth("partial", partial):
            if region is not None or options.denoise:
                raise ValueError("a partial image has no region and is not denoised")
            return to_pil(parts.salvage(codec, bytes_of(source), limits, options), strip=strip)
        if region is None:
            return to_pil(codec.decode(bytes_of(source), limits, options), strip=strip)
        with opened(source) as found:
            return to_pil(parts.decode_region(codec, found, region, limits, options), strip=strip)

    def preview(
        self, source: Source, *, scale: int = 8, strip: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> Image.Image:
        """Return the image in a file at 1/`scale` of its size, sides rounded up; source and errors as of `decode`.

        With "tiny" and "sd1", a multiple of 8 is had without a network from the coarse part of the file; anything else
        is made from the whole image.
        """
        checked_truth("strip", strip)
        with opened(source) as found:
            return to_pil(parts.preview(self._opened(), found, scale, limits), strip=strip)

    def decode_rows(
        self, source: Source, *, denoise: Denoise = "auto", look: LookOption = "auto", limits: Limits = DEFAULT_LIMITS
    ) -> Iterator[U8Array]:
        """Return an iterator over the RGB pixels in a file, in bands of rows, uint8 (n, width, 3), from top to bottom.

        The image is never held whole: memory is bounded by a row of tiles, or by the latents if they are denoised.
        Arguments and errors are those of `decode`. What is wrong with the arguments or with the head of the file is
        raised at once, damage further on while iterating. A path is closed at the end, at an error, by the iterator's
        `close`, and when the iterator is dropped.
        """
        codec, options = self._opened(), DecodeOptions.of(denoise, look)
        with ExitStack() as stack:
            found = stack.enter_context(opened(source))
            _, rows = parts.decode_rows(codec, found, limits, options)
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
        """Return the file of an image that comes in bands of rows, uint8 (n, width, 3), from top to bottom.

        The image is never held whole: memory is bounded by a row of tiles. Quality and effort as in `encode` with
        `layers=1`: there are no layers. `grey` says that it is to be given back with one channel; `metadata` is kept
        beside it. No limit applies, since the caller states the size. Raises `ValueError` if the rows do not make up
        the image.
        """
        options = EncodeOptions(quality=quality, effort=effort)
        checked_instance("metadata", metadata, Metadata, "a Metadata")
        checked_truth("grey", grey)
        return parts.encode_rows(self._opened(), rows, width, height, options, grey=grey, metadata=metadata)

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
        roi_weight: float = DEFAULT_WEIGHT,
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> list[bytes]:
        """Return `encode` of each image; networks and entropy coding overlap, and a device takes several at once.

        `roi` is the same for all images. An error has a note of the image's number, from 0, and of its path.
        """
        options = EncodeOptions(
            quality=quality,
            max_bytes=max_bytes,
            bpp=bpp,
            target_psnr=target_psnr,
            effort=effort,
            method=method,
            layers=layers,
        )
        require_no_roi(options, roi)
        checked_truth("strip", strip)
        checked_limits(limits)
        codec, weight = self._opened(), checked_weight(roi_weight)

        def weights_of(picture: ImageData) -> RoiWeights:
            assert roi is not None  # else it is not called
            return roi_weights(roi, weight, picture.pixels.shape[1], picture.pixels.shape[0])

        pictures = each_item("images", images, lambda image: to_engine_image(image, strip=strip, limits=limits))
        return list(codec.encode_batch(pictures, options, None if roi is None else weights_of))

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
        """Return `decode` of each file; stages overlap, and a device takes several files at once.

        With `region`, which is the same for all files, or `partial` they are decoded one after the other. An error has
        a note that says which file it comes from, counted from 0.
        """
        codec, options = self._opened(), DecodeOptions.of(denoise, look)
        checked_truth("strip", strip)
        checked_limits(limits)
        if checked_truth("partial", partial) or region is not None:

            def decode(source: Source) -> Image.Image:
                return self.decode(
                    source, region=region, partial=partial, denoise=denoise, look=look, strip=strip, limits=limits
                )

            return list(each_item("files", files, decode))
        pictures = codec.decode_batch(each_item("files", files, bytes_of), limits, options)
        return [to_pil(picture, strip=strip) for picture in pictures]

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

        Arguments:
            source: as in `decode`.
            array: a C-contiguous device array, uint8 (height, width, 3), with `__cuda_array_interface__` or DLPack.
            stream: an object with `__cuda_stream__`, or a stream's handle; not the default stream.
            denoise: as in `decode`.
            look: as in `decode`.
            limits: as in `decode`.

        Returns when the work is queued: what is queued on `stream` afterwards finds the RGB pixels in the array. Keep
        the array until then. Alpha and metadata are left out, and are not checked. A grey image has three equal
        channels but for rounding. A region and what is left of a damaged file are had by `decode` alone.

        Raises as `decode` does, and `DeviceError` if this codec runs on the CPU, `TypeError` or `ValueError` if the
        array or stream is unfit. A damaged file or a limit is noticed before anything is queued for the array. If the
        device fails later, `stream` waits for all that may still be written into the array.
        """
        codec, options = self._opened(), DecodeOptions.of(denoise, look)
        codec.decode_into(bytes_of(source), array, stream, limits, options)

    def encode_latents(
        self,
        latents: LatentsLike,
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
        """Return latents as a file; see `sdtrt.encode_latents`. They are of this model's latent space."""
        options = EncodeOptions(quality=quality, max_bytes=max_bytes, bpp=bpp, effort=effort, method=method)
        profile = self._opened().profile
        return file_of(latents, profile, options, size=(width, height), key=key, limits=limits, stacklevel=2)

    def decode_latents(self, source: Source, *, limits: Limits = DEFAULT_LIMITS) -> F32Array:
        """Return a file's latents, float32 (C, h, w), as the decoder would see them."""
        profile = self._opened().profile
        return decode_latents(container.read(bytes_of(source), limits), limits, profile)

    def _opened(self) -> EngineCodec:
        if self._pictures is None:
            raise ValueError("this codec is closed")
        return self._pictures


class RowIterator(Iterator[U8Array]):
    """Bands of rows, and the file that they come from, which is closed with them."""

    def __init__(self, rows: Iterator[U8Array], file: ExitStack) -> None:
        self._rows, self._file = rows, file

    def __next__(self) -> U8Array:
        try:
            return next(self._rows)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, if it was opened from a path."""
        self._rows = iter(())
        self._file.close()

    def __del__(self) -> None:
        self.close()


def each_item(name: str, items: Iterable[In], work: Callable[[In], Out]) -> Iterator[Out]:
    """Return an iterator over `work` of each item; errors say which item they come from, counted from 0.

    `name` is that of the argument: if it is no collection, `TypeError` is raised at once.
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
