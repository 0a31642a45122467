"""Bytes of requests to bytes of answers, by a codec; several at once where a device takes them so."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from PIL import Image, UnidentifiedImageError

from sdtrt import file_info
from sdtrt._version import __version__
from sdtrt.codec import Codec
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.format.limits import Limits
from sdtrt.errors import LimitError
from sdtrt.images.files import FORMATS, MAX_SIDES, image_file_of_type, image_of_bytes, on_white
from sdtrt.images.opening import load
from sdtrt.images.sources import Source
from sdtrt.process.text import printable, without_addresses
from sdtrt.serve.problems import ProblemError

In = TypeVar("In")
Out = TypeVar("Out")
Options = dict[str, Any]  # parameters of a request, by name
Told = tuple[tuple[str, Any], ...]  # the same, to compare
Kinds = tuple[str, ...]  # media types, the one first that is liked best

ALONE = {"roi", "roi_weight"}  # what images may be asked for that are not encoded at once
BATCHED = {"look", "strip"}  # what pictures may be asked for that are decoded at once
PREVIEW = 8  # a scale at which pictures cost next to nothing


class Shown(NamedTuple):
    """A picture as a file of a media type."""

    kind: str
    data: bytes


class Calls:
    """A codec, used within limits."""

    def __init__(self, codec: EngineCodec, limits: Limits) -> None:
        self.codec = Codec(codec)
        self.version = f"{__version__} {codec.bundle.name} {codec.bundle.files} {codec.pipeline.name}"
        self._limits = limits

    def encode(self, told: Told, bodies: Sequence[bytes]) -> list[bytes | Exception]:
        """Return the files of images, or what is wrong with them; all are encoded alike."""
        options = dict(told)

        def together(bodies: Sequence[bytes]) -> list[bytes]:
            return self.codec.encode_batch(map(self._image, bodies), **options, limits=self._limits)

        def alone(body: bytes) -> bytes:
            return self.codec.encode(self._image(body), **options, limits=self._limits)

        return outcomes(bodies, None if options.keys() & ALONE else together, alone)

    def _image(self, body: bytes) -> Image.Image:
        """Return an image, loaded; a `ProblemError` if it cannot be."""
        try:
            image = image_of_bytes(body)
            load(image, self._limits)
        except LimitError:
            raise
        except UnidentifiedImageError as error:
            kinds = ", ".join(FORMATS)
            raise ProblemError(415, f"this is no image of a kind that is read here: {kinds}") from error
        except Exception as error:  # warnings, too, where these are errors
            raise ProblemError(422, without_addresses(printable(str(error)))) from error
        return image

    def decode(self, kinds_and_told: tuple[Kinds, Told], bodies: Sequence[bytes]) -> list[Shown | Exception]:
        """Return the pictures in files, or what is wrong with them; all are shown alike."""
        kinds, options = kinds_and_told[0], dict(kinds_and_told[1])

        def together(bodies: Sequence[bytes]) -> list[Shown]:
            images = self.codec.decode_batch(bodies, **options, limits=self._limits)
            return [shown(image, kinds) for image in images]

        def alone(body: bytes) -> Shown:
            return self.picture(body, kinds, options)

        return outcomes(bodies, together if options.keys() <= BATCHED else None, alone)

    def picture(self, source: Source, kinds: Kinds, wanted: Options) -> Shown:
        """Return of a file's picture what is wanted."""
        options = dict(wanted)
        width, scale = options.pop("width", None), options.pop("preview", None)
        plain = options.keys() <= {"strip"}
        if scale and (width or not plain):
            raise ProblemError(422, "preview goes with no other size, no region and no look")
        if width and plain and file_info.size_of(source, limits=self._limits).width >= PREVIEW * width:
            scale = PREVIEW
        if scale:
            image = self.codec.preview(source, scale=scale, **options, limits=self._limits)
        else:
            image = self.codec.decode(source, **options, limits=self._limits)
        return shown(narrowed(image, width) if width else image, kinds)


def outcomes(
    items: Sequence[In], together: Callable[[Sequence[In]], list[Out]] | None, alone: Callable[[In], Out]
) -> list[Out | Exception]:
    """Return for each item what comes of it, or its error; one by one if they cannot be done together."""
    if together and len(items) > 1:
        try:
            return [*together(items)]
        except Exception:  # of one of them: which, and what it is, is found below
            pass
    return [attempted(alone, item) for item in items]


def attempted(call: Callable[[In], Out], item: In) -> Out | Exception:
    try:
        return call(item)
    except Exception as error:
        return error


def shown(image: Image.Image, kinds: Kinds) -> Shown:
    """Return an image as a file of the first media type that can hold it; a `ProblemError` if none can."""
    for kind in kinds:
        if max(image.size) <= MAX_SIDES[kind]:
            return Shown(kind, image_file_of_type(on_white(image) if kind == "image/jpeg" else image, kind))
    raise ProblemError(406, f"{image.width}x{image.height} pixels are too many for {', '.join(kinds)}")


def narrowed(image: Image.Image, width: int) -> Image.Image:
    """Return an image made smaller, so many pixels wide; itself if it is no wider."""
    if width >= image.width:
        return image
    small = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    small.info = image.info
    return small
