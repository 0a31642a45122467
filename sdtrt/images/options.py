"""The options of encoding and decoding an image. Every entry point uses the names of their fields.

The classes add options of images to the engine's `EncodeOptions` and `DecodeOptions`. Wrong values raise `TypeError` or
`ValueError` when the object is made.
"""

from dataclasses import dataclass

from sdtrt.engine.codec import require_no_roi
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.format.arguments import checked_truth
from sdtrt.engine.format.limits import DEFAULT_LIMITS, Limits, checked_limits
from sdtrt.engine.image import Region
from sdtrt.engine.networks.decode_options import DecodeOptions
from sdtrt.images.roi import DEFAULT_WEIGHT, Roi, checked_weight


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEncodeOptions(EncodeOptions):
    """The options of `sdtrt.encode`, except the model."""

    roi: Roi | None = None
    roi_weight: float = DEFAULT_WEIGHT
    strip: bool = False
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        EncodeOptions.__post_init__(self)
        require_no_roi(self, self.roi)
        self._set("roi_weight", checked_weight(self.roi_weight))
        checked_truth("strip", self.strip)
        checked_limits(self.limits)


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
        checked_limits(self.limits)
        if checked_truth("partial", self.partial) and (self.region is not None or self.denoise_steps):
            raise ValueError("a partial image has no region and is not denoised")
