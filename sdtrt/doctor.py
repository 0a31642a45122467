"""What this machine has, and why each way to run networks is or is not usable."""

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sdtrt._version import __version__
from sdtrt.engine.backends.ort import import_onnxruntime
from sdtrt.engine.bundle import Bundle, bundle_folders
from sdtrt.engine.trt import installed
from sdtrt.errors import SdtrtError


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `ok` is None where nothing hangs on it."""

    subject: str
    ok: bool | None
    detail: str


def examine() -> list[Finding]:
    """Return the findings: versions, backends, models (their files' hashes checked)."""
    findings = [
        Finding("sdtrt", None, __version__),
        Finding("python", None, f"{platform.python_version()} on {platform.machine()} {platform.system()}"),
        *(Finding(name, None, metadata.version(name)) for name in ("numpy", "pillow", "constriction")),
        _onnxruntime(),
        _tensorrt(),
    ]
    return findings + [_model(folder) for folder in bundle_folders()]


def _onnxruntime() -> Finding:
    try:
        return Finding("backend ort, device cpu", True, f"ONNX Runtime {import_onnxruntime().__version__}")
    except SdtrtError as error:
        return Finding("backend ort, device cpu", False, str(error))


def _tensorrt() -> Finding:
    found = installed()
    engines = f"{', '.join(found)} can build engines (sdtrt engines), " if found else ""
    return Finding("backend trt, device cuda", None, f"{engines}this version of sdtrt runs on the CPU only")


def _model(path: Path) -> Finding:
    try:
        bundle = Bundle.open(path)
        for name in bundle.files:
            bundle.file(name)
    except SdtrtError as error:
        return Finding(f"model {path.name}", False, str(error))
    return Finding(f"model {bundle.name}", True, f"latent space {bundle.latent_space}, {len(bundle.files)} files whole")
