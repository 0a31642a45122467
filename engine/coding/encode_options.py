"""`EncodeOptions`: the one carrier of an encoder's options; their defaults and bounds. The module imports no NumPy."""

from dataclasses import dataclass
from typing import Literal

from sdtrt.engine.format.arguments import checked_choice, checked_integer, checked_number

DEFAULT_QUALITY = 50.0
DEFAULT_EFFORT = 5
SEARCH_ITERATIONS = {1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 16, 7: 32, 8: 64, 9: 128}  # of `rdoq_search`, by effort
DEFAULT_ROI_WEIGHT, MAX_ROI_WEIGHT = 4.0, 64.0  # factor of the squared error in a region of interest

Method = Literal["latents", "palette"]
METHODS: tuple[Method, ...] = ("latents", "palette")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """Options of an encoder. At most one of the first four, the rate targets, may be given.

    Attributes:
        quality: 1 (smallest file) to 100 (best image); 50 if there is no rate target.
        max_bytes: largest size of the file in bytes.
        bpp: largest size of the file in bits per pixel of the image.
        target_psnr: smallest PSNR of the decoded image in dB.
        effort: 1 (fast) to 9 (slow).
        method: "latents", or "palette" for the method of 2022.
        layers: 1 for latents alone; 2 for an overlay and a residual too, where they are worth their bits.

    Raises:
        ValueError: if a value is out of range, or there is more than one rate target.
        TypeError: if a value has the wrong type.
    """

    quality: float | None = None
    max_bytes: int | None = None
    bpp: float | None = None
    target_psnr: float | None = None
    effort: int = DEFAULT_EFFORT
    method: Method = "latents"
    layers: int = 2

    def __post_init__(self) -> None:
        targets = (self.quality, self.max_bytes, self.bpp, self.target_psnr)
        num_targets = sum(target is not None for target in targets)
        if num_targets > 1:
            raise ValueError("quality, max_bytes, bpp and target_psnr: ask for one of them only")
        if self.quality is not None:
            self._set("quality", checked_number("quality", self.quality, 1, 100))
        if self.max_bytes is not None:
            self._set("max_bytes", checked_integer("max_bytes", self.max_bytes, 1))
        for name in ("bpp", "target_psnr"):
            if getattr(self, name) is not None:
                self._set(name, checked_number(name, getattr(self, name), 0, above=True))
        self._set("effort", checked_integer("effort", self.effort, min(SEARCH_ITERATIONS), max(SEARCH_ITERATIONS)))
        self._set("layers", checked_integer("layers", self.layers, 1, 2))
        checked_choice("method", self.method, METHODS)
        if self.method == "palette" and num_targets:
            raise ValueError("method palette has one rate only: it takes no quality, size or PSNR")

    def _set(self, name: str, number: float) -> None:
        """Store a number as Python's own type, whatever type it came in."""
        object.__setattr__(self, name, number)

    @property
    def first_quality(self) -> float:
        """The quality to encode at, or to start a search from."""
        return DEFAULT_QUALITY if self.quality is None else self.quality

    def fixed_quality(self) -> float:
        """Return the quality; `ValueError` if there is another rate target, or the method has no quality."""
        targets = (self.max_bytes, self.bpp, self.target_psnr)
        if self.method == "palette" or any(target is not None for target in targets):
            raise ValueError("an image that comes in rows takes a quality, but no size, PSNR or method palette")
        return self.first_quality
