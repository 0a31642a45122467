"""The TensorRT engines of a bundle: what each was built from and for, and whether it may still be used."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from sdtrt.atomic import replace_file
from sdtrt.engine.networks.backends.cache import user_cache
from sdtrt.engine.networks.backends.gpu import architecture
from sdtrt.engine.networks.backends.shapes import ShapeRange
from sdtrt.engine.networks.backends.trt_library import import_tensorrt, installed
from sdtrt.engine.networks.bundle import Bundle, file_hash
from sdtrt.errors import BundleError, DeviceError

ENGINES = "engines"
INDEX = "engines.json"
SCHEMA = 1
BUILD_VERSION = 2  # to be raised when the same inputs would be built into something else
PORTABLE = "portable"  # the target of engines for every GPU that TensorRT for RTX supports from Ampere on
STANDARD_SHAPES = ("64x64..512x512..1024x1024",)


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine depends on; `onnx` is the SHA-256 of the network's files."""

    network: str
    onnx: str
    builder: str
    version: str
    target: str
    shapes: str
    recipe: int = BUILD_VERSION

    def file_name(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True, allow_nan=False).encode()).hexdigest()
        return f"{self.network}-{self.target}-{digest[:12]}.engine"


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """An engine that was built; `file` lies in the index's folder."""

    key: EngineKey
    file: str
    sha256: str
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EngineState:
    """What an engine is worth: `valid`, `stale` (built from something else), `damaged`, or `foreign` here."""

    kind: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class EngineIndex:
    """The engines in a bundle's folder, and the shapes that were asked for last."""

    folder: Path
    shapes: tuple[str, ...] = STANDARD_SHAPES
    plans: tuple[EngineRecord, ...] = ()

    @classmethod
    def of(cls, bundle: Bundle) -> "EngineIndex":
        """Read a bundle's index, empty if there are no engines; `BundleError` if it is malformed."""
        folder = engines_folder(bundle)
        path = folder / INDEX
        try:
            found = json.loads(path.read_text("utf-8"))
            if found["schema"] != SCHEMA:
                raise ValueError(f"schema {found['schema']}, this version reads {SCHEMA}")
            shapes = tuple(str(ShapeRange.parse(text)) for text in found["shapes"])
            return cls(folder, shapes, tuple(map(_plan, found["engines"])))
        except FileNotFoundError:
            return cls(folder)
        except (OSError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            hint = f"remove it with: sdtrt engines clean {bundle.reference}"
            raise BundleError(f"{path} is malformed ({error!r}); {hint}") from error

    def with_plan(self, plan: EngineRecord) -> "EngineIndex":
        return replace(self, plans=(*(p for p in self.plans if p.file != plan.file), plan))

    def write(self) -> None:
        engines = [asdict(plan) for plan in self.plans]
        document = {"schema": SCHEMA, "shapes": self.shapes, "engines": engines}
        write_whole(self.folder / INDEX, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())


def _plan(entry: dict[str, Any]) -> EngineRecord:
    """Return the plan of an index's entry; `TypeError` or `ValueError` if it is malformed."""
    plan = EngineRecord(**(entry | {"key": EngineKey(**entry["key"]), "seconds": float(entry["seconds"])}))
    for part in (plan.key, plan):
        for field in fields(part):
            if field.type in {int, str} and type(getattr(part, field.name)) is not field.type:
                raise TypeError(f"{field.name} is {getattr(part, field.name)!r}")
    if plan.file != plan.key.file_name():
        raise ValueError(f"{plan.file!r} is not the name of that engine's file")
    return plan


def engines_folder(bundle: Bundle) -> Path:
    """Return where a bundle's engines lie: with it, or for built-in bundles in the user's cache folder.

    Raises:
        BundleError: the bundle is a built-in one and the user has no cache folder.
    """
    if not bundle.is_built_in:
        return bundle.folder / ENGINES
    cache = user_cache()
    if cache is None:
        raise BundleError(
            f"engines of {bundle.name} lie in the user's cache folder, and this user has no home folder; "
            "set XDG_CACHE_HOME to the absolute path of a folder"
        )
    return cache / "engines" / bundle.name


def onnx_files(bundle: Bundle, network: str) -> list[str]:
    """Return the names of the files that an engine of `network` is built from: its half-precision ones if there are."""
    for name in (f"{network}.fp16.onnx", f"{network}.onnx"):
        if name in bundle.files:
            return [name, *(extra for extra in (f"{name}.data",) if extra in bundle.files)]
    raise BundleError(f"bundle {bundle.name} has no {network}.onnx")


def networks_of(bundle: Bundle) -> list[str]:
    return [name for name in ("encoder", "decoder", "vivid", "unet") if f"{name}.onnx" in bundle.files]


def onnx_hash(bundle: Bundle, network: str) -> str:
    """Return the SHA-256 of a network's files as they are now, whatever the manifest says."""
    try:
        digests = [file_hash(bundle.folder / name) for name in onnx_files(bundle, network)]
    except OSError as error:
        raise BundleError(f"{network}'s ONNX file cannot be read: {error}; {bundle.repair_hint}") from error
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def engine_states(bundle: Bundle, index: EngineIndex) -> list[tuple[EngineRecord, EngineState]]:
    """Return what each engine of a bundle is worth on this machine."""
    current = {network: onnx_hash(bundle, network) for network in networks_of(bundle)}
    versions = {name: import_tensorrt(name).version for name in installed()}
    try:
        gpu: str | None = architecture()
    except DeviceError:
        gpu = None
    return [(plan, _state(plan, index, current, versions, gpu)) for plan in index.plans]


def _state(
    plan: EngineRecord, index: EngineIndex, onnx: dict[str, str], versions: dict[str, str], gpu: str | None
) -> EngineState:
    key, path = plan.key, index.folder / plan.file
    version = versions.get(key.builder)
    if version is None:
        return EngineState("foreign", f"built by {key.builder}, which is not installed")
    if gpu is not None and key.target not in {gpu, PORTABLE}:
        return EngineState("foreign", f"built for {key.target}, this GPU is {gpu}")
    stale = [
        reason
        for reason, holds in (
            (f"{key.network}'s ONNX has changed", onnx.get(key.network) != key.onnx),
            (f"built by {key.builder} {key.version}, installed is {version}", version != key.version),
            (f"built for {key.shapes}, asked for is {', '.join(index.shapes)}", key.shapes not in index.shapes),
            (f"built by recipe {key.recipe}, current is {BUILD_VERSION}", key.recipe != BUILD_VERSION),
        )
        if holds
    ]
    if stale:
        return EngineState("stale", "; ".join(stale))
    if not path.is_file() or path.stat().st_size != plan.nbytes or file_hash(path) != plan.sha256:
        return EngineState("damaged", f"{plan.file} is missing, truncated or changed")
    fault = import_tensorrt(key.builder).fault(path)
    return EngineState("damaged", f"{key.builder} says: {fault}") if fault else EngineState("valid")


def require_valid(bundle: Bundle, plan: EngineRecord) -> Path:
    """Return the path of an engine that may be used here; `BundleError` says why not, and what to run."""
    index = EngineIndex.of(bundle)
    state = next(
        (state for one, state in engine_states(bundle, index) if one == plan),
        EngineState("damaged", "it is not listed"),
    )
    if state.kind != "valid":
        raise BundleError(
            f"engine {plan.file} is {state.kind}: {state.why}; run: sdtrt engines build {bundle.reference}"
        )
    return index.folder / plan.file


def delete_engines(index: EngineIndex, plans: Iterable[EngineRecord]) -> EngineIndex:
    """Return the index without `plans`, written, their files deleted."""
    gone = set(plans)
    left = replace(index, plans=tuple(plan for plan in index.plans if plan not in gone))
    left.write()
    for plan in gone:
        (index.folder / plan.file).unlink(missing_ok=True)
        kernels_file(index.folder / plan.file).unlink(missing_ok=True)
    return left


def kernels_file(engine: Path) -> Path:
    """Return where TensorRT for RTX keeps what it has compiled of an engine on this machine."""
    return engine.with_suffix(".kernels")


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file of a bundle's engines; `BundleError` where the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise BundleError(f"{path} was not written: {error}; nothing there has changed, run the same again") from error
