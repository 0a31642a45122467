"""The Python face: `encode`, `decode`, `info`, `verify`, and `Codec` for many calls."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdtrt.engine.codec import PictureCodec
from sdtrt.engine.coding.entropy import DEFAULT_EFFORT
from sdtrt.engine.coding.latents import latents_of_file
from sdtrt.engine.coding.rate import Method, Wish
from sdtrt.engine.denoising.denoise import checked_steps
from sdtrt.engine.format import container
from sdtrt.engine.format.alpha import alpha_of_file
from sdtrt.engine.format.container import DEFAULT_LIMITS, Limits
from sdtrt.engine.format.metadata import metadata_of_file
from sdtrt.engine.format.profile import PALETTE, profile_of_file
from sdtrt.engine.networks.bundle import BUILT_IN, find_decoder
from sdtrt.images.picture import ImageLike, image_of, picture_of

Denoise = int | Literal["auto"]


class Codec:
    """A model, opened once for many calls. Usable from several threads; close it, or use it as a context manager."""

    def __init__(self, pictures: PictureCodec) -> None:
        """Not for direct use: `Codec.open`."""
        self._pictures: PictureCodec | None = pictures

    @classmethod
    def open(
        cls,
        model: str | Path = BUILT_IN,
        *,
        device: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Open a model by its name, or a bundle by its folder.

        `device` is "auto", "cpu", "cuda" or "cuda:N", `backend` "auto", "trt" or "ort": of what works on this machine
        the fastest is taken (`sdtrt doctor` tells why not the others). On the CPU networks are loaded at their first
        use, by `threads` threads each, one per core if None. Pictures larger than `tile` pixels go through the networks
        in tiles that overlap by `overlap` pixels; 0 is without tiles, None what suits the model: for "tiny" tiles that
        change nothing. `report` is called with the number of a picture's tiles that are done, and of all, before the
        first and after each. Raises `BundleError` if there is no such model, `DeviceError` if the machine cannot run
        it.
        """
        return cls(
            PictureCodec(
                model, device=device, backend=backend, threads=threads, tile=tile, overlap=overlap, report=report
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the networks; any later call raises `ValueError`."""
        self._pictures = None

    def encode(
        self,
        image: ImageLike,
        *,
        quality: float | None = None,
        nbytes: int | None = None,
        bits_per_pixel: float | None = None,
        psnr: float | None = None,
        effort: int = DEFAULT_EFFORT,
        method: Method = "latents",
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> bytes:
        """Return an image as the bytes of an `.sdt` file; the same image gives the same bytes.

        Arguments:
            image: a Pillow image, an array, uint8 (H, W), (H, W, 3) or (H, W, 4), or the path of an image file.
            quality: 1 (smallest) to 100 (best), 50 if nothing is asked for. Or one of the following instead:
            nbytes: the largest size of the whole file; the best quality that fits, at most 100, is taken.
            bits_per_pixel: the same as a rate.
            psnr: the lowest PSNR in dB of the decoded image; about the smallest file that has it is taken.
            effort: 1 (fast) to 9 (slow): how hard better pictures of a size are looked for.
            method: "latents", or "palette" for the method of 2022, a baseline: 256 colours of latents, deflated.
            strip: leave out EXIF, XMP and text, which are kept otherwise.

        Raises `ValueError` if the image has no file so small or so good, `LimitError` if it exceeds `limits`. What of
        it will not be in the file, such as bits beyond 8, is told by a `PictureWarning`.
        """
        wish = Wish(
            quality=quality, nbytes=nbytes, bits_per_pixel=bits_per_pixel, psnr=psnr, effort=effort, method=method
        )
        return self._opened().encode(picture_of(image, strip=strip, limits=limits), wish)

    def decode(
        self, data: bytes, *, denoise: Denoise = "auto", strip: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> Image.Image:
        """Return the image in an `.sdt` file, of mode L, LA, RGB or RGBA.

        `denoise` is how many steps the model's UNet cleans the latents in, 0 for none; "auto" is what the model's
        bundle recommends, which is none unless it was measured to help at the file's quality. EXIF, XMP and text are in
        the image's `info`, and with them, in IPTC's words, that the image was altered by an algorithm; unless `strip`.

        Raises `FormatError` if the file is damaged, `LimitError` if it exceeds `limits`, `BundleError` if it is in
        another latent space than this model's, or is to be denoised and the model has no UNet.
        """
        return image_of(self._opened().decode(data, limits, steps_of(denoise)), strip=strip)

    def encode_batch(
        self,
        images: Iterable[ImageLike],
        *,
        quality: float | None = None,
        nbytes: int | None = None,
        bits_per_pixel: float | None = None,
        psnr: float | None = None,
        effort: int = DEFAULT_EFFORT,
        method: Method = "latents",
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> list[bytes]:
        """Return `encode` of each image; networks and entropy coding overlap, and a device takes several at once."""
        wish = Wish(
            quality=quality, nbytes=nbytes, bits_per_pixel=bits_per_pixel, psnr=psnr, effort=effort, method=method
        )
        pictures = (picture_of(image, strip=strip, limits=limits) for image in images)
        return list(self._opened().encode_batch(pictures, wish))

    def decode_batch(
        self,
        files: Iterable[bytes],
        *,
        denoise: Denoise = "auto",
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> list[Image.Image]:
        """Return `decode` of each file; networks and entropy coding overlap, and a device takes several at once."""
        pictures = self._opened().decode_batch(files, limits, steps_of(denoise))
        return [image_of(picture, strip=strip) for picture in pictures]

    def decode_into(
        self,
        data: bytes,
        array: Any,
        *,
        stream: Any,
        denoise: Denoise = "auto",
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Queue the decoding of a file into device memory, in order with a CUDA stream.

        Arguments:
            array: a C-contiguous device array, uint8 (height, width, 3), with `__cuda_array_interface__` or DLPack.
            stream: an object with `__cuda_stream__`, or a stream's handle; not the default stream.

        Returns when the work is queued: what is queued on `stream` afterwards finds the RGB pixels in the array. Alpha
        is left out, a grey picture has three equal channels but for rounding. Raises as `decode` does, and
        `DeviceError` if this codec runs on the CPU, `TypeError` or `ValueError` if the array or stream is unfit.
        """
        self._opened().decode_into(data, array, stream, limits, steps_of(denoise))

    def encode_latents(
        self,
        latents: NDArray[np.float32],
        *,
        quality: float | None = None,
        nbytes: int | None = None,
        bits_per_pixel: float | None = None,
        effort: int = DEFAULT_EFFORT,
        method: Method = "latents",
    ) -> bytes:
        """Return latents, float32 (C, h, w) at unit scale, as a file; arguments as in `encode`.

        The picture is taken to fill the latents exactly.
        """
        codec = self._opened()
        wish = Wish(quality=quality, nbytes=nbytes, bits_per_pixel=bits_per_pixel, effort=effort, method=method)
        if latents.ndim != 3:
            raise ValueError(f"latents of shape {latents.shape}, expected (channels, height, width)")
        height, width = (n * codec.profile.downscale for n in latents.shape[1:])
        return codec.encode_latents(latents.astype(np.float32, copy=False), width, height, wish)

    def decode_latents(self, data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.float32]:
        """Return a file's latents, float32 (C, h, w), as the decoder would see them."""
        self._opened()
        return decode_latents(data, limits=limits)

    def _opened(self) -> PictureCodec:
        if self._pictures is None:
            raise ValueError("this codec is closed")
        return self._pictures


@dataclass(frozen=True, slots=True)
class Info:
    """What a file says of itself.

    `channels` 1 to 4 are those of the picture; `quality` is that of the nearest step, None by method "palette".
    """

    width: int
    height: int
    channels: int
    nbytes: int
    bits_per_pixel: float
    method: Method
    quality: float | None
    step: float | None
    latent_space: str
    latent_shape: tuple[int, int, int]
    profile: int
    prior: int


def encode(
    image: ImageLike,
    *,
    quality: float | None = None,
    nbytes: int | None = None,
    bits_per_pixel: float | None = None,
    psnr: float | None = None,
    effort: int = DEFAULT_EFFORT,
    method: Method = "latents",
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    model: str | Path = BUILT_IN,
) -> bytes:
    """Return an image as the bytes of an `.sdt` file; see `Codec.encode`. For many images hold a `Codec`."""
    with Codec.open(model) as codec:
        return codec.encode(
            image,
            quality=quality,
            nbytes=nbytes,
            bits_per_pixel=bits_per_pixel,
            psnr=psnr,
            effort=effort,
            method=method,
            strip=strip,
            limits=limits,
        )


def decode(
    data: bytes,
    *,
    model: str | Path | None = None,
    denoise: Denoise = "auto",
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Image.Image:
    """Return the image in an `.sdt` file, decoded by `model`, or by the first that knows the file's latent space."""
    with Codec.open(model or model_for(data, limits=limits)) as codec:
        return codec.decode(data, denoise=denoise, strip=strip, limits=limits)


def decode_latents(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.float32]:
    """Return a file's latents, float32 (C, h, w) at unit scale, as a decoder would see them. Needs no model."""
    return latents_of_file(container.read(data, limits), limits)


def model_for(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Path:
    """Return the folder of the first model that knows a file's latent space; `BundleError` if none does."""
    return find_decoder(profile_of_file(container.read(data, limits)).latent_space).folder


def steps_of(denoise: Denoise) -> int | None:
    """Return how many steps of denoising are asked for, None for "auto"; `ValueError` if it is neither."""
    return None if denoise == "auto" else checked_steps(denoise)


def info(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Info:
    """Return what a file says of itself; the checksum is checked, the payload is not decoded. Needs no model."""
    file = container.read(data, limits)
    header, profile = file.header, profile_of_file(file)
    palette = header.prior == PALETTE
    return Info(
        width=header.width,
        height=header.height,
        channels=(1 if header.grey else 3) + (container.ALPHA in file.chunks),
        nbytes=len(data),
        bits_per_pixel=8 * len(data) / (header.width * header.height),
        method="palette" if palette else "latents",
        quality=None if palette else round(profile.quality(header.step_code), 1),
        step=None if palette else header.step,
        latent_space=profile.latent_space,
        latent_shape=profile.grid(header.width, header.height),
        profile=header.profile,
        prior=header.prior,
    )


def verify(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> None:
    """Check a file completely, all but the pixels: structure, checksum, every latent, alpha. Needs no model.

    Raises `FormatError` or `LimitError`, as `decode` would.
    """
    file = container.read(data, limits)
    latents_of_file(file, limits)
    alpha_of_file(file)
    metadata_of_file(file)
