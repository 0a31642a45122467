"""Functions for a single image. Models stay open for the next call; see `SharedCodecs`."""

import os
from collections import OrderedDict
from pathlib import Path
from threading import RLock

from PIL import Image

from sdtrt._arrays import F32Array
from sdtrt.codec import Codec, ImageDecodeOptions, ImageEncodeOptions
from sdtrt.engine.codec import EngineCodec, checked_model
from sdtrt.engine.coding import latent_file
from sdtrt.engine.coding.encode_options import DEFAULT_EFFORT, DEFAULT_ROI_WEIGHT, Method
from sdtrt.engine.format import container
from sdtrt.engine.format.arguments import checked_truth
from sdtrt.engine.format.container import File
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits
from sdtrt.engine.networks.bundle import Bundle, find_bundle, find_bundle_for, model_profile_for
from sdtrt.engine.networks.choices import BUILT_IN, LookOption
from sdtrt.engine.networks.decode_request import Denoise
from sdtrt.engine.networks.open_networks import keep_forever
from sdtrt.engine.part_options import Region
from sdtrt.images.convert import ImageLike
from sdtrt.images.roi import Roi
from sdtrt.images.sources import Source, bytes_of, opened, parse
from sdtrt.latents.coding import LatentsEncodeOptions, LatentsLike, latents_to_file
from sdtrt.latents.spaces import profile_of_space


class SharedCodecs:
    """The codecs of functions for a single image. The last models that were used stay open for the next call.

    A model whose files have changed is opened again. A forked process opens its models itself.
    """

    MAX_OPEN = 2

    def __init__(self) -> None:
        self._codecs: OrderedDict[Path, tuple[Bundle, Codec]] = OrderedDict()
        self._lock = RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def codec(self, bundle: Bundle) -> Codec:
        """Return the codec of a bundle, opened with the default options."""
        with self._lock:
            if bundle.folder in self._codecs and self._codecs[bundle.folder][0] is not bundle:
                del self._codecs[bundle.folder]  # its files have changed
            if bundle.folder not in self._codecs:
                self._codecs[bundle.folder] = bundle, Codec(EngineCodec(bundle))
            self._codecs.move_to_end(bundle.folder)
            while len(self._codecs) > self.MAX_OPEN:
                self._codecs.popitem(last=False)
            return self._codecs[bundle.folder][1]

    def close(self) -> None:
        """Release all models."""
        with self._lock:
            self._codecs.clear()

    def _forget(self) -> None:
        keep_forever(self._codecs)
        self._codecs, self._lock = OrderedDict(), RLock()


shared_codecs = SharedCodecs()


