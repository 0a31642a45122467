"""Bytes of requests to bytes of answers, by a codec; several at once where a device takes them so."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from PIL import Image, UnidentifiedImageError

from sdtrt import information
from sdtrt._version import __version__
from sdtrt.codec import Codec
from sdtrt.engine.codec import PictureCodec
from sdtrt.engine.format.limits import Limits
from sdtrt.images.files import FORMATS, image_of_bytes, picture_file
from sdtrt.serve.problems import ProblemError
from sdtrt.sources import Source

In = TypeVar("In")
Out = TypeVar("Out")
Options = dict[str, Any]  # parameters of a request, by name
Told = tuple[tuple[str, Any], ...]  # the same, to compare

CODEC_NAMES = {"bytes": "nbytes", "bpp": "bits_per_pixel"}  # of parameters that have other names in Python
BATCHED = {"look", "strip"}  # what pictures may be asked for that are decoded at once
PREVIEW = 8  # a scale at which pictures cost next to nothing


class Calls:
    """A codec, used within limits."""

    def __init__(self, codec: PictureCodec, limits: Limits) -> None:
        self.codec = Codec(codec)
        self.version = f"{__version__} {codec.bundle.name} {codec.bundle.files}"
        self._limits = limits

    def encode(self, told: Told, bodies: Sequence[bytes]) -> list[bytes | Exception]:
        """Return the files of images, or what is wrong with them; all are encoded alike."""
        options = {CODEC_NAMES.get(name, name): value for name, value in told}

        def together(bodies: Sequence[bytes]) -> list[bytes]:
            return self.codec.encode_batch(map(image_of_bytes, bodies), **options, limits=self._limits)

        def alone(body: bytes) -> bytes:
            return self.codec.encode(image_of_bytes(body), **options, limits=self._limits)

        return outcomes(bodies, None if "roi" in options else together, alone)

    def decode(self, kind_and_told: tuple[str, Told], bodies: Sequence[bytes]) -> list[bytes | Exception]:
        """Return the pictures in files, of a media type, or what is wrong with them; all are shown alike."""
        kind, options = kind_and_told[0], dict(kind_and_told[1])

        def together(bodies: Sequence[bytes]) -> list[bytes]:
            images = self.codec.decode_batch(bodies, **options, limits=self._limits)
            return [picture_file(image, kind) for image in images]

        def alone(body: bytes) -> bytes:
            return self.picture(body, kind, options)

        return outcomes(bodies, together if options.keys() <= BATCHED else None, alone)

    def picture(self, source: Source, kind: str, wanted: Options) -> bytes:
        """Return of a file's picture what is wanted, as a file of a media type."""
        options = dict(wanted)
        width, scale = options.pop("width", None), options.pop("preview", None)
        plain = options.keys() <= {"strip"}
        if scale and (width or not plain):
            raise ProblemError(422, "preview goes with no other size, no region and no look")
        if width and plain and information.size_of(source, limits=self._limits).width >= PREVIEW * width:
            scale = PREVIEW
        if scale:
            image = self.codec.preview(source, scale=scale, **options, limits=self._limits)
        else:
            image = self.codec.decode(source, **options, limits=self._limits)
        return picture_file(narrowed(image, width) if width else image, kind)


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
    except UnidentifiedImageError:
        return ProblemError(415, f"this is no image of a kind that is read here: {', '.join(FORMATS)}")
    except (OSError, SyntaxError, EOFError) as error:  # of Pillow, for images that break off or are broken
        return ProblemError(422, f"a damaged image: {error}")
    except Exception as error:
        return error


def narrowed(image: Image.Image, width: int) -> Image.Image:
    """Return an image made smaller, so many pixels wide; itself if it is no wider."""
    if width >= image.width:
        return image
    small = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    small.info = image.info
    return small
