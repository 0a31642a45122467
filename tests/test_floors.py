"""Imports point down: a module uses its own floor and those below it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"sdtrt": "sdtrt", "engine": "sdtrt.engine", "export": "sdtrt.export", "kernels": "sdtrt.kernels"}
FLOORS = {
    "sdtrt": 9,
    "sdtrt.export": 8,
    "sdtrt.engine": 7,  # codec.py, above the rooms
    "sdtrt.engine.networks": 6,
    "sdtrt.engine.denoising": 5,
    "sdtrt.engine.layers": 4,
    "sdtrt.engine.coding": 3,
    "sdtrt.engine.format": 2,
    "sdtrt.kernels": 1,
    "sdtrt.errors": 0,
    "sdtrt._arrays": 0,
    "sdtrt._version": 0,
    "sdtrt.atomic": 0,
    "sdtrt.process": 0,
    "sdtrt.progress": 0,
}
TRAINING = "sdtrt.export.training"
BUILD_ONLY = {"torch", "diffusers", "onnx", "onnxscript", "transformers"}
FOR_TORCH = "sdtrt.dataset.torch_dataset"  # which nothing of the package imports


def violations(module: str, source: str) -> list[str]:
    """Return what is wrong with the imports of `source`, the text of `module`."""
    return [
        f"{module}:{line}: {fault}"
        for line, target, deferred in imports(ast.parse(source))
        if (fault := fault_of(module, target, deferred))
    ]


def fault_of(module: str, target: str, deferred: bool) -> str | None:
    top = target.partition(".")[0]
    if not top:
        return "relative import"
    if top in FOLDERS and top != "sdtrt":
        return f"bare import of {target}; import sdtrt.{target}"
    if target.startswith(FOR_TORCH):
        return f"{FOR_TORCH} is for those who have torch"
    if top in BUILD_ONLY and floor(module) != FLOORS["sdtrt.export"] and module != FOR_TORCH:
        return f"{top} belongs to sdtrt.export alone"
    if top == "sdtrt" and floor(target) > floor(module):
        return f"{target} is on floor {floor(target)}, above floor {floor(module)}"
    if belongs(target, TRAINING) and not belongs(module, TRAINING):
        return f"{target} is not in the wheel"
    if belongs(target, "sdtrt.export") and floor(module) == FLOORS["sdtrt"] and not deferred:
        return f"{target} is imported outside a function"
    return None


def floor(module: str) -> int:
    return FLOORS[max((name for name in FLOORS if belongs(module, name)), key=len)] if module else 0


def belongs(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def imports(node: ast.AST, deferred: bool = False) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, dotted name, whether inside a function) of every import; a relative one's name starts with a dot."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield child.lineno, alias.name, deferred
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                yield child.lineno, f"{'.' * child.level}{child.module or ''}.{alias.name}", deferred
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(child, deferred or inside)


def modules() -> Iterator[tuple[str, Path]]:
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *inner]).removesuffix(".__init__"), path


def test_imports_point_down() -> None:
    found = [fault for module, path in modules() for fault in violations(module, path.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_every_folder_is_scanned() -> None:
    packages = {name for name, path in modules() if path.name == "__init__.py"}
    assert set(FOLDERS.values()) <= packages


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sdtrt.errors", "import sdtrt.kernels"),
        ("sdtrt.kernels.quantize", "from sdtrt.engine.networks.bundle import Bundle"),
        ("sdtrt.kernels.quantize", "from sdtrt import engine"),
        ("sdtrt.engine.codec", "from sdtrt import encode"),
        ("sdtrt.engine.codec", "import sdtrt"),
        ("sdtrt.engine", "def f():\n    from sdtrt.export import build"),
        ("sdtrt.engine.format.profile", "from sdtrt.engine.coding import tables"),
        ("sdtrt.engine.coding.latent_file", "from sdtrt.engine.denoising.schedule import Schedule"),
        ("sdtrt.engine.denoising.denoise", "from sdtrt.engine.networks.bundle import Bundle"),
        ("sdtrt.engine.networks.tiling", "from sdtrt.engine.codec import PictureCodec"),
        ("sdtrt.export.build", "from sdtrt.cli import main"),
        ("sdtrt.cli", "from sdtrt.export import build"),
        ("sdtrt.cli", "if True:\n    import sdtrt.export.build"),
        ("sdtrt.export.build", "def f():\n    from sdtrt.export.training.residual import main"),
        ("sdtrt.cli", "def f():\n    from sdtrt.export.training import residual"),
        ("sdtrt.engine.codec", "from . import bundle"),
        ("sdtrt.engine.codec", "from .bundle import Bundle"),
        ("sdtrt.engine.codec", "import kernels.quantize"),
        ("sdtrt.cli", "from engine import codec"),
        ("sdtrt.export.build", "from export import graph"),
        ("sdtrt.engine.codec", "def f():\n    import torch"),
        ("sdtrt.cli", "from onnx.helper import make_node"),
        ("sdtrt.dataset.latent_dataset", "def f():\n    from sdtrt.dataset.torch_dataset import LatentTorchDataset"),
    ],
)
def test_a_violation_is_seen(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sdtrt", "from sdtrt._version import __version__\nfrom sdtrt.engine.image import Codec"),
        ("sdtrt.cli", "def export(args):\n    from sdtrt.export import build"),
        ("sdtrt.export.build", "import torch\nfrom sdtrt import errors\nfrom sdtrt.export.graphs import graph"),
        ("sdtrt.export.training.denoiser", "from sdtrt.export.training.tiny.model import Autoencoder"),
        ("sdtrt.engine.codec", "from sdtrt.kernels import reference\nfrom sdtrt.errors import FormatError"),
        ("sdtrt.engine.networks.backends.ort", "import onnxruntime\nimport exporter"),
    ],
)
def test_a_rightful_import_passes(module: str, source: str) -> None:
    assert violations(module, source) == []
