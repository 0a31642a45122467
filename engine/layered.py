"""The encoder's side of layers: latents of what networks are good at, an overlay and a residual for the rest."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.dial import KNEE, LATENTS_OCTAVE, PRICE, START, UNIT, setting, vividness, weighted
from sdtrt.engine.coding.interest import Interest
from sdtrt.engine.coding.latents import Search, file_of_latents
from sdtrt.engine.coding.rate import COARSEST, Wish
from sdtrt.engine.format import container, lossless
from sdtrt.engine.format.alpha import tiles_of_pixels
from sdtrt.engine.format.container import File
from sdtrt.engine.format.layout import Span
from sdtrt.engine.format.limits import UNLIMITED
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.engine.layers import stream
from sdtrt.engine.layers.overlay import filled, overlay_of
from sdtrt.engine.layers.stored import Layers
from sdtrt.engine.layers.transform import coefficients, grid
from sdtrt.engine.picture import Picture, Pixels, luma, psnr
from sdtrt.kernels.reference import BLOCK

Floats = NDArray[np.float32]
LARGEST_STEP = (1 << 16) - 1
SEARCH_EFFORT, SEARCHED = 6, (-12.0, 12.0)  # from which other qualities of latents are tried, and which
DOUBTFUL = 1 / 3  # of a file: a residual as small may be worth less than finer latents instead of it


class Networks(NamedTuple):
    """The networks' part."""

    analyse: Callable[[Pixels], Floats]  # from pixels to latents
    show: Callable[[File], Pixels]  # from a file to what networks make of its latents
    search: Callable[[Pixels, Floats, int, float], Search | None]  # arguments as of `PictureCodec.search`


class Seen(NamedTuple):
    """What networks see of a picture, and its latents: without what the overlay holds, uint8 (H, W, 4), if any."""

    pixels: Pixels
    latents: Floats
    overlay: Pixels | None


def overlay_for(picture: Picture, wish: Wish, quality: float) -> Pixels | None:
    """Return the overlay of a picture at a quality, None if it is better off without."""
    return (
        overlay_of(picture.pixels, setting(quality, layers=2).price)
        if wish.layers == 2 and wish.method == "latents"
        else None
    )


def seen_of(pixels: Pixels, overlay: Pixels | None) -> Pixels:
    """Return the pixels that networks are to see."""
    return pixels if overlay is None else filled(pixels, overlay)


