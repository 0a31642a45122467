"""What `sdtrt import` is asked for, and what can be refused before a network is read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.spaces import valid_name
from sdtrt.export.folder import require_vacant
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.latents.profiles import require_photos
from sdtrt.export.latents.sample_images import list_photos


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What `sdtrt import` is told; None where the networks themselves should say it.

    Latents at unit scale are (raw - `latent_shift`) * `latent_scale`. Ranges are those of pixels.
    """

    encoder: Path
    decoder: Path
    out: Path
    vivid: Path | None = None  # another decoder of the same latents
    latent_space: str | None = None
    input_range: tuple[float, float] = (-1.0, 1.0)
    output_range: tuple[float, float] | None = None
    latent_scale: float = 1.0
    latent_shift: float = 0.0
    encoder_output: str | None = None
    decoder_output: str | None = None
    sum_outputs: bool = False
    gradient: bool = False  # the decoder's, for searches
    photos: Path | None = None
    force: bool = False
    quiet: bool = True

    def check(self) -> None:
        """Raise `ValueError` or `BundleError` for all that is known to be impossible before networks are read."""
        numbers = (*self.input_range, *(self.output_range or ()), self.latent_scale, self.latent_shift)
        low, high = self.output_range or self.input_range
        if not np.isfinite(numbers).all() or not 1e-6 <= abs(self.latent_scale) <= 1e6 or not low < high:
            raise ValueError("ranges must rise, the latent scale lie between 1e-6 and 1e6, and all be finite")
        if self.sum_outputs and self.decoder_output:
            raise ValueError("--sum-outputs adds up all outputs, --decoder-output names a single one; leave one away")
        require_vacant(self.out, force=self.force)
        for path in (self.encoder, self.decoder, *([self.vivid] if self.vivid else [])):
            onnx_graph.require_file(path)
        if self.photos is not None:
            list_photos(self.photos)
        elif self.latent_space is None:
            raise BundleError(
                "without --latent-space the networks have a space of their own, whose numbers must be measured: add "
                "--calibrate FOLDER with some dozens of photos, or name the space if it is a known one"
            )
        if self.latent_space is not None:
            name = valid_name(self.latent_space)
            if self.photos is None:
                require_photos(name)
