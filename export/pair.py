"""An encoder and its decoders in ONNX, of any source: read, run once, and adapted to sdtrt's inputs and outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdtrt._arrays import F32Array
from sdtrt.errors import BundleError
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.graphs.onnx_trial import Graph, described, require_channels_first
from sdtrt.export.import_options import ImportOptions
from sdtrt.export.latents.sample_images import synthetic_image


@dataclass(frozen=True, slots=True)
class Pair:
    """An encoder and its decoders as read, and properties that one run of them has shown.

    Attributes:
        encoder: The encoder.
        decoders: The decoders, by their file names in the bundle.
        output: Name of the encoder's output that holds the latents.
        channels: Number of channels of the latents.
        first: `channels` if the output has more channels, else None.
        planes: For each decoder its outputs, each with its integer enlargement factor.
        notes: Messages for the user.
    """

    encoder: Graph
    decoders: dict[str, Graph]
    output: str
    channels: int
    first: int | None
    planes: dict[str, list[tuple[str, int]]]
    notes: list[str]


def run_once(options: ImportOptions) -> Pair:
    """Read and run the networks; `BundleError` names a tensor that does not fit."""
    encoder = Graph.read(options.encoder, channels=3)
    decoders = {f"{name}.onnx": Graph.read(path, channels=None) for name, path in options.decoders.items()}
    pixels = trial_planes(128, 64, options)
    output, encoded = _latents_of(encoder, pixels, options)
    notes = [note for graph in (encoder, *decoders.values()) for note in graph.notes]
    channels = _channels(encoder, decoders["decoder.onnx"], output, encoded)
    first = channels if channels < encoded.shape[1] else None
    if first is not None:
        notes.append(
            f"{options.encoder.name}: {output!r} has {encoded.shape[1]} channels, the decoder takes {channels}; the "
            f"first {channels} are used as the mean, the others are ignored as log-variance"
        )
    latents = np.ascontiguousarray(encoded[:, :channels])
    planes = {name: _outputs_of(graph, latents, pixels.shape, options) for name, graph in decoders.items()}
    return Pair(encoder, decoders, output, channels, first, planes, notes)


def _latents_of(encoder: Graph, pixels: F32Array, options: ImportOptions) -> tuple[str, F32Array]:
    """Return the name and the values of the output that holds latents."""
    values = encoder.run(pixels)
    name = _chosen(values, encoder.path, options.encoder_output, "--encoder-output")
    encoded = values[name]
    require_channels_first(encoder.path, name, encoded.shape, *pixels.shape[2:])
    if encoded.ndim != 4 or encoded.dtype != np.float32:
        raise BundleError(f"{encoder.path}: output {described({name: encoded})} is not float32 (N, C, h, w)")
    if encoder.draws(encoded):
        raise BundleError(
            f"{encoder.path}: output {name!r} is a random sample; export the mean instead (in diffusers "
            "latent_dist.mode()), or name the output that holds the mean with --encoder-output"
        )
    return name, encoded


def _channels(encoder: Graph, decoder: Graph, output: str, encoded: F32Array) -> int:
    """Return how many of the encoder's channels the decoder takes: all, or the first half, which is the mean."""
    every = encoded.shape[1]
    taken = decoder.channels or (every if every % 2 or _takes(decoder, encoded) else every // 2)
    if taken not in {every, every / 2}:
        raise BundleError(
            f"{decoder.path}: input {decoder.source} takes {taken} channels, {encoder.path} gives {output!r} with "
            f"{every}; expected the same number, or half of it (mean without log-variance)"
        )
    return taken


def _takes(decoder: Graph, latents: F32Array) -> bool:
    try:
        decoder.run(latents)
    except BundleError:
        return False
    return True


def _chosen(values: Mapping[str, F32Array], path: Path, name: str | None, option: str) -> str:
    if name is None and len(values) > 1:
        hint = ", or add them with --sum-outputs" if option == "--decoder-output" else ""
        raise BundleError(f"{path} has outputs {described(values)}; name one with {option}{hint}")
    if name is not None and name not in values:
        raise BundleError(f"{path} has no output {name!r}; it has {described(values)}")
    return name or next(iter(values))


def _outputs_of(
    graph: Graph, latents: F32Array, shape: tuple[int, ...], options: ImportOptions
) -> list[tuple[str, int]]:
    """Return the decoder's outputs that make up the image, each with its integer enlargement factor."""
    values = graph.run(latents)
    if not options.sum_outputs:
        name = _chosen(values, graph.path, options.decoder_output, "--decoder-output")
        values = {name: values[name]}
    for name, value in values.items():
        require_channels_first(graph.path, name, value.shape, *shape[2:])
        if value.ndim != 4 or value.dtype != np.float32 or value.shape[1] != 3:
            raise BundleError(f"{graph.path}: output {described({name: value})} is not float32 (N, 3, H, W)")
    height, width = (max(value.shape[axis] for value in values.values()) for axis in (2, 3))
    for name, value in values.items():
        rows, columns = value.shape[2:]
        if not rows or not columns or height % rows or width % columns or height // rows != width // columns:
            raise BundleError(f"{graph.path}: output {name!r} of {columns}x{rows} does not divide {width}x{height}")
    return [(name, height // value.shape[2]) for name, value in values.items()]


def write_networks(pair: Pair, folder: Path, options: ImportOptions) -> None:
    """Write the networks of a pair with sdtrt's tensor names, pixel range and latent scale."""
    scale, shift = options.latent_scale, options.latent_shift
    adapted = onnx_graph.adapted(
        pair.encoder.model,
        "pixels",
        "latents",
        [(pair.output, 1)],
        channels=(3, pair.channels),
        first=pair.first,
        after=(scale, -shift * scale),
    )
    onnx_graph.write(adapted, folder / "encoder.onnx")
    (low, high), (out_low, out_high) = options.input_range, options.output_range or options.input_range
    ratio = (high - low) / (out_high - out_low)
    for name, graph in pair.decoders.items():
        adapted = onnx_graph.adapted(
            graph.model,
            "latents",
            "pixels",
            pair.planes[name],
            channels=(pair.channels, 3),
            before=(1 / scale, shift),
            after=(ratio, low - out_low * ratio),
        )
        onnx_graph.write(adapted, folder / name)


def trial_planes(width: int, height: int, options: ImportOptions) -> F32Array:
    """Return a batch of two equal synthetic images, float32 (2, 3, height, width), in the input range."""
    low, high = options.input_range
    planes = synthetic_image(width, height).transpose(2, 0, 1)[None].astype(np.float32) / 255 * (high - low) + low
    return np.repeat(planes, 2, axis=0)