class LayeredPicture:
    """A picture that is coded at one quality after the other.

    `seen` is what networks saw at the wish's `first_quality`; `parts` are passed on to `file_of_latents`.
    """

    def __init__(
        self,
        picture: Picture,
        wish: Wish,
        profile: LatentProfile,
        networks: Networks,
        seen: Seen,
        interest: Interest | None,
        parts: dict[str, Any],
    ) -> None:
        self._picture, self._wish, self._profile, self._parts = picture, wish, profile, parts
        self._networks, self._interest = networks, interest
        self._seen = {octave_of(wish.first_quality): seen}
        self._networks_pictures: dict[tuple[object, ...], Pixels] = {}  # of the file that was asked for last
        self.height, self.width = picture.pixels.shape[:2]

    def file(self, quality: float) -> bytes:
        """Return the picture's file at a quality, by latents alone where no residual is worth its bits."""
        self._networks_pictures.clear()
        finest = self._finest(quality)
        files = self._with_residuals(finest, quality) if self._has_residual(quality) else []
        thorough = self._wish.effort >= SEARCH_EFFORT
        if not files or thorough or (finest > KNEE and min(map(residual_share, files)) < DOUBTFUL):
            files.append(self._without_residual(finest, quality))
        written = [container.write(file) for file in files]
        if len(files) == 1:
            return written[0]
        price = setting(finest, layers=self._wish.layers).price
        costs = [self._cost(file, len(data), price) for file, data in zip(files, written, strict=True)]
        return written[costs.index(min(costs))]

    def measure(self, data: bytes) -> float:
        """Return the PSNR of a file's picture, in dB; of a grey one that of its brightness."""
        return psnr_of(self._picture, self._shown(container.read(data, UNLIMITED)))

    def _has_residual(self, quality: float) -> bool:
        overlay = self._seen_at(quality).overlay
        hidden = overlay is not None and overlay[:, :, 3].all()
        return self._wish.layers == 2 and self._finest(quality) > START and not hidden

    def _finest(self, quality: float) -> float:
        """Return the quality of what counts most, of which the steps are."""
        return weighted(quality, self._interest.largest, layers=self._wish.layers) if self._interest else quality

    def _with_residuals(self, finest: float, quality: float) -> list[File]:
        """Return the file of a quality, and with effort of others of latents, if they have a residual."""
        known = setting(finest, layers=self._wish.layers)
        step = min(max(round(UNIT * known.residual), 1), LARGEST_STEP)
        tried = (0.0, *SEARCHED) if self._wish.effort >= SEARCH_EFFORT else (0.0,)
        files = [self._without_residual(known.latents + more, quality, beside=step) for more in tried]
        layered = [self._with_residual(file, step, self._seen_at(quality).overlay) for file in files]
        return [file for file in layered if file.layout.residual]

    def _without_residual(self, latents: float, quality: float, beside: int = 0) -> File:
        """Return the file of a quality of latents, with the overlay of another one.

        `beside` is the step of the residual that it will have, 0 for none.
        """
        seen, price = self._seen_at(quality), self._latents_price(quality)
        hidden = seen.overlay is not None and seen.overlay[:, :, 3].all()
        code = self._profile.step_code(COARSEST if hidden else latents)
        search = None
        if not hidden:  # a residual brings lost structure back
            search = self._networks.search(seen.pixels, seen.latents, self._wish.effort, vividness(beside))
        parts = self._parts | {"price": price, "search": search}
        file = file_of_latents(seen.latents, self.width, self.height, self._profile, code, **parts)
        if seen.overlay is None:
            return file
        return with_kind(file, "overlay", self._overlay_segments(file, seen.overlay), overlay=True)

    def _cost(self, file: File, nbytes: int, price: float) -> float:
        """Return what a file of a size costs: squared error, by how much it counts where, and bits at their price."""
        wanted, shown = self._picture.pixels, self._shown(file)
        if self._picture.grey:
            wanted, shown = (np.repeat(luma(pixels)[:, :, None], 3, axis=2) for pixels in (wanted, shown))
        error = np.square(wanted.astype(np.float32) - shown).sum(2)
        if self._interest:
            error *= self._interest.weights / np.float32(self._interest.largest)
        return float(error.sum(dtype=np.float64)) + price * 8 * nbytes

    def _with_residual(self, file: File, step: int, overlay: Pixels | None) -> File:
        shown = self._networks_picture(file)
        if self._picture.grey:
            residual = np.repeat(self._picture.pixels[:, :, :1].astype(np.int16) - luma(shown)[:, :, None], 3, axis=2)
        else:
            residual = self._picture.pixels.astype(np.int16) - shown
        if overlay is not None:
            residual[overlay[:, :, 3] == lossless.OPAQUE] = 0
        places = self._places(file)
        segments = [
            stream.encode(coefficients(residual[slice(*down), slice(*across)]), step, self._price(down, across))
            for down, across in places
        ]
        return with_kind(file, "residual", segments, residual=step) if any(segments) else file

    def _latents_price(self, quality: float) -> Floats | None:
        """Return by how much dearer a bit of each latent is than where interest is greatest; None if of none.

        By less than the weights tell, where steps of latents are finer by less than those would ask for.
        """
        if self._interest is None or self._interest.is_even:
            return None
        ends = (self._finest(quality), quality)
        finest, usual = (setting(one, layers=self._wish.layers).latents for one in ends)
        octaves = (finest - usual) / LATENTS_OCTAVE
        return self._interest.price(self._profile.downscale) ** np.float32(octaves / math.log2(self._interest.largest))

    def _price(self, down: Span, across: Span) -> Floats | float:
        """Return what a bit may cost in each block of a tile, in squared steps."""
        if self._interest is None or self._interest.is_even:
            return PRICE
        prices = self._interest.price(BLOCK)
        rows, columns = grid(down[1] - down[0], across[1] - across[0])
        at = np.minimum(down[0] // BLOCK + np.arange(rows), prices.shape[0] - 1)
        beside = np.minimum(across[0] // BLOCK + np.arange(columns), prices.shape[1] - 1)
        return np.float32(PRICE) * prices[np.ix_(at, beside)]

    def _overlay_segments(self, file: File, overlay: Pixels) -> list[bytes]:
        parts = [overlay[slice(*down), slice(*across)] for down, across in self._places(file)]
        return [lossless.encode_rgba(part) if part[:, :, 3].any() else b"" for part in parts]

    def _places(self, file: File) -> list[tuple[Span, Span]]:
        return tiles_of_pixels(self.width, self.height, self._profile.downscale, file.layout)

    def _shown(self, file: File) -> Pixels:
        return Layers(file).put(self._networks_picture(file).copy())

    def _networks_picture(self, file: File) -> Pixels:
        """Return what networks make of a file's latents, which are shown once whatever lies over them."""
        latents = file.segments[: file.layout.levels * file.layout.tiles]
        key = (file.header.step_code, *latents)
        if key not in self._networks_pictures:
            self._networks_pictures[key] = self._networks.show(file)
        return self._networks_pictures[key]

    def _seen_at(self, quality: float) -> Seen:
        """Return what networks see at a quality, looked at anew if bits cost much more or less than before."""
        octave = octave_of(quality)
        if octave not in self._seen:
            overlay = overlay_for(self._picture, self._wish, quality)
            alike = next((s for s in self._seen.values() if s.overlay is None and overlay is None), None)
            pixels = seen_of(self._picture.pixels, overlay)
            self._seen[octave] = alike or Seen(pixels, self._networks.analyse(pixels), overlay)
        return self._seen[octave]


def octave_of(quality: float) -> int:
    """Return in which octave the price of a bit lies at a quality."""
    return round(math.log2(setting(quality, layers=2).price))


def residual_share(file: File) -> float:
    """Return the share of a file's bytes that its residual takes."""
    residual = sum(len(file.segment("residual", tile)) for tile in range(file.layout.tiles))
    return residual / sum(map(len, file.segments))


def with_kind(file: File, kind: str, segments: list[bytes], **changes: Any) -> File:
    """Return a file with segments of one more kind, which `changes` of its layout stand for."""
    layout = replace(file.layout, **changes)
    first = layout.segment(kind, 0)
    return replace(file, segments=[*file.segments[:first], *segments, *file.segments[first:]], layout=layout)


def psnr_of(picture: Picture, pixels: Pixels) -> float:
    """Return the PSNR in dB of what is shown of a picture, of a grey one that of its brightness."""
    return psnr(luma(picture.pixels), luma(pixels)) if picture.grey else psnr(picture.pixels, pixels)
