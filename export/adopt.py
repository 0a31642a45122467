"""Main path of `sdtrt import`: anyone's pair of ONNX networks -> checks -> adapters -> bundle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sdtrt.engine.networks.backends import Network
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.spaces import KNOWN, name_in_files, space_of_weights, valid_name
from sdtrt.export.folder import new_bundle, require_vacant, write_manifest
from sdtrt.export.gradient.network import write_gradient
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.graphs.onnx_graph import Tensor
from sdtrt.export.graphs.onnx_run import run
from sdtrt.export.latents.calibrate import Networks
from sdtrt.export.latents.picture import made_picture, photos_in
from sdtrt.export.latents.profiles import decide_profile
from sdtrt.export.latents.reach import find_reach

TRIAL_SIDES = (64, 96)  # pixels: networks must take both, in a batch of two
LEAST_GAIN = 3.0  # dB by which the round trip must be better than a picture of one colour


@dataclass(frozen=True, slots=True)
class Adoption:
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


def adopt(wish: Adoption) -> list[str]:
    """Write the bundle of an encoder and a decoder, and return what there is to tell or warn of.

    Raises `BundleError`, naming the tensor, if the two are not an autoencoder that this project can use.
    """
    _require_numbers(wish)
    require_vacant(wish.out, force=wish.force)
    _require_inputs(wish)
    encoder = onnx_graph.read(wish.encoder)
    space = valid_name(wish.latent_space or space_of_weights(onnx_graph.fingerprint(encoder)))
    with new_bundle(wish.out, force=wish.force) as folder:
        onnx_graph.write(_adapted_encoder(encoder, wish), folder / "encoder.onnx")
        for name, path in _decoders(wish).items():
            onnx_graph.write(_adapted_decoder(path, wish), folder / name)
        networks, vivid = _try(folder, wish, space)
        if wish.gradient:
            write_gradient(folder / "decoder.onnx", folder / "gradient.onnx", networks.downscale, wish.input_range)
        profile, warnings = decide_profile(space, networks, wish.photos, quiet=wish.quiet)
        reach, told = find_reach(networks, vivid)
        write_manifest(
            folder,
            {
                "name": wish.out.name,
                "latent_space": name_in_files(space),
                "profile": profile,
                "pixel_range": list(wish.input_range),
                "decoder_takes_step": False,
                "reach": reach,
                "export": {"imported": _description(wish), "onnx": onnx.__version__, "opset": onnx_graph.OPSET},
            },
        )
    return [told, *warnings]


def _require_numbers(wish: Adoption) -> None:
    numbers = (*wish.input_range, *(wish.output_range or ()), wish.latent_scale, wish.latent_shift)
    low, high = wish.output_range or wish.input_range
    if not np.isfinite(numbers).all() or not 1e-6 <= abs(wish.latent_scale) <= 1e6 or not low < high:
        raise ValueError("ranges must rise, the latent scale lie between 1e-6 and 1e6, and all be finite")


def _require_inputs(wish: Adoption) -> None:
    """Raise `BundleError` or `ValueError` for a missing file or folder, or a bad name, before any network is read."""
    for path in (wish.encoder, *_decoders(wish).values()):
        onnx_graph.require_file(path)
    if wish.latent_space is not None:
        valid_name(wish.latent_space)
    if wish.photos is not None:
        photos_in(wish.photos)


def _adapted_encoder(model: onnx.ModelProto, wish: Adoption) -> onnx.ModelProto:
    pixels = _only_input(model, wish.encoder, channels=3)
    output = _chosen_output(model, wish.encoder, wish.encoder_output, "--encoder-output")
    channels = output.shape[1]
    if channels is None:
        raise BundleError(f"{wish.encoder}: output {output} has no fixed number of channels")
    return onnx_graph.adapted(
        model,
        "pixels",
        "latents",
        [(output.name, 1)],
        channels=(pixels.shape[1] or 3, channels),
        after=(wish.latent_scale, -wish.latent_shift * wish.latent_scale),
    )


def _decoders(wish: Adoption) -> dict[str, Path]:
    """Return the decoders by the names that they get in the bundle."""
    return {"decoder.onnx": wish.decoder} | ({"vivid.onnx": wish.vivid} if wish.vivid else {})


def _adapted_decoder(path: Path, wish: Adoption) -> onnx.ModelProto:
    model = onnx_graph.read(path)
    latents = _only_input(model, path, channels=None)
    if latents.shape[1] is None:
        raise BundleError(f"{path}: input {latents} has no fixed number of channels")
    if wish.sum_outputs:
        planes = [(name, factor) for name, factor in _enlargements(model, path, latents)]
    else:
        planes = [(_chosen_output(model, path, wish.decoder_output, "--decoder-output").name, 1)]
    (low, high), (out_low, out_high) = wish.input_range, wish.output_range or wish.input_range
    scale = (high - low) / (out_high - out_low)
    return onnx_graph.adapted(
        model,
        "latents",
        "pixels",
        planes,
        channels=(latents.shape[1], 3),
        before=(1 / wish.latent_scale, wish.latent_shift),
        after=(scale, low - out_low * scale),
    )


def _only_input(model: onnx.ModelProto, path: Path, channels: int | None) -> Tensor:
    found = onnx_graph.inputs(model)
    if len(found) != 1:
        raise BundleError(f"{path} has inputs {', '.join(map(str, found))}; expected one, the picture or its latents")
    return _plane(found[0], path, "input", channels)


def _chosen_output(model: onnx.ModelProto, path: Path, name: str | None, option: str) -> Tensor:
    found = {output.name: output for output in onnx_graph.outputs(model)}
    if name is None and len(found) > 1:
        hint = ", or add them up with --sum-outputs" if option == "--decoder-output" else ""
        raise BundleError(f"{path} has outputs {', '.join(map(str, found.values()))}; name one with {option}{hint}")
    if name is not None and name not in found:
        raise BundleError(f"{path} has no output {name!r}; it has {', '.join(map(str, found.values()))}")
    if not found:
        raise BundleError(f"{path} has no output")
    return _plane(found[name] if name else next(iter(found.values())), path, "output", None)


def _plane(tensor: Tensor, path: Path, what: str, channels: int | None) -> Tensor:
    """Return `tensor` if it may be a batch of planes; height and width must be free for pictures of any size."""
    if tensor.dtype != np.float32:
        raise BundleError(
            f"{path}: {what} {tensor} is not float32; half precision is made from single when engines are"
        )
    if len(tensor.shape) != 4:
        raise BundleError(f"{path}: {what} {tensor} has {len(tensor.shape)} axes, expected (N, C, H, W)")
    if channels and tensor.shape[1] not in {None, channels}:
        raise BundleError(f"{path}: {what} {tensor} has {tensor.shape[1]} channels, expected {channels}: RGB, N C H W")
    if what == "input" and (tensor.shape[0], *tensor.shape[2:]) != (None, None, None):
        raise BundleError(f"{path}: {what} {tensor} has fixed sizes; export it with dynamic batch, height and width")
    return tensor


def _enlargements(model: onnx.ModelProto, path: Path, latents: Tensor) -> list[tuple[str, int]]:
    """Return a decoder's outputs and by how much each must be enlarged to the size of the largest."""
    names = [_plane(output, path, "output", 3).name for output in onnx_graph.outputs(model)]
    trial = np.zeros((1, latents.shape[1] or 1, 4, 6), np.float32)
    try:
        shapes = {name: value.shape for name, value in run(model, {latents.name: trial}, names).items()}
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        raise BundleError(f"{path} fails on {latents.name!r} of shape {trial.shape}: {error}") from error
    if not all(len(shape) == 4 and min(shape) > 0 for shape in shapes.values()):
        raise BundleError(f"{path} gives outputs {shapes} for latents {trial.shape}")
    height, width = max(shape[2] for shape in shapes.values()), max(shape[3] for shape in shapes.values())
    for name, shape in shapes.items():
        if height % shape[2] or width % shape[3] or height // shape[2] != width // shape[3]:
            raise BundleError(f"{path}: output {name!r} of {shape[3]}x{shape[2]} does not divide {width}x{height}")
    return [(name, height // shape[2]) for name, shape in shapes.items()]


def _try(folder: Path, wish: Adoption, space: str) -> tuple[Networks, Network | None]:
    """Return the adapted pair, and the vivid decoder, after a round trip of two sizes; `BundleError` if it is none."""
    backend = OrtCpu()
    encoder = backend.load(folder / "encoder.onnx")
    decoders = {path: backend.load(folder / name) for name, path in _decoders(wish).items()}
    downscale = 0
    for side in TRIAL_SIDES:
        width, height = 2 * side, side
        pixels = made_picture(width, height)
        low, high = wish.input_range
        planes = pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255 * (high - low) + low
        planes = np.repeat(planes, 2, axis=0)
        latents = _run(encoder, wish.encoder, "pixels", planes, "latents")
        if latents.ndim != 4 or not 0 < latents.shape[2] <= height:
            raise BundleError(f"{wish.encoder}: {width}x{height} pixels give latents {latents.shape}")
        downscale = height // latents.shape[2]
        if latents.shape[2:] != (height // downscale, width // downscale) or height % downscale:
            raise BundleError(
                f"{wish.encoder}: {width}x{height} pixels give latents {latents.shape}: no integer factor"
            )
        for path, decoder in decoders.items():
            back = _run(decoder, path, "latents", latents, "pixels")
            if back.shape != planes.shape:
                raise BundleError(
                    f"{path}: pixels {planes.shape} came back as {back.shape} from latents {latents.shape}"
                )
            _require_likeness(planes, back, path, wish)
    known = KNOWN.get(space)
    if known and (known.channels, known.downscale) != (latents.shape[1], downscale):
        raise BundleError(
            f"{wish.encoder}: 'latents' has {latents.shape[1]} channels, {downscale} pixels wide each; "
            f"latent space {space} has {known.channels}, {known.downscale} pixels wide"
        )
    vivid = decoders[wish.vivid] if wish.vivid else None
    return Networks(encoder, decoders[wish.decoder], low, high, downscale), vivid


def _run(network: Any, path: Path, source: str, values: np.ndarray, target: str) -> np.ndarray:
    try:
        found: np.ndarray = network.run({source: values})[target]
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        raise BundleError(f"{path} fails on {source!r} of shape {values.shape}: {error}") from error
    if not np.isfinite(found).all():
        raise BundleError(f"{path}: {target!r} holds values that are not finite for a picture in the input range")
    return found


def _require_likeness(planes: np.ndarray, back: np.ndarray, path: Path, wish: Adoption) -> None:
    one_colour = np.mean((planes - planes.mean((2, 3), keepdims=True)) ** 2)
    error = np.mean((planes - np.clip(back, *wish.input_range)) ** 2)
    gain = 10 * np.log10(one_colour / max(error, 1e-9 * one_colour))
    if not gain >= LEAST_GAIN:
        raise BundleError(
            f"{path}: 'pixels' is not the picture that {wish.encoder} was given: {gain:.1f} dB better than one "
            f"colour, expected at least {LEAST_GAIN}; do the two belong together, and are ranges and scale right?"
        )


def _description(wish: Adoption) -> dict[str, Any]:
    return {
        "encoder": wish.encoder.name,
        "decoder": wish.decoder.name,
        "vivid": wish.vivid.name if wish.vivid else None,
        "latent_scale": wish.latent_scale,
        "latent_shift": wish.latent_shift,
        "output_range": list(wish.output_range or wish.input_range),
        "sum_outputs": wish.sum_outputs,
    }
