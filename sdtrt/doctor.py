"""What this machine has, and why each way to run networks is or is not usable."""

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sdtrt._version import __version__
from sdtrt.engine.networks.backends.gpu import description
from sdtrt.engine.networks.backends.trt_library import installed, remedy
from sdtrt.engine.networks.bundle import BUILT_IN, Bundle, bundle_folders, find_bundle, models_folder_error
from sdtrt.engine.networks.pipeline import WAYS
from sdtrt.errors import DeviceError, SdtrtError
from sdtrt.process.install import install_command


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `ok` is None where nothing hangs on it."""

    subject: str
    ok: bool | None
    detail: str


def examine() -> list[Finding]:
    """Return the findings.

    They are versions, the ways to run the built-in model, whether engines can be built, and models with their files'
    hashes checked.
    """
    findings = [
        Finding("sdtrt", None, __version__),
        Finding("python", None, f"{platform.python_version()} on {platform.machine()} {platform.system()}"),
        *(Finding(name, None, metadata.version(name)) for name in ("numpy", "pillow", "constriction")),
        Finding("gpu", None, gpu_line()),
        *_ways(),
        *_engines(),
    ]
    if error := models_folder_error():
        findings.append(Finding("folder of models", None, error))
    return findings + [_model(folder) for folder in bundle_folders()]


def gpu_line() -> str:
    """Return what GPU there is, or why none can be seen."""
    try:
        return description()
    except DeviceError as error:
        return str(error)


def _ways() -> list[Finding]:
    """Return for each way to run the built-in model whether it works here; amiss is only that none does on the CPU."""
    try:
        bundle = find_bundle(BUILT_IN)
    except SdtrtError:
        return []  # the findings about models say why
    obstacles = [(way, way.obstacle(bundle, 0, "auto")) for way in WAYS]
    runs_on_cpu = any(way.device == "cpu" and not obstacle for way, obstacle in obstacles)
    found = dict[str, Finding]()
    for way, obstacle in obstacles:
        subject = f"backend {way.backend}, device {way.device}"
        ok = True if not obstacle else (None if runs_on_cpu or way.device != "cpu" else False)
        # A backend may be two ways: one that works counts, else the obstacle of the last, which asks for least.
        if subject not in found or not found[subject].ok:
            found[subject] = Finding(subject, ok, obstacle or way.runtime())
    return [*found.values()]


def _engines() -> list[Finding]:
    """Return whether TensorRT engines can be built here, by which library and for which GPUs, or what is missing."""
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
        return None, text if installed() else f"{text}; no TensorRT is installed either; {remedy()}"
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
    return Finding(f"model {bundle.name}", True, f"latent space {bundle.latent_space}, {len(bundle.files)} files whole")
