"""ONNX files to TensorRT engines, strongly typed FP16, by TensorRT 10, TensorRT 11 or TensorRT for RTX."""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sdtrt.atomic import check_new_folder
from sdtrt.engine.networks.backends.engine_index import (
    PORTABLE,
    EngineIndex,
    EngineKey,
    EngineRecord,
    delete_engines,
    engine_states,
    engines_folder,
    networks_of,
    onnx_files,
    onnx_hash,
    write_whole,
)
from sdtrt.engine.networks.backends.gpu import architecture
from sdtrt.engine.networks.backends.ort import OrtCpu
from sdtrt.engine.networks.backends.shapes import ShapeRange
from sdtrt.engine.networks.backends.trt_library import Library, Log, import_tensorrt, install_hint, installed
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.errors import BundleError, DeviceError
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.graphs.onnx_half import to_fp16
from sdtrt.export.latents.sample_images import synthetic_image
from sdtrt.kernels import reference
from sdtrt.progress import PhaseProgress, announce

OUT_OF_MEMORY = ("out of memory", "outofmemory", "could not find any implementation", "insufficient memory")
PROBE_SIDE = 256  # pixels


@dataclass(frozen=True, slots=True)
class EngineBuildOptions:
    """The options of `sdtrt engines build`.

    Attributes:
        bundle: The bundle.
        targets: GPUs to build for: `auto`, `portable`, or names of architectures.
        builder: Name of the TensorRT library, or `auto`.
        shapes: Ranges of image sizes; None for those of the last build, or the standard ones.
        workspace_nbytes: Limit of the builder's workspace; None for TensorRT's default.
        force: Whether valid engines are built again.
        quiet: Whether progress is not printed.
    """

    bundle: Bundle
    targets: tuple[str, ...] = ("auto",)
    builder: str = "auto"
    shapes: tuple[str, ...] | None = None
    workspace_nbytes: int | None = None
    force: bool = False
    quiet: bool = True


def build_engines(
    options: EngineBuildOptions, report: Callable[[EngineRecord, bool], None] = lambda plan, built: None
) -> list[EngineRecord]:
    """Build the missing and invalid engines of a bundle, and return all its engines.

    An old engine is deleted after its replacement was written.

    Arguments:
        options: The bundle, targets and shapes.
        report: Called for each engine, with True if it was built and False if it was kept.

    Raises:
        BundleError: The bundle is damaged, or a build fails.
        DeviceError: The machine cannot build engines or has too little memory.
        OSError: Engines cannot be written.
        ValueError: A shape is invalid.
    """
    shapes = canonical_shapes(options.shapes, options.bundle) if options.shapes else None
    index = EngineIndex.of(options.bundle)
    index = replace(index, shapes=shapes or index.shapes)
    library, targets = choose_library(options)
    check_new_folder(engines_folder(options.bundle))
    valid = {plan.key: plan for plan, state in engine_states(options.bundle, index) if state.kind == "valid"}
    plans = []
    for key in engine_keys(options.bundle, library, targets, index.shapes):
        kept = not options.force and key in valid
        plan = valid[key] if kept else build_engine(options, library, key, index.folder)
        if not kept:
            # Read the index again: another process may have added engines meanwhile.
            index = replace(EngineIndex.of(options.bundle), shapes=index.shapes).with_engine(plan)
            index.write()
        plans.append(plan)
        report(plan, not kept)
    slots = {(plan.key.builder, plan.key.target) for plan in plans}
    replaced = [p for p in index.engines if p not in plans and (p.key.builder, p.key.target) in slots]
    if replaced or options.shapes:
        delete_engines(index, replaced)
    return plans


def canonical_shapes(shapes: tuple[str, ...], bundle: Bundle) -> tuple[str, ...]:
    """Return shapes in canonical spelling without duplicates; `ValueError` if one does not fit the bundle."""
    parsed = [ShapeRange.parse(text) for text in shapes]
    for one in parsed:
        one.planes(1, bundle.latent_profile.downscale)
    return tuple(dict.fromkeys(map(str, parsed)))


def choose_library(options: EngineBuildOptions) -> tuple[Library, list[str]]:
    """Return the library to build with and the targets to build for; `DeviceError` if no library can build."""
    names = installed() if options.builder == "auto" else [options.builder]
    libraries = [library for library in map(import_tensorrt, names) if library.builds]
    if not libraries:
        others = f" ({', '.join(names)})" if names else ""
        raise DeviceError(f"no TensorRT that can build engines is installed{others}; {install_hint()}")
    try:
        gpu, reason = architecture(), ""
    except DeviceError as error:
        gpu, reason = None, str(error)
    # TensorRT (other than for RTX) times kernels on the GPU that it builds for.
    able = [library for library in libraries if gpu or library.needs_no_gpu]
    if not able:
        raise DeviceError(f"{libraries[0].name} builds on the GPU that the engine is for: {reason}; {install_hint()}")
    library = able[0]
    if "auto" in options.targets and gpu is None:
        announce(f"{reason}; building engines for every GPU that {library.name} serves", quiet=options.quiet)
    return library, list(dict.fromkeys(_target(name, library, gpu) for name in options.targets))


