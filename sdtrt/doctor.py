"""A report about this machine: versions, GPU, usable backends and the reasons why others are not, models."""

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
    """A line of the report.

    Arguments:
        subject: the subject.
        ok: True if it works, False for a problem, None for a plain fact.
        detail: the rest of the line.
    """

    subject: str
    ok: bool | None
    detail: str


def examine() -> list[Finding]:
    """Examine this machine.

    The findings cover versions, the GPU, the backends for the built-in model, building of engines, and models. The
    checksums of the models' files are verified.
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
    """Return a description of the GPU, or the reason why none is found."""
    try:
        return description()
    except DeviceError as error:
        return str(error)


def _ways() -> list[Finding]:
    """Return a finding for each backend and device; `ok` is False only if no backend runs the model on the CPU."""
    try:
        bundle = find_bundle(BUILT_IN)
    except SdtrtError:
        return []  # the findings about models give the reason
    obstacles = [(way, way.obstacle(bundle, 0, "auto")) for way in WAYS]
    runs_on_cpu = any(way.device == "cpu" and not obstacle for way, obstacle in obstacles)
    findings = dict[str, Finding]()
    for way, obstacle in obstacles:
        subject = f"backend {way.backend}, device {way.device}"
        ok = True if not obstacle else (None if runs_on_cpu or way.device != "cpu" else False)
        # A backend may have several entries: a usable entry wins, else the last one, which has the fewest requirements.
        if subject not in findings or not findings[subject].ok:
            findings[subject] = Finding(subject, ok, obstacle or way.runtime())
    return [*findings.values()]


def _engines() -> list[Finding]:
    """Return a finding about building TensorRT engines: the library and the target GPUs, or the missing part."""
    try:
        bundle = find_bundle(BUILT_IN)
    except SdtrtError:
        return []
    return [Finding("build of engines", *_build_of_engines(bundle))]


def _build_of_engines(bundle: Bundle) -> tuple[bool | None, str]:
    try:
        from sdtrt.export.engines import Order, choose
    except ImportError as error:
        text = f"engines are built from ONNX files ({error}); install it with: {install_command('cpu', 'onnx')}"
        return None, text if installed() else f"{text}; no TensorRT is installed either; {remedy()}"
    try:
        library, targets = choose(Order(bundle))
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