def encode(
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
    model: str | os.PathLike[str] = BUILT_IN,
) -> bytes:
    """Encode an image and return the bytes of an `.sdt` file. The same image and options give the same
    bytes on the same machine with the same backend.

    At most one of `quality`, `max_bytes`, `bpp` and `target_psnr` may be given. Without them the quality is 50. To
    encode many images, open a `Codec` once. An `ImageWarning` names each part of the image that the file cannot hold,
    such as more than 8 bits per channel.

    Arguments:
        image: a Pillow image, a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4), or the path of an image file.
        quality: float, 1 (smallest) to 100 (best).
        max_bytes: int, at least 1: the largest size of the whole file in bytes. The best quality that fits is taken;
            it may lie outside 1 to 100.
        bpp: float, above 0: the largest size in bits per pixel of the image. The quality is chosen as for `max_bytes`.
        target_psnr: float, above 0: the lowest PSNR in dB of the image, decoded in the faithful look. The smallest file
            that the search finds is taken.
        effort: int, 1 (fast) to 9 (slow), default 5. More effort gives a better image at the same size.
        method: "latents" (default), or "palette", the baseline of 2022: 256 colours of latents, deflated.
        layers: int, default 2. 1 stores latents alone, without the overlay (exact text and line art) and the residual
            (fine detail above quality 50).
        roi: the region of interest: (left, top, width, height) in pixels, or a mask of the image's size as a uint8
            array (H, W), a Pillow image or a path. 255 is inside the region, 0 is outside. Default None.
        roi_weight: float, 1 to 64, default 4: the factor of the squared error in the region. At the same quality the
            file grows; at the same size the rest of the image loses.
        strip: bool, default False: leave out EXIF, XMP and text.
        limits: a `Limits`: how many pixels the image may have. Default `Limits()`.
        model: the name of a model, or the folder of a bundle. Default "tiny".

    Raises:
        ValueError: an option is out of range, or the options exclude each other; no file is small or good enough; the
            image is damaged or has no pixels.
        TypeError: an argument has a wrong type.
        LimitError: the image has more pixels than `limits` allows.
        OSError: the image file is missing, or is of no kind that Pillow reads.
        BundleError: the model does not exist or is damaged.
        DeviceError: this machine cannot run the model.

    Examples:
        >>> data = sdtrt.encode("photo.jpg", max_bytes=2000)
        >>> len(data) <= 2000
        True
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
    return shared_codecs.codec(find_bundle(checked_model(model)))._encode(image, options)


def decode(
    source: Source,
    *,
    region: Region | None = None,
    partial: bool = False,
    denoise: Denoise = "auto",
    look: LookOption = "auto",
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    model: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Decode an `.sdt` file and return its image, of mode L, LA, RGB or RGBA.

    Arguments:
        source: the file's bytes, its path, or a binary stream. A stream is read from its position and put back there.
        region: (left, top, width, height) in pixels. The result equals a crop of the whole image. Only the tiles of a
            large file that the region needs are read and decoded. Default None: the whole image.
        partial: bool, default False: decode the readable part of a damaged or truncated file. Missing parts are coarse
            or grey. An `ImageWarning` and the image's `info["sdtrt:missing"]` name them.
        denoise: the number of steps in which the model's UNet denoises the latents, 0 to 1000; "off" is the same as 0.
            "auto" (default) takes the number that the model's bundle recommends for the file's quality, usually 0.
        look: "faithful" has the least error. "fast" takes less time and has more error; beside a fine residual it is
            decoded as "faithful". A model may lack a decoder for "fast". "auto" (default) takes the look that its
            bundle recommends.
        strip: bool, default False: leave the image's `info` without EXIF, XMP and text, and without the IPTC mark of an
            image that an algorithm has altered.
        limits: a `Limits`: how many pixels and bytes the file may ask for. Default `Limits()`.
        model: the name of a model, or the folder of a bundle. Default None: the first model of the file's latent space.

    Raises:
        FormatError: the file is damaged, and `partial` is False; or its head is damaged.
        LimitError: the file exceeds `limits`.
        BundleError: no model has the file's latent space, or the model lacks the UNet for `denoise` or the decoder for
            `look`.
        DeviceError: this machine cannot run the model.
        ValueError: the region is not within the image, or an option is out of range.
        TypeError: an argument has a wrong type.
        OSError: the file cannot be read.

    Examples:
        >>> image = sdtrt.decode("photo.sdt", region=(0, 0, 64, 48))
        >>> image.size
        (64, 48)
    """
    options = ImageDecodeOptions(region=region, partial=partial, denoise=denoise, look=look, strip=strip, limits=limits)
    with opened(source) as content:
        if options.partial:
            data = content if isinstance(content, bytes) else content.read()
            bundle = _bundle(model, container.salvage(data, limits).file)
            return shared_codecs.codec(bundle)._decode(data, options)
        file = parse(content, limits, lazily=region is not None)
        return shared_codecs.codec(_bundle(model, file))._decode(file, options)


