"""How wrong a decoder's picture is, and how each latent could mend that: what a search for better symbols goes by."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.networks.backends.ort import OrtCpu, OrtNetwork
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.errors import BundleError

Floats = NDArray[np.float32]

FILE = "gradient.onnx"  # whose weights are those within decoder.onnx


class Gradient:
    """The gradient of a bundle's decoder, by ONNX Runtime on the CPU wherever other networks run; errors as of those.

    Latents are float32 (C, h, w) of at least two rows and columns, `wanted` float32 (3, 8h, 8w) in the decoder's range,
    8 standing for the downscale, and `weights`, by which pixels' errors count, float32 (8h, 8w).
    """

    def __init__(self, bundle: Bundle, threads: int | None) -> None:
        self._bundle, self._threads = bundle, threads
        self.pixel_range, self.reach = bundle.pixel_range, bundle.reach or 0

    @cached_property
    def _network(self) -> OrtNetwork:
        self._bundle.file("decoder.onnx")  # checks the weights, too
        return OrtCpu(self._threads).load(self._bundle.file(FILE))

    def at(self, latents: Floats, step: float, wanted: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """Return the weighted squared error of each latent's pixels, float32 (h, w), and the gradient of its sum.

        The gradient has the latents' shape. Raises `BundleError` if either is not finite.
        """
        inputs = {"latents": latents[None], "wanted": wanted[None], "weights": weights[None, None]}
        if self._bundle.decoder_takes_step:
            inputs["step"] = np.array([step], np.float32)
        found = self._network.run(inputs)
        errors, gradient = found["errors"][0, 0], found["gradient"][0]
        if not np.isfinite(errors).all() or not np.isfinite(gradient).all():
            raise BundleError(f"{self._bundle.name}'s {FILE} gave values that are not finite")
        return errors, gradient
