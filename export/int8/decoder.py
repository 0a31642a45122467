"""Main path of `sdtrt calibrate --int8`: photos -> ranges of activations -> decoder in eight bits -> bundle."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from sdtrt._arrays import F32Array, U8Array
from sdtrt.atomic import check_output, replace_file
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.latent_file import decode_latents, encode_latents_to_file
from sdtrt.engine.image import psnr
from sdtrt.engine.networks.backends import INT8_DECODER
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.engine.networks.bundle import MANIFEST, Bundle, file_hash
from sdtrt.errors import BundleError
from sdtrt.export.graphs.onnx_graph import require_inline_weights, write_sharing_weights
from sdtrt.export.int8.network import quantize
from sdtrt.export.latents.sample_images import list_photos, random_crops
from sdtrt.kernels import reference
from sdtrt.progress import announce

DECODER = "decoder.onnx"
CROPS, SIDE = 40, 256  # every other crop measures the loss; the networks are made from the rest


@dataclass(frozen=True, slots=True)
class Int8Decoder:
    """A decoder in eight bits.

    Attributes:
        exact_layers: Names of the weights of large convolutions that stay in single precision.
        mean_loss: Mean loss of PSNR on the crops that the decoder was not made from, in dB.
        worst_loss: Largest loss of PSNR on them, in dB.
    """

    exact_layers: list[str]
    mean_loss: float
    worst_loss: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A crop of a photo, and the inputs of the decoder for it.

    Attributes:
        pixels: uint8 (H, W, 3).
        inputs: Latents as a file holds them, float32 (1, C, h, w), and the quantization step if the decoder takes it.
    """

    pixels: U8Array
    inputs: dict[str, F32Array]


def add_int8_decoder(folder: Path, photos: Path, *, force: bool = False, quiet: bool = True) -> Int8Decoder:
    """Add the decoder of a bundle in eight bits to the bundle.

    The file reads its weights from the decoder's own file, so it is small.

    Arguments:
        folder: Folder of the bundle, which is changed.
        photos: Folder of photos, some dozens.
        force: Whether a decoder in eight bits that the bundle has is replaced.
        quiet: Whether progress is not printed.

    Raises:
        BundleError: The bundle has such a decoder and `force` is not set, no photo is usable, the decoder's weights are
            in a file of their own, or no convolution can be in eight bits.
        OSError: The bundle cannot be written.
    """
    bundle = Bundle.open(folder)
    if INT8_DECODER in bundle.files and not force:
        raise BundleError(f"bundle {bundle.name} has {INT8_DECODER}; replace it with --force")
    check_output(folder / MANIFEST)
    require_inline_weights(bundle.file(DECODER), "eight bits")
    samples = [*samples_of(bundle, list_photos(photos))]
    if len(samples) < 2:
        raise BundleError(f"{photos} gives fewer than two crops; add photos that can be read and are large enough")
    announce(f"quantizing {DECODER}", quiet=quiet)
    made = write_int8_decoder(bundle, samples[::2], samples[1::2])
    files = bundle.files | {INT8_DECODER: file_hash(folder / INT8_DECODER)}
    manifest = json.loads((folder / MANIFEST).read_text("utf-8")) | {"files": dict(sorted(files.items()))}
    replace_file(folder / MANIFEST, (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode())
    return made


def samples_of(bundle: Bundle, photos: list[Path]) -> Iterator[Sample]:
    """Yield crops of photos, encoded at random qualities."""
    codec = EngineCodec(bundle, backend="ort", device="cpu", precision="fp32")
    profile, rng = codec.profile, np.random.default_rng(1)
    for pixels in random_crops(photos, CROPS, SIDE, profile.downscale):
        code = profile.step_code(rng.uniform(1, 100))
        height, width = pixels.shape[:2]
        file = encode_latents_to_file(codec.analyse(pixels), width, height, profile, code)
        inputs = {"latents": decode_latents(file, model_profile=profile)[None]}
        if bundle.decoder_takes_step:
            inputs["step"] = np.array([file.header.quant_step], np.float32)
        yield Sample(pixels, inputs)


def write_int8_decoder(bundle: Bundle, samples: list[Sample], others: list[Sample]) -> Int8Decoder:
    """Write the decoder in eight bits, made from some samples, and measure its loss on others."""
    own, path = bundle.file(DECODER), bundle.folder / f".{INT8_DECODER}"  # in the folder, for the weights beside it
    model, exact_layers = quantize(onnx.load(own), [sample.inputs for sample in samples])
    write_sharing_weights(model, path, own)
    backend = OrtCpu()
    networks = backend.load(own), backend.load(path)
    losses = []
    for sample in others:
        exact, quantized = (psnr(sample.pixels, decoded(network.run(sample.inputs), bundle)) for network in networks)
        losses.append(exact - quantized)
    path.replace(bundle.folder / INT8_DECODER)
    return Int8Decoder(exact_layers, round(float(np.mean(losses)), 4), round(float(np.max(losses)), 4))


def decoded(outputs: dict[str, F32Array], bundle: Bundle) -> U8Array:
    """Return the pixels of a decoder's output, uint8 (H, W, 3)."""
    planes = outputs["pixels"][0]
    height, width = planes.shape[1:]
    return reference.planes_to_pixels(planes, width, height, *bundle.pixel_range)
