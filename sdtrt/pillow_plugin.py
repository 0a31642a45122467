"""Pillow reads and writes `.sdt` files once this is imported.

Examples:
    >>> import sdtrt.pillow_plugin
    >>> from PIL import Image
    >>> with Image.open("photo.jpg") as image:
    ...     image.save("photo.sdt", max_bytes=2000)
    >>> Image.open("photo.sdt").size
    (768, 512)

A file is read and checked when it is opened. Its pixels are decoded when they are first needed. `draft` and `thumbnail`
decode a preview at 1/2, 1/4, 1/8 and so on to 1/64 of the size, if it is large enough. With
`ImageFile.LOAD_TRUNCATED_IMAGES` the readable part of a damaged or truncated file is decoded, and an `ImageWarning` is
given. Pillow's own `Image.MAX_IMAGE_PIXELS` limits the size of images.

`save` takes the options of `sdtrt.encode`, except `limits`: `quality`, `max_bytes`, `bpp`, `target_psnr`, `effort`,
`method`, `layers`, `roi`, `roi_weight`, `strip` and `model`. `exif`, `xmp`, `comment` and `text` (a dictionary) replace
the image's own metadata; None or an empty value removes it. As with other formats, `exif` gives the orientation in
which the image is shown.
"""

from dataclasses import fields, replace
from typing import IO, Any

from PIL import Image, ImageFile

from sdtrt import api
from sdtrt.codec import ImageEncodeOptions
from sdtrt.engine.codec import checked_model
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File
from sdtrt.engine.format.limits import DEFAULT_LIMITS, UNLIMITED
from sdtrt.engine.format.metadata import NO_METADATA, Metadata, read_metadata
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.engine.networks.choices import BUILT_IN
from sdtrt.errors import FormatError, SdtrtError
from sdtrt.file_info import verify
from sdtrt.images.convert import with_metadata
from sdtrt.images.metadata import MISSING, add_mark, put_into

FORMAT, SUFFIX, MIME = "SDT", ".sdt", "image/x-sdt"
MODES = {(True, False): "L", (True, True): "LA", (False, False): "RGB", (False, True): "RGBA"}
SCALES = (64, 32, 16, 8, 4, 2)  # of previews, from the smallest
METADATA = "exif", "xmp", "comment", "text"  # parameters of `save` that replace metadata
OPTIONS = {field.name for field in fields(ImageEncodeOptions)} - {"limits"}  # `limits` are Pillow's own


class SdtImageFile(ImageFile.ImageFile):
    """An opened `.sdt` file."""

    format = FORMAT
    format_description = "latents of an autoencoder"

    _data: bytes | None = None  # of the file, until it is decoded
    _limits = UNLIMITED  # set from Pillow's limit when a file is opened
    _scale = 1
    _partial = False

    def _open(self) -> None:
        assert self.fp is not None
        self._data = data = self.fp.read()
        try:
            file = self._parsed(data)
            metadata = self._metadata(file)
        except FormatError as error:
            raise SyntaxError(str(error)) from error
        put_into(self, add_mark(metadata))
        self._xmp = self.info["xmp"]
        self.text = dict(metadata.text)
        self._size = width, height = file.header.width, file.header.height
        self._limits = replace(UNLIMITED, max_pixels=max(DEFAULT_LIMITS.max_pixels, width * height))
        self._mode = MODES[file.header.grey, file.layout.alpha]
        self.tile = []

    def _parsed(self, data: bytes) -> File:
        try:
            return container.read(data, UNLIMITED)
        except FormatError:
            if not ImageFile.LOAD_TRUNCATED_IMAGES:
                raise
        self._partial = True
        return container.salvage(data, UNLIMITED).file

    def _metadata(self, file: File) -> Metadata:
        try:
            return read_metadata(file)
        except FormatError:
            if not ImageFile.LOAD_TRUNCATED_IMAGES:
                raise
        self._partial = True
        return NO_METADATA

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Choose the smallest preview that is not smaller than `size`. The mode does not change.

        Returns the mode, and the box of the whole image within the preview, as Pillow's own `draft` does. Returns None
        if nothing changes: no preview is small enough, or a preview was chosen before, or the pixels are decoded.
        """
        if self._data is None or size is None or self._partial or self._scale > 1:
            return None
        (width, height), asked = self.size, (max(size[0], 1), max(size[1], 1))
        scale = next((scale for scale in SCALES if scale <= min(width // asked[0], height // asked[1])), None)
        if scale is None:
            return None
        self._scale, self._size = scale, (-(-width // scale), -(-height // scale))
        return self.mode, (0, 0, width / scale, height / scale)

    def load(self) -> Any:
        """Decode the pixels, if they are not decoded yet."""
        if self._data is not None:
            try:
                image = self._decoded(self._data)
            except SdtrtError as error:
                raise OSError(f"cannot decode the image: {error}") from error
            self.im, self._data = image.im, None
            if self.info.get("xmp") == self._xmp:
                self.info["xmp"] = image.info["xmp"]  # the mark names the look
            if MISSING in image.info:
                self.info[MISSING] = image.info[MISSING]
            if self._exclusive_fp and self.fp:
                self.fp.close()
            self.fp = None
        return super().load()

    def _decoded(self, data: bytes) -> Image.Image:
        if self._scale > 1:
            return api.preview(data, scale=self._scale, limits=self._limits)
        return api.decode(data, partial=self._partial, limits=self._limits)

    def __getstate__(self) -> list[Any]:
        return [*super().__getstate__(), self.text]

    def __setstate__(self, state: list[Any]) -> None:
        *inherited, self.text = state
        super().__setstate__(inherited)

    def verify(self) -> None:
        """Check every part of the file except the pixels. As with other formats, the image is unusable afterwards."""
        if self._data is None:
            raise RuntimeError("verify must be called directly after open")
        try:
            verify(self._data, limits=self._limits)
        except SdtrtError as error:
            raise SyntaxError(str(error)) from error
        super().verify()


def accept(prefix: bytes) -> bool:
    return prefix.startswith(container.MAGIC)


def save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Write an image; the module's docstring lists the options."""
    parameters: dict[str, Any] = image.encoderinfo
    options = {name: parameters[name] for name in OPTIONS & parameters.keys()}
    changes = {name: parameters[name] for name in METADATA if name in parameters}
    model = parameters.get("model", BUILT_IN)
    if changes:
        image = with_metadata(image, changes)
    codec = api.shared_codecs.codec(find_bundle(checked_model(model)))
    fp.write(codec._encode(image, ImageEncodeOptions(**options, limits=UNLIMITED)))


Image.register_open(FORMAT, SdtImageFile, accept)
Image.register_save(FORMAT, save)
Image.register_extension(FORMAT, SUFFIX)
Image.register_mime(FORMAT, MIME)
