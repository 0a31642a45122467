"""Main path of `sdtrt import`: a pair of ONNX networks -> checks -> adapters -> bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sdtrt.engine.networks.backends import Network
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.spaces import KNOWN, name_in_files, space_of_weights, valid_name
from sdtrt.export.folder import new_bundle, write_manifest
from sdtrt.export.gradient.network import write_gradient
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.import_options import ImportOptions
from sdtrt.export.latents.profiles import choose_profile
from sdtrt.export.latents.receptive_field import measure_receptive_radius
from sdtrt.export.latents.statistics import CodecPair
from sdtrt.export.pair import run_once, trial_planes, write_networks
from sdtrt.progress import announce

TRIAL_SIDES = (64, 96)  # pixels: networks must take both, in a batch of two
MIN_GAIN = 3.0  # dB; the round trip must be better than an image of one colour by this much


def import_pair(options: ImportOptions) -> list[str]:
    """Write the bundle of an encoder and a decoder.

    Arguments:
        options: The files, the new folder, and how to interpret the networks.

    Returns:
        Messages and warnings for the user, one sentence each.

    Raises:
        BundleError: The two networks are not a usable autoencoder (the message names the tensor), or the folder
            cannot be written.
        ValueError: An option is invalid.
    """
    options.check()
    announce("running the networks once", quiet=options.quiet)
    pair = run_once(options)
    space = valid_name(options.latent_space or space_of_weights(onnx_graph.fingerprint(pair.encoder.model)))
    with new_bundle(options.out, force=options.force) as folder:
        write_networks(pair, folder, options)
        codec, others = _try(folder, options, space)
        if options.gradient:
            announce("deriving the decoder's gradient", quiet=options.quiet)
            write_gradient(folder / "decoder.onnx", folder / "gradient.onnx", codec.downscale, options.input_range)
        announce("measuring the latents", quiet=options.quiet)
        profile, warnings = choose_profile(space, codec, options.photos, quiet=options.quiet)
        announce("measuring how far the networks look", quiet=options.quiet)
        reach, reach_message = measure_receptive_radius(codec, others)
        write_manifest(
            folder,
            {
                "name": options.out.name,
                "latent_space": name_in_files(space),
                "profile": profile,
                "pixel_range": list(options.input_range),
                "decoder_takes_step": False,
                "reach": reach,
                "export": {"imported": _description(options), "onnx": onnx.__version__, "opset": onnx_graph.OPSET},
            },
        )
    return [*pair.notes, reach_message, *warnings]


def _try(folder: Path, options: ImportOptions, space: str) -> tuple[CodecPair, Mapping[str, Network]]:
    """Return the adapted pair, and the decoders of other looks by look, after round trips at two sizes.

    Raises:
        BundleError: A round trip fails.
    """
    backend = OrtCpu()
    encoder = backend.load(folder / "encoder.onnx")
    decoders = {name: backend.load(folder / f"{name}.onnx") for name in options.decoders}
    downscale = 0
    for side in TRIAL_SIDES:
        width, height = 2 * side, side
        planes = trial_planes(width, height, options)
        latents = _run(encoder, options.encoder, "pixels", planes, "latents")
        if latents.ndim != 4 or not 0 < latents.shape[2] <= height:
            raise BundleError(f"{options.encoder}: {width}x{height} pixels give latents {latents.shape}")
        downscale = height // latents.shape[2]
        if latents.shape[2:] != (height // downscale, width // downscale) or height % downscale:
            raise BundleError(
                f"{options.encoder}: {width}x{height} pixels give latents {latents.shape}: no integer factor"
            )
        for name, decoder in decoders.items():
            path = options.decoders[name]
            back = _run(decoder, path, "latents", latents, "pixels")
            if back.shape != planes.shape:
                raise BundleError(
                    f"{path}: pixels {planes.shape} came back as {back.shape} from latents {latents.shape}"
                )
            _require_likeness(planes, back, path, options)
    known = KNOWN.get(space)
    if known and (known.channels, known.downscale) != (latents.shape[1], downscale):
        raise BundleError(
            f"{options.encoder}: 'latents' has {latents.shape[1]} channels, {downscale} pixels wide each; "
            f"latent space {space} has {known.channels}, {known.downscale} pixels wide"
        )
    return CodecPair(encoder, decoders.pop("decoder"), *options.input_range, downscale), decoders


def _run(network: Any, path: Path, source: str, values: np.ndarray, target: str) -> np.ndarray:
    try:
        output: np.ndarray = network.run({source: values})[target]
    except Exception as error:  # ONNX Runtime's exceptions have no other common base class
        raise BundleError(f"{path} fails on {source!r} of shape {values.shape}: {error}") from error
    if not np.isfinite(output).all():
        raise BundleError(f"{path}: {target!r} has values that are not finite for an image in the input range")
    return output


def _require_likeness(planes: np.ndarray, back: np.ndarray, path: Path, options: ImportOptions) -> None:
    one_colour = np.mean((planes - planes.mean((2, 3), keepdims=True)) ** 2)
    error = np.mean((planes - np.clip(back, *options.input_range)) ** 2)
    gain = 10 * np.log10(one_colour / max(error, 1e-9 * one_colour))
    if not gain >= MIN_GAIN:
        raise BundleError(
            f"{path}: 'pixels' does not reproduce the input of {options.encoder}: {gain:.1f} dB better than an image "
            f"of one colour, expected at least {MIN_GAIN}; check that the two networks belong together, the ranges "
            "and the latent scale"
        )


def _description(options: ImportOptions) -> dict[str, Any]:
    return {
        "encoder": options.encoder.name,
        "decoder": options.decoder.name,
        **{look: path.name for look, path in options.decoders.items() if look != "decoder"},
        "latent_scale": options.latent_scale,
        "latent_shift": options.latent_shift,
        "output_range": list(options.output_range or options.input_range),
        "sum_outputs": options.sum_outputs,
    }