def preview(
    source: Source,
    *,
    scale: int = 8,
    strip: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    model: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Decode an `.sdt` file at 1/`scale` of its size. Sides are rounded up.

    In the latent spaces "tiny" and "sd1" no network runs for a `scale` that is a multiple of 8: the coarse part of the
    file is enough. Any other preview is made from the whole image, in the look "fast" if the model has a decoder for
    it and its default look is "faithful". A backend must be installed in both cases.

    Arguments:
        source: the file's bytes, its path, or a binary stream.
        scale: int, 1 to 1024, default 8.
        strip: as for `decode`.
        limits: as for `decode`.
        model: as for `decode`.

    Raises:
        ValueError, TypeError, FormatError, LimitError, BundleError, DeviceError, OSError: as `decode` does.

    Examples:
        >>> sdtrt.preview("photo.sdt", scale=16).size
        (48, 32)
    """
    checked_truth("strip", strip)
    with opened(source) as content:
        file = parse(content, limits, lazily=True)
        return shared_codecs.codec(_bundle(model, file))._preview(file, scale=scale, strip=strip, limits=limits)


def encode_latents(
    latents: LatentsLike,
    *,
    latent_space: str,
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
    """Encode latents and return the bytes of an `.sdt` file. No network and no backend is needed.

    At most one of `quality`, `max_bytes` and `bpp` may be given. Without them the quality is 50. A `LatentsWarning` is
    given for latents whose spread no image has; it names the scaling factor that was probably applied.

    Arguments:
        latents: floating-point numbers of shape (C, h, w) or (1, C, h, w), at unit scale: a NumPy array, a torch tensor
            on any device, an object with DLPack or `__array__`, or the path of a `.npy`, `.npz` or `.safetensors` file.
        latent_space: "sd1", "tiny", or the name of a space for which a bundle lies under `$SDTRT_MODELS`.
        quality: float, 1 (smallest) to 100 (best).
        max_bytes: int, at least 1: the largest size of the whole file in bytes.
        bpp: float, above 0: the largest size in bits per pixel of the image.
        effort: int, 1 (fast) to 9 (slow), default 5.
        method: "latents" (default), or "palette", the baseline of 2022, for 4 channels.
        width: int, the width of the image in pixels. Default None: the width that the latents cover.
        height: int, the height of the image in pixels. Default None: the height that the latents cover.
        key: the name of the array in a `.npz` or `.safetensors` file. Default None: `latents`, `latent_tensor` or the
            only array.
        limits: a `Limits`: how many pixels the image may have, and how many values the latents. Default `Limits()`.

    Raises:
        ValueError: the latents do not fit the space or the size of the image; an option is out of range; no file is
            small enough.
        TypeError: the latents are not an array, or an argument has a wrong type.
        BundleError: the latent space is unknown.
        LimitError: the latents exceed `limits`.

    Examples:
        >>> data = sdtrt.encode_latents(latents, latent_space="sd1", quality=60)
    """
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
    return latents_to_file(latents, profile_of_space(latent_space), options, stacklevel=2)


def decode_latents(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> F32Array:
    """Return the latents in an `.sdt` file, float32 (C, h, w) at unit scale, as a decoder would get them.

    No network and no backend is needed.

    Arguments:
        source: the file's bytes, its path, or a binary stream.
        limits: a `Limits`: how many pixels and bytes the file may ask for. Default `Limits()`.

    Raises:
        FormatError: the file is damaged.
        LimitError: the file exceeds `limits`.
        BundleError: the file refers to a prior of a model, and the model's bundle is missing.

    Examples:
        >>> sdtrt.decode_latents("photo.sdt").shape
        (40, 64, 96)
    """
    file = container.read(bytes_of(source), limits)
    return latent_file.decode_latents(file, limits, model_profile_for(file))


def _bundle(model: str | os.PathLike[str] | None, file: File) -> Bundle:
    """Open the bundle that decodes a file; the first one of its latent space if `model` is None."""
    return find_bundle_for(file) if model is None else find_bundle(checked_model(model))
