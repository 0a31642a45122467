"""ONNX to TensorRT engines, strongly typed from half precision: TensorRT 10, 11 and for RTX through one path."""

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
from sdtrt.engine.networks.backends.trt_library import Library, Log, import_tensorrt, installed, remedy
from sdtrt.engine.networks.bundle import Bundle
from sdtrt.errors import BundleError, DeviceError
from sdtrt.export.graphs import onnx_graph
from sdtrt.export.graphs.onnx_half import halved
from sdtrt.export.latents.sample_images import made_image
from sdtrt.kernels import reference
from sdtrt.progress import PhaseProgress, announce

OUT_OF_MEMORY = ("out of memory", "outofmemory", "could not find any implementation", "insufficient memory")
PROBE_SIDE = 256  # pixels


@dataclass(frozen=True, slots=True)
class Order:
    """What `sdtrt engines build` is told; None for shapes means those asked for last, or the standard ones."""

    bundle: Bundle
    targets: tuple[str, ...] = ("auto",)
    builder: str = "auto"
    shapes: tuple[str, ...] | None = None
    workspace_nbytes: int | None = None
    force: bool = False
    quiet: bool = True


def build_engines(
    order: Order, report: Callable[[EngineRecord, bool], None] = lambda plan, built: None
) -> list[EngineRecord]:
    """Build those engines of a bundle that are missing or no longer valid, and return them all.

    `report` is called after each with whether it was built or kept. An engine that another replaces is removed once
    that one is there. Raises `BundleError` if the bundle is damaged or a build fails, `DeviceError` if the machine
    cannot build, or has no memory for it, `OSError` if engines cannot be written.
    """
    shapes = canonical(order.shapes, order.bundle) if order.shapes else None
    index = EngineIndex.of(order.bundle)
    index = replace(index, shapes=shapes or index.shapes)
    library, targets = choose(order)
    check_new_folder(engines_folder(order.bundle))
    valid = {plan.key: plan for plan, state in engine_states(order.bundle, index) if state.kind == "valid"}
    plans = []
    for key in keys(order.bundle, library, targets, index.shapes):
        kept = not order.force and key in valid
        plan = valid[key] if kept else build_engine(order, library, key, index.folder)
        if not kept:
            # Read again, lest what another process has built meanwhile be forgotten.
            index = replace(EngineIndex.of(order.bundle), shapes=index.shapes).with_plan(plan)
            index.write()
        plans.append(plan)
        report(plan, not kept)
    slots = {(plan.key.builder, plan.key.target) for plan in plans}
    replaced = [p for p in index.plans if p not in plans and (p.key.builder, p.key.target) in slots]
    if replaced or order.shapes:
        delete_engines(index, replaced)
    return plans


def canonical(shapes: tuple[str, ...], bundle: Bundle) -> tuple[str, ...]:
    """Return shapes as they are written best, each once; `ValueError` if one does not fit the bundle."""
    parsed = [ShapeRange.parse(text) for text in shapes]
    for one in parsed:
        one.planes(1, bundle.latent_profile().downscale)
    return tuple(dict.fromkeys(map(str, parsed)))


def choose(order: Order) -> tuple[Library, list[str]]:
    """Return the library to build with and the targets to build for; `DeviceError` if there is none that can."""
    names = installed() if order.builder == "auto" else [order.builder]
    libraries = [library for library in map(import_tensorrt, names) if library.builds]
    if not libraries:
        others = f" ({', '.join(names)})" if names else ""
        raise DeviceError(f"no TensorRT that can build engines is installed{others}; {remedy()}")
    try:
        gpu, reason = architecture(), ""
    except DeviceError as error:
        gpu, reason = None, str(error)
    # TensorRT proper measures kernels on the GPU that it builds for.
    able = [library for library in libraries if gpu or library.needs_no_gpu]
    if not able:
        raise DeviceError(
            f"{libraries[0].name} builds on the GPU that the engine is for, and there is {reason}; {remedy()}"
        )
    library = able[0]
    if "auto" in order.targets and gpu is None:
        announce(f"{reason}; building engines for every GPU that {library.name} serves", quiet=order.quiet)
    return library, list(dict.fromkeys(_target(name, library, gpu) for name in order.targets))


def _target(name: str, library: Library, gpu: str | None) -> str:
    if name == "auto":
        return gpu or PORTABLE
    if not library.needs_no_gpu:
        if name != gpu:
            raise DeviceError(f"{library.name} builds for the GPU at hand, {gpu}, not for {name}")
        return name
    members = library.module.ComputeCapability.__members__
    known = [PORTABLE, *(member.lower() for member in members if member not in {"NONE", "CURRENT"})]
    if name not in known:
        raise DeviceError(f"{library.name} {library.version} does not build for {name}; it does for {', '.join(known)}")
    return name


