"""The options of `sdtrt import`, and checks of them that need no network."""

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
    """The options of `sdtrt import`.

    Latents at unit scale are (raw - `latent_shift`) * `latent_scale`.

    Attributes:
        encoder: The encoder's ONNX file.
        decoder: The decoder's ONNX file.
        out: Folder of the new bundle.
        fast: ONNX file of another decoder of the same latents, for the look `fast`; None without one.
        latent_space: Name of the latent space; None for a space of these weights alone.
        input_range: Range of the encoder's pixels.
        output_range: Range of the decoder's pixels; None if it equals `input_range`.
        latent_scale: Factor to unit scale, 1e-6 to 1e6 in magnitude.
        latent_shift: Mean of the raw latents.
        encoder_output: Name of the output that holds the latents; None if there is only one output.
        decoder_output: Name of the output that holds the pixels; None if there is only one output.
        sum_outputs: Whether the image is the sum of all outputs of the decoder.
        gradient: Whether the decoder's gradient is derived and written, for searches at high effort.
        photos: Folder of photos to measure or check the latents on.
        force: Whether an existing bundle is replaced.
        quiet: Whether stages are not printed.
    """

    encoder: Path
    decoder: Path
    out: Path
    fast: Path | None = None
    latent_space: str | None = None
    input_range: tuple[float, float] = (-1.0, 1.0)
    output_range: tuple[float, float] | None = None
    latent_scale: float = 1.0
    latent_shift: float = 0.0
    encoder_output: str | None = None
    decoder_output: str | None = None
    sum_outputs: bool = False
    gradient: bool = False
    photos: Path | None = None
    force: bool = False
    quiet: bool = True

    @property
    def decoders(self) -> dict[str, Path]:
        """The decoders' files by their names in the bundle, without a suffix; the first is the faithful one."""
        return {"decoder": self.decoder} | ({"fast": self.fast} if self.fast else {})

    def check(self) -> None:
        """Raise `ValueError` or `BundleError` for invalid options; the networks are not read."""
        numbers = (*self.input_range, *(self.output_range or ()), self.latent_scale, self.latent_shift)
        low, high = self.output_range or self.input_range
        if not np.isfinite(numbers).all() or not 1e-6 <= abs(self.latent_scale) <= 1e6 or not low < high:
            raise ValueError("expected finite, rising ranges and a latent scale of 1e-6 to 1e6 in magnitude")
        if self.sum_outputs and self.decoder_output:
            raise ValueError("--sum-outputs adds all outputs, --decoder-output selects one; give only one of the two")
        require_vacant(self.out, force=self.force)
        for path in (self.encoder, *self.decoders.values()):
            onnx_graph.require_file(path)
        if self.photos is not None:
            list_photos(self.photos)
        elif self.latent_space is None:
            raise BundleError(
                "without --latent-space the networks have a latent space of their own, whose statistics must be "
                "measured: add --calibrate FOLDER with some dozens of photos, or name a known space"
            )
        if self.latent_space is not None:
            name = valid_name(self.latent_space)
            if self.photos is None:
                require_photos(name)
