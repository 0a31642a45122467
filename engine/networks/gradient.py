"""The distortion of a decoder's image, and its gradient with respect to the latents."""

from typing import NamedTuple

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.engine.networks.backends import Network
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.engine.networks.open_networks import OpenNetworks
from sdtrt.errors import BundleError

FILE = "gradient.onnx"  # it reads its weights from decoder.onnx


class Distortion(NamedTuple):
    """The distortion of an image.

    Attributes:
        squared_error: float32 (h, w), the weighted squared error of each latent's pixels.
        structure_loss: float32 (h, w), the lost structure of each latent's pixels, 0 to 2.
        gradient: float32 (C, h, w), the gradient of the weighted sum of both.
    """

    squared_error: F32Array
    structure_loss: F32Array
    gradient: F32Array


class DecoderGradient:
    """The gradient of a bundle's decoder. ONNX Runtime computes it on the CPU, whatever backend the codec has.

    Arguments:
        bundle: a bundle with `gradient.onnx`.
        threads: threads of the network; None is one for each core that the process may use.
    """

    def __init__(self, bundle: Bundle, threads: int | None) -> None:
        self._bundle, self._threads = bundle, threads
        self._networks = OpenNetworks(self._load)
        self.pixel_range, self.receptive_radius = bundle.pixel_range, bundle.receptive_radius or 0

    def _load(self, name: str) -> Network:
        from sdtrt.engine.networks.backends.ort import OrtCpu  # here, so that `import sdtrt.codec` stays fast

        self._bundle.file("decoder.onnx")  # checks the hash of the weights
        return OrtCpu(self._threads).load(self._bundle.file(name))

    def evaluate(
        self, latents: F32Array, quant_step: float, target: F32Array, weights: F32Array, structure: F32Array
    ) -> Distortion:
        """Return the distortion of the decoder's image of some latents.

        Arguments:
            latents: float32 (C, h, w), at least two rows and two columns.
            quant_step: the quantization step of the latents.
            target: float32 (3, H, W), the planes of the original in the decoder's range.
            weights: float32 (H, W), the weights of the squared errors of pixels.
            structure: float32 (h, w), the weights of the structure loss.

        Raises:
            BundleError: the network cannot run, or its output is not finite.
            DeviceError: ONNX Runtime is missing or broken.
        """
        inputs = {"latents": latents[None], "wanted": target[None]}
        inputs |= {"weights": weights[None, None], "structure": structure[None, None]}
        if self._bundle.decoder_takes_step:
            inputs["step"] = np.array([quant_step], np.float32)
        outputs = self._networks.get(FILE).run(inputs)
        if not all(np.isfinite(planes).all() for planes in outputs.values()):
            raise BundleError(f"the output of {self._bundle.name}'s {FILE} is not finite")
        return Distortion(outputs["errors"][0, 0], outputs["lost"][0, 0], outputs["gradient"][0])
