"""How wrong a decoder's image is, and how each latent could mend that: what a search for better symbols goes by."""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.networks.backends.ort import OrtCpu, OrtNetwork
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.errors import BundleError

FILE = "gradient.onnx"  # whose weights are those within decoder.onnx


class Distortion(NamedTuple):
    """What is wrong at each latent, float32 (h, w), and the gradient of the weighted sum, float32 (C, h, w)."""

    squared_error: F32Array  # squared, of the latent's pixels, weighted
    structure_loss: F32Array  # structure, 0 to 2
    gradient: F32Array


class DecoderGradient:
    """The gradient of a bundle's decoder, by ONNX Runtime on the CPU wherever other networks run; errors as of those.

    Latents are float32 (C, h, w) of at least two rows and columns, `wanted` float32 (3, 8h, 8w) in the decoder's range,
    8 standing for the downscale, `weights`, by which pixels' squared errors count, float32 (8h, 8w), and `structure`,
    by which lost structure does, float32 (h, w).
    """

    def __init__(self, bundle: Bundle, threads: int | None) -> None:
        self._bundle, self._threads = bundle, threads
        self.pixel_range, self.receptive_radius = bundle.pixel_range, bundle.receptive_radius or 0

    @cached_property
    def _network(self) -> OrtNetwork:
        self._bundle.file("decoder.onnx")  # checks the weights, too
        return OrtCpu(self._threads).load(self._bundle.file(FILE))

    def evaluate(
        self, latents: F32Array, step: float, wanted: F32Array, weights: F32Array, structure: F32Array
    ) -> Distortion:
        """Return how wrong the image of latents is, and how they could mend that.

        Raises `BundleError` if what is found is not finite.
        """
        inputs = {"latents": latents[None], "wanted": wanted[None]}
        inputs |= {"weights": weights[None, None], "structure": structure[None, None]}
        if self._bundle.decoder_takes_step:
            inputs["step"] = np.array([step], np.float32)
        found = self._network.run(inputs)
        if not all(np.isfinite(planes).all() for planes in found.values()):
            raise BundleError(f"{self._bundle.name}'s {FILE} gave values that are not finite")
        return Distortion(found["errors"][0, 0], found["lost"][0, 0], found["gradient"][0])
