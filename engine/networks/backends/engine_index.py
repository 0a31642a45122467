"""The index of the TensorRT engines of a bundle: the inputs of each build, and whether an engine is usable here."""

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
from sdtrt.engine.networks.choices import OTHER_LOOKS, STANDARD_SHAPES
from sdtrt.errors import BundleError, DeviceError

ENGINES = "engines"
INDEX = "engines.json"
SCHEMA = 1
BUILD_VERSION = 2  # raise it whenever the builder makes another engine from the same inputs
PORTABLE = "portable"  # target of engines for all GPUs since Ampere that TensorRT for RTX supports


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All inputs of a build. The names and the values of the fields are hashed into the engine's file name.

    Attributes:
        network: `encoder`, `decoder`, `fast` or `unet`.
        onnx: the SHA-256 of the network's files, see `onnx_hash`.
        builder: the name of the TensorRT module.
        version: the version of the builder.
        target: the architecture of the GPU, or `PORTABLE`.
        shapes: a `ShapeRange` as text.
        recipe: the `BUILD_VERSION` at the time of the build.
    """

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
    """An entry of the index. The names of the fields are keys in `engines.json`.

    Attributes:
        file: the name of the engine's file, in the folder of the index.
        sha256: the SHA-256 of the file.
        nbytes: the size of the file.
        seconds: the duration of the build.
    """

    key: EngineKey
    file: str
    sha256: str
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EngineState:
    """Whether an engine is usable on this machine.

    Attributes:
        kind: `valid`, `stale` (its inputs have changed), `damaged`, or `foreign` (for another GPU or library).
        reason: why the engine is not valid.
    """

    kind: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EngineIndex:
    """The contents of `engines.json`.

    Attributes:
        folder: the folder of the index and the engines.
        shapes: the shapes of the last build, as texts of `ShapeRange`.
        engines: one record for each engine.
    """

    folder: Path
    shapes: tuple[str, ...] = STANDARD_SHAPES
    engines: tuple[EngineRecord, ...] = ()

    @classmethod
    def of(cls, bundle: Bundle) -> "EngineIndex":
        """Read the index of a bundle. A bundle without engines has an empty index.

        Raises:
            BundleError: the index is malformed.
        """
        folder = engines_folder(bundle)
        path = folder / INDEX
        try:
            document = json.loads(path.read_text("utf-8"))
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']}, this version reads {SCHEMA}")
            shapes = tuple(str(ShapeRange.parse(text)) for text in document["shapes"])
            return cls(folder, shapes, tuple(map(_parse_record, document["engines"])))
        except FileNotFoundError:
            return cls(folder)
        except (OSError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            hint = f"remove it with: sdtrt engines clean {bundle.cli_name}"
            raise BundleError(f"{path} is malformed ({error!r}); {hint}") from error

    def with_engine(self, engine: EngineRecord) -> "EngineIndex":
        """Return the index with a further engine, which replaces an engine of the same file name."""
        return replace(self, engines=(*(other for other in self.engines if other.file != engine.file), engine))

    def write(self) -> None:
        """Write `engines.json`; `BundleError` where the disk refuses."""
        engines = [asdict(engine) for engine in self.engines]
        document = {"schema": SCHEMA, "shapes": self.shapes, "engines": engines}
        write_whole(self.folder / INDEX, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())


def _parse_record(entry: dict[str, Any]) -> EngineRecord:
    """Return an entry of `engines.json` as a record; `TypeError` or `ValueError` if it is malformed."""
    engine = EngineRecord(**(entry | {"key": EngineKey(**entry["key"]), "seconds": float(entry["seconds"])}))
    for part in (engine.key, engine):
        for field in fields(part):
            if field.type in {int, str} and type(getattr(part, field.name)) is not field.type:
                raise TypeError(f"{field.name} is {getattr(part, field.name)!r}")
    if engine.file != engine.key.file_name():
        raise ValueError(f"{engine.file!r} is not the file name of this engine, {engine.key.file_name()!r}")
    return engine


def engines_folder(bundle: Bundle) -> Path:
    """Return the folder of a bundle's engines: inside the bundle, or in the user's cache for a built-in bundle.

    Raises:
        BundleError: the bundle is built in, and the user has no cache folder.
    """
    if not bundle.is_built_in:
        return bundle.folder / ENGINES
    cache = user_cache()
    if cache is None:
        raise BundleError(
            f"the engines of {bundle.name} need the user's cache folder, and this user has no home folder; "
            "set XDG_CACHE_HOME to the absolute path of a folder"
        )
    return cache / "engines" / bundle.name


def onnx_files(bundle: Bundle, network: str) -> list[str]:
    """Return the names of a network's ONNX file and of its file of weights, in half precision if the bundle has that.

    Raises:
        BundleError: the bundle does not have the network.
    """
    for name in (f"{network}.fp16.onnx", f"{network}.onnx"):
        if name in bundle.files:
            return [name, *(extra for extra in (f"{name}.data",) if extra in bundle.files)]
    raise BundleError(f"bundle {bundle.name} has no {network}.onnx")


def networks_of(bundle: Bundle) -> list[str]:
    """Return which of `encoder`, `decoder`, `fast` and `unet` a bundle has."""
    return [name for name in ("encoder", "decoder", *OTHER_LOOKS, "unet") if f"{name}.onnx" in bundle.files]


def onnx_hash(bundle: Bundle, network: str) -> str:
    """Return the SHA-256 of the current files of a network, even if the manifest has another one.

    Raises:
        BundleError: a file is missing or not readable.
    """
    try:
        digests = [file_hash(bundle.folder / name) for name in onnx_files(bundle, network)]
    except OSError as error:
        raise BundleError(f"{network}'s ONNX file cannot be read: {error}; {bundle.repair_hint}") from error
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def engine_states(bundle: Bundle, index: EngineIndex) -> list[tuple[EngineRecord, EngineState]]:
    """Return each engine of an index with its state on this machine."""
    current = {network: onnx_hash(bundle, network) for network in networks_of(bundle)}
    versions = {name: import_tensorrt(name).version for name in installed()}
    try:
        gpu: str | None = architecture()
    except DeviceError:
        gpu = None
    return [(engine, _state(engine, index, current, versions, gpu)) for engine in index.engines]


def _state(
    engine: EngineRecord, index: EngineIndex, onnx: dict[str, str], versions: dict[str, str], gpu: str | None
) -> EngineState:
    key, path = engine.key, index.folder / engine.file
    version = versions.get(key.builder)
    if version is None:
        return EngineState("foreign", f"built by {key.builder}, which is not installed")
    if gpu is not None and key.target not in {gpu, PORTABLE}:
        return EngineState("foreign", f"built for {key.target}, this GPU is {gpu}")
    stale = [
        reason
        for reason, is_stale in (
            (f"{key.network}'s ONNX has changed", onnx.get(key.network) != key.onnx),
            (f"built by {key.builder} {key.version}, installed is {version}", version != key.version),
            (f"built for {key.shapes}, the index has {', '.join(index.shapes)}", key.shapes not in index.shapes),
            (f"built by recipe {key.recipe}, current is {BUILD_VERSION}", key.recipe != BUILD_VERSION),
        )
        if is_stale
    ]
    if stale:
        return EngineState("stale", "; ".join(stale))
    if not path.is_file() or path.stat().st_size != engine.nbytes or file_hash(path) != engine.sha256:
        return EngineState("damaged", f"{engine.file} is missing, truncated or changed")
    fault = import_tensorrt(key.builder).engine_fault(path)
    return EngineState("damaged", f"{key.builder} reports: {fault}") if fault else EngineState("valid")


def require_valid(bundle: Bundle, engine: EngineRecord) -> Path:
    """Return the path of an engine.

    Raises:
        BundleError: the engine is not valid here; the message has the reason and a command.
    """
    index = EngineIndex.of(bundle)
    state = dict(engine_states(bundle, index)).get(engine, EngineState("damaged", "the index does not list it"))
    if state.kind != "valid":
        raise BundleError(
            f"engine {engine.file} is {state.kind}: {state.reason}; run: sdtrt engines build {bundle.cli_name}"
        )
    return index.folder / engine.file


def delete_engines(index: EngineIndex, engines: Iterable[EngineRecord]) -> EngineIndex:
    """Write and return the index without some engines, and delete their files."""
    deleted = set(engines)
    remaining = replace(index, engines=tuple(engine for engine in index.engines if engine not in deleted))
    remaining.write()
    for engine in deleted:
        (index.folder / engine.file).unlink(missing_ok=True)
        kernels_file(index.folder / engine.file).unlink(missing_ok=True)
    return remaining


def kernels_file(engine: Path) -> Path:
    """Return the file of the kernels that TensorRT for RTX has compiled for an engine on this machine."""
    return engine.with_suffix(".kernels")


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file of a bundle's engines, completely or not at all.

    Raises:
        BundleError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise BundleError(
            f"{path} was not written: {error}; nothing has changed, so run the same command again"
        ) from error
