"""A report on this machine: versions, the GPU, which backends are available, and why others are not."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sdtrt._version import __version__
from sdtrt.engine.backend_benchmark import measure_backends
from sdtrt.engine.networks import pipeline
from sdtrt.engine.networks.backend_timings import by_speed, load_timings, save_timings
from sdtrt.engine.networks.backends.cache import user_cache
from sdtrt.engine.networks.backends.gpu import description
from sdtrt.engine.networks.backends.trt_library import install_hint, installed
from sdtrt.engine.networks.bundle import Bundle, bundle_folders, find_bundle, models_folder_error
from sdtrt.engine.networks.choices import BUILT_IN
from sdtrt.errors import DeviceError, SdtrtError
from sdtrt.kernels import core
from sdtrt.process.install import install_command


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `ok` is None where a failure would not matter."""

    subject: str
    ok: bool | None
    detail: str


def examine() -> list[Finding]:
    """Return the findings: versions, the backends for the built-in model, the build of engines, and all models.

    The hashes of all files of the models are checked.
    """
    findings = [
        Finding("sdtrt", None, __version__),
        Finding("python", None, f"{platform.python_version()} on {platform.machine()} {platform.system()}"),
        *(Finding(name, None, metadata.version(name)) for name in ("numpy", "pillow", "constriction")),
        Finding("entropy coding", None, core.description()),
        Finding("gpu", None, gpu_line()),
        *_backends(),
        *_timings(),
        *_engines(),
    ]
    if error := models_folder_error():
        findings.append(Finding("folder of models", None, error))
    return findings + [_model(folder) for folder in bundle_folders()]


def gpu_line() -> str:
    """Return the name of the GPU, or why no GPU is accessible."""
    try:
        return description()
    except DeviceError as error:
        return str(error)


def _backends() -> list[Finding]:
    """Return for each backend whether it can run the built-in model. Only a machine where none runs has a fault."""
    try:
        bundle = find_bundle(BUILT_IN)
    except SdtrtError:
        return []  # the findings about models have the reason
    candidates = [(backend, backend.unavailable_reason(bundle, 0, "auto")) for backend in pipeline.BACKENDS_BY_SPEED]
    runs_on_cpu = any(backend.device == "cpu" and not reason for backend, reason in candidates)
    findings = dict[str, Finding]()
    for backend, reason in candidates:
        subject = f"backend {backend.name}, device {backend.device}"
        ok = True if not reason else (None if runs_on_cpu or backend.device != "cpu" else False)
        # A backend may be listed twice. The entry that is available counts, else the last entry, which needs least.
        if subject not in findings or not findings[subject].ok:
            findings[subject] = Finding(subject, ok, reason or backend.version())
    return [*findings.values()]


def _timings() -> list[Finding]:
    """Return the measured times of the backends on the CPU, the fastest first, and for what they are fastest."""
    timings = by_speed(load_timings(), single_call=False)
    if not timings:
        return [Finding("time of backends", None, "not measured; measure with: sdtrt doctor --measure")]
    fastest = timings[0], by_speed(timings, single_call=True)[0]
    uses = "the fastest on the CPU for many images", "the fastest on the CPU for one image"
    return [
        Finding(
            f"time of {timing.backend} {timing.precision}",
            None,
            "; ".join(
                [
                    f"768x512 decode {timing.decode_ms:.0f} ms, first image, start included, {timing.first_ms:.0f} ms",
                    *(use for best, use in zip(fastest, uses, strict=True) if best == timing),
                ]
            ),
        )
        for timing in timings
    ]


def measure(report: Callable[[str], None] = lambda text: None) -> list[str]:
    """Time the backends on the CPU, keep the times in the user's cache, and return messages about what fails.

    Arguments:
        report: called with a message before each backend is timed.

    Raises:
        DeviceError: no backend works.
    """
    timings, failures = measure_backends(report)
    if not save_timings(timings):
        place = user_cache() or "a cache, since the user has no home folder"
        failures.append(f"the times cannot be written into {place}; set XDG_CACHE_HOME to a folder that can be written")
    return failures


def _engines() -> list[Finding]:
    """Return by which library and for which GPUs TensorRT engines can be built here, or what is missing."""
    try:
        bundle = find_bundle(BUILT_IN)
    except SdtrtError:
        return []
    return [Finding("build of engines", *_build_of_engines(bundle))]


def _build_of_engines(bundle: Bundle) -> tuple[bool | None, str]:
    try:
        from sdtrt.export.engines import EngineBuildOptions, choose_library
    except ImportError as error:
        text = f"engines are built from ONNX files ({error}); install it with: {install_command('cpu', 'onnx')}"
        return None, text if installed() else f"{text}; no TensorRT is installed either; {install_hint()}"
    try:
        library, targets = choose_library(EngineBuildOptions(bundle))
    except DeviceError as error:
        return None, str(error)
    return True, f"{library.name} {library.version}, for target {', '.join(targets)}: sdtrt engines build"


def _model(path: Path) -> Finding:
    try:
        bundle = Bundle.open(path)
        for name in bundle.files:
            bundle.file(name)
    except SdtrtError as error:
        return Finding(f"model {path.name}", False, str(error))
    return Finding(
        f"model {bundle.name}", True, f"latent space {bundle.latent_space}, {len(bundle.files)} files intact"
    )