def keys(bundle: Bundle, library: Library, targets: list[str], shapes: tuple[str, ...]) -> Iterator[EngineKey]:
    """Yield the keys of all engines that a bundle should have."""
    for network in networks_of(bundle):
        digest = onnx_hash(bundle, network)
        for target in targets:
            for text in shapes:
                yield EngineKey(network, digest, library.name, library.version, target, text)


def build_engine(order: Order, library: Library, key: EngineKey, folder: Path) -> EngineRecord:
    """Build one engine and write it into `folder`."""
    started = time.monotonic()
    path, *_ = [order.bundle.file(name) for name in onnx_files(order.bundle, key.network)]  # all hashes are checked
    with tempfile.TemporaryDirectory() as scratch:
        if not path.name.endswith(".fp16.onnx"):
            path = _half(order.bundle, key.network, Path(scratch))
        data = serialize(path, library, key, order)
    seconds = round(time.monotonic() - started, 2)
    write_whole(folder / key.file_name(), data)
    return EngineRecord(key, key.file_name(), hashlib.sha256(data).hexdigest(), data.nbytes, seconds)


def _half(bundle: Bundle, network: str, scratch: Path) -> Path:
    """Return a half-precision copy of a network that came in single precision, in `scratch`."""
    model, _ = halved(bundle.file(f"{network}.onnx"), probe(bundle, network))
    path = scratch / f"{network}.fp16.onnx"
    onnx_graph.write(model, path)
    return path


def probe(bundle: Bundle, network: str) -> dict[str, np.ndarray]:
    """Return inputs of a network as an image gives them."""
    profile = bundle.latent_profile()
    pixels = made_image(PROBE_SIDE, PROBE_SIDE)
    planes = reference.pixels_to_planes(pixels, profile.downscale, *bundle.pixel_range)[None]
    if network == "encoder":
        return {"pixels": planes}
    encoder = OrtCpu().load(bundle.file("encoder.onnx"))
    latents = encoder.run({"pixels": planes})["latents"]
    return {"latents": latents} | ({"step": np.ones(1, np.float32)} if bundle.decoder_takes_step else {})


def serialize(path: Path, library: Library, key: EngineKey, order: Order) -> memoryview:
    """Return the engine of a half-precision ONNX file; `BundleError` or `DeviceError` with TensorRT's own words."""
    trt, log = library.module, Log(library.module)
    builder = trt.Builder(log.logger)
    # TensorRT 10 must be told, 11 and RTX know no other way.
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(path)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BundleError(f"{library.name} {library.version} cannot read {path.name}: {errors}")
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, network, ShapeRange.parse(key.shapes), order.bundle))
    # TensorRT for RTX: without memory of its own an engine can be part of a CUDA graph.
    ours = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if ours is not None:
        config.set_flag(ours)
    if order.workspace_nbytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_nbytes)
    if key.target != PORTABLE and library.needs_no_gpu:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, key.target.upper()), 0)
    with PhaseProgress(f"{key.network} for {key.target}", quiet=order.quiet) as steps:
        config.progress_monitor = monitor(trt, steps)
        plan = builder.build_serialized_network(network, config)
    if steps.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise failure(f"{library.name} {library.version} could not build {key.network} for {key.target}", log)
    return memoryview(plan)


def failure(what: str, log: Log) -> Exception:
    """Return the exception for a failed build, from the library's own words."""
    text = str(log)
    if any(phrase in text.lower().replace("_", " ") for phrase in OUT_OF_MEMORY):
        return DeviceError(f"{what}: out of memory ({text}); close other programs, or ask for smaller --shapes")
    return BundleError(f"{what}: {text}")


def _profile(builder: Any, network: Any, shapes: ShapeRange, bundle: Bundle) -> Any:
    """Return the range of every input's shape: pixels at full size, latents `downscale` times smaller, vectors (N,)."""
    profile = builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        if len(tensor.shape) == 1:
            sizes: list[tuple[int, ...]] = [(size[0],) for size in (shapes.smallest, shapes.common, shapes.largest)]
        else:
            divisor = 1 if tensor.name == "pixels" else bundle.latent_profile().downscale
            sizes = list(shapes.planes(tensor.shape[1], divisor))
        profile.set_shape(tensor.name, *sizes)
    return profile


def monitor(trt: Any, steps: PhaseProgress) -> Any:
    """Return what passes TensorRT's progress on to `steps`; once those are interrupted, the build stops."""

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