def _target(name: str, library: Library, gpu: str | None) -> str:
    if name == "auto":
        return gpu or PORTABLE
    if not library.needs_no_gpu:
        if name != gpu:
            raise DeviceError(f"{library.name} builds only for this machine's GPU, {gpu}, not for {name}")
        return name
    members = library.module.ComputeCapability.__members__
    known = [PORTABLE, *(member.lower() for member in members if member not in {"NONE", "CURRENT"})]
    if name not in known:
        raise DeviceError(f"{library.name} {library.version} does not build for {name}; expected {', '.join(known)}")
    return name


def engine_keys(bundle: Bundle, library: Library, targets: list[str], shapes: tuple[str, ...]) -> Iterator[EngineKey]:
    """Yield the keys of all engines that a bundle should have."""
    for network in networks_of(bundle):
        digest = onnx_hash(bundle, network)
        for target in targets:
            for text in shapes:
                yield EngineKey(network, digest, library.name, library.version, target, text)


def build_engine(options: EngineBuildOptions, library: Library, key: EngineKey, folder: Path) -> EngineRecord:
    """Build one engine and write it into `folder`."""
    started = time.monotonic()
    path, *_ = [options.bundle.file(name) for name in onnx_files(options.bundle, key.network)]  # checks all hashes
    with tempfile.TemporaryDirectory() as scratch:
        if not path.name.endswith(".fp16.onnx"):
            path = _half(options.bundle, key.network, Path(scratch))
        data = serialize(path, library, key, options)
    seconds = round(time.monotonic() - started, 2)
    write_whole(folder / key.file_name(), data)
    return EngineRecord(key, key.file_name(), hashlib.sha256(data).hexdigest(), data.nbytes, seconds)


def _half(bundle: Bundle, network: str, scratch: Path) -> Path:
    """Return the path of a half-precision copy, in `scratch`, of a network in single precision."""
    model, _ = to_fp16(bundle.file(f"{network}.onnx"), probe_inputs(bundle, network))
    path = scratch / f"{network}.fp16.onnx"
    onnx_graph.write(model, path)
    return path


def probe_inputs(bundle: Bundle, network: str) -> dict[str, np.ndarray]:
    """Return inputs of a network, by name, computed from a synthetic image."""
    profile = bundle.latent_profile
    pixels = synthetic_image(PROBE_SIDE, PROBE_SIDE)
    planes = reference.pixels_to_planes(pixels, profile.downscale, *bundle.pixel_range)[None]
    if network == "encoder":
        return {"pixels": planes}
    encoder = OrtCpu().load(bundle.file("encoder.onnx"))
    latents = encoder.run({"pixels": planes})["latents"]
    return {"latents": latents} | ({"step": np.ones(1, np.float32)} if bundle.decoder_takes_step else {})


def serialize(path: Path, library: Library, key: EngineKey, options: EngineBuildOptions) -> memoryview:
    """Return the engine of a half-precision ONNX file; `BundleError` or `DeviceError` with TensorRT's message."""
    trt, log = library.module, Log(library.module)
    builder = trt.Builder(log.logger)
    # TensorRT 10 needs this flag; in 11 and RTX all networks are strongly typed.
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(path)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BundleError(f"{library.name} {library.version} cannot read {path.name}: {errors}")
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, network, ShapeRange.parse(key.shapes), options.bundle))
    # TensorRT for RTX: an engine that allocates no memory can be part of a CUDA graph.
    ours = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if ours is not None:
        config.set_flag(ours)
    if options.workspace_nbytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_nbytes)
    if key.target != PORTABLE and library.needs_no_gpu:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, key.target.upper()), 0)
    with PhaseProgress(f"{key.network} for {key.target}", quiet=options.quiet) as steps:
        config.progress_monitor = progress_monitor(trt, steps)
        plan = builder.build_serialized_network(network, config)
    if steps.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise build_error(f"{library.name} {library.version} could not build {key.network} for {key.target}", log)
    return memoryview(plan)


def build_error(message: str, log: Log) -> Exception:
    """Return the exception for a failed build, with the library's message."""
    text = str(log)
    if any(phrase in text.lower().replace("_", " ") for phrase in OUT_OF_MEMORY):
        return DeviceError(f"{message}: out of memory ({text}); close other programs, or ask for smaller --shapes")
    return BundleError(f"{message}: {text}")


def _profile(builder: Any, network: Any, shapes: ShapeRange, bundle: Bundle) -> Any:
    """Return the optimization profile: pixels at full size, latents `downscale` times smaller, vectors (N,)."""
    profile = builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        if len(tensor.shape) == 1:
            sizes: list[tuple[int, ...]] = [(size[0],) for size in (shapes.min, shapes.opt, shapes.max)]
        else:
            divisor = 1 if tensor.name == "pixels" else bundle.latent_profile.downscale
            sizes = list(shapes.planes(tensor.shape[1], divisor))
        profile.set_shape(tensor.name, *sizes)
    return profile


def progress_monitor(trt: Any, steps: PhaseProgress) -> Any:
    """Return a TensorRT progress monitor that reports to `steps` and stops the build when they are interrupted."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            steps.begin(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            steps.advance(phase_name, step + 1)
            return not steps.interrupted

        def phase_finish(self, phase_name: str) -> None:
            steps.end(phase_name)

    return Monitor()
