"""Request bodies to response bodies by a codec, in batches where the pipeline supports them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from PIL import Image, UnidentifiedImageError

from sdtrt import file_info
from sdtrt._version import __version__
from sdtrt.codec import Codec
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.format.limits import Limits
from sdtrt.errors import LimitError
from sdtrt.images.files import image_file_of_type, on_white
from sdtrt.images.opening import load
from sdtrt.images.sources import Source
from sdtrt.images.web_formats import FORMATS, MAX_SIDES, image_of_bytes
from sdtrt.process.text import printable, without_addresses
from sdtrt.serve.problems import ProblemError

In = TypeVar("In")
Out = TypeVar("Out")
Params = dict[str, Any]  # parameters of a request, by name
ParamsKey = tuple[tuple[str, Any], ...]  # the same parameters as a hashable value
MediaTypes = tuple[str, ...]  # in the client's order of preference

ONE_BY_ONE_OPTIONS = {"roi", "roi_weight"}  # options of encoding that `Codec.encode_batch` lacks
BATCH_OPTIONS = {"look", "strip"}  # options of decoding that `Codec.decode_batch` has
PREVIEW_SCALE = 8  # a preview at this scale needs no network


class EncodedImage(NamedTuple):
    """An image file and its media type."""

    media_type: str
    data: bytes


class CodecCalls:
    """The calls of a service to its codec.

    Arguments:
        codec: the codec; the caller closes it.
        limits: limits for files and images.
    """

    def __init__(self, codec: EngineCodec, limits: Limits) -> None:
        self.codec = Codec(codec)
        self.version = f"{__version__} {codec.bundle.name} {codec.bundle.files} {codec.pipeline.name}"
        self._limits = limits

    def encode(self, params: ParamsKey, bodies: Sequence[bytes]) -> list[bytes | Exception]:
        """Encode image files with the same parameters.

        Arguments:
            params: parameters of the operation `encode`.
            bodies: image files.

        Returns an `.sdt` file or an exception for each image.
        """
        options = dict(params)

        def as_batch(bodies: Sequence[bytes]) -> list[bytes]:
            return self.codec.encode_batch(map(self._image, bodies), **options, limits=self._limits)

        def one_by_one(body: bytes) -> bytes:
            return self.codec.encode(self._image(body), **options, limits=self._limits)

        return run_batch(bodies, None if options.keys() & ONE_BY_ONE_OPTIONS else as_batch, one_by_one)

    def _image(self, body: bytes) -> Image.Image:
        """Open and load an image file, or raise a `ProblemError`."""
        try:
            image = image_of_bytes(body)
            load(image, self._limits)
        except LimitError:
            raise
        except UnidentifiedImageError as error:
            formats = ", ".join(FORMATS)
            raise ProblemError(415, f"the body is not an image; supported formats: {formats}") from error
        except Exception as error:  # also warnings that are turned into errors
            raise ProblemError(422, without_addresses(printable(str(error)))) from error
        return image

    def decode(
        self, media_types_and_params: tuple[MediaTypes, ParamsKey], bodies: Sequence[bytes]
    ) -> list[EncodedImage | Exception]:
        """Decode `.sdt` files with the same parameters.

        Arguments:
            media_types_and_params: the accepted media types, and parameters of the operation `decode`.
            bodies: `.sdt` files.

        Returns an image file or an exception for each `.sdt` file.
        """
        media_types, options = media_types_and_params[0], dict(media_types_and_params[1])

        def as_batch(bodies: Sequence[bytes]) -> list[EncodedImage]:
            images = self.codec.decode_batch(bodies, **options, limits=self._limits)
            return [encode_image(image, media_types) for image in images]

        def one_by_one(body: bytes) -> EncodedImage:
            return self.decode_one(body, media_types, options)

        return run_batch(bodies, as_batch if options.keys() <= BATCH_OPTIONS else None, one_by_one)

    def decode_one(self, source: Source, media_types: MediaTypes, params: Params) -> EncodedImage:
        """Decode one `.sdt` file.

        Arguments:
            source: the file.
            media_types: the accepted media types, the preferred one first.
            params: parameters of the operation `decode`.

        Raises:
            ProblemError: two parameters exclude each other, or no accepted media type can hold the image.
            SdtrtError: the file is damaged or beyond the limits, or this machine cannot decode it.
        """
        options = dict(params)
        width, scale = options.pop("width", None), options.pop("preview", None)
        is_plain = options.keys() <= {"strip"}
        if scale and (width or not is_plain):
            raise ProblemError(422, "preview cannot be combined with width, region, look or denoise")
        if width and is_plain and file_info.size_of(source, limits=self._limits).width >= PREVIEW_SCALE * width:
            scale = PREVIEW_SCALE
        if scale:
            image = self.codec.preview(source, scale=scale, **options, limits=self._limits)
        else:
            image = self.codec.decode(source, **options, limits=self._limits)
        return encode_image(downscale_to_width(image, width) if width else image, media_types)


def run_batch(
    items: Sequence[In], as_batch: Callable[[Sequence[In]], list[Out]] | None, one_by_one: Callable[[In], Out]
) -> list[Out | Exception]:
    """Return the result of each item, or its exception.

    Arguments:
        items: the items.
        as_batch: processes several items in one call; None if the items cannot be batched. If this call fails, the
            items are processed one by one, so that each gets its own exception.
        one_by_one: processes one item.
    """
    if as_batch and len(items) > 1:
        try:
            return [*as_batch(items)]
        except Exception:  # the calls below find the item that caused it
            pass
    return [call_or_error(one_by_one, item) for item in items]


def call_or_error(call: Callable[[In], Out], item: In) -> Out | Exception:
    try:
        return call(item)
    except Exception as error:
        return error


def encode_image(image: Image.Image, media_types: MediaTypes) -> EncodedImage:
    """Encode an image as the first media type that can hold it; `ProblemError` 406 if none can."""
    for media_type in media_types:
        if max(image.size) <= MAX_SIDES[media_type]:
            flat = on_white(image) if media_type == "image/jpeg" else image
            return EncodedImage(media_type, image_file_of_type(flat, media_type))
    raise ProblemError(406, f"{image.width}x{image.height} pixels are too many for {', '.join(media_types)}")


def downscale_to_width(image: Image.Image, width: int) -> Image.Image:
    """Downscale an image to a width in pixels; an image that is not wider is returned unchanged."""
    if width >= image.width:
        return image
    small = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    small.info = image.info
    return small
