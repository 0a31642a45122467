"""The search for a checkpoint's weights in a folder: by format and variant, in one file or in shards."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdtrt.errors import BundleError

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
FILE = re.compile(rf"({'|'.join(STEMS)})(?:\.(?P<variant>[\w-]+))?\.(?P<format>safetensors|bin)")
INDEX = re.compile(
    rf"({'|'.join(STEMS)})(?:\.(?P<first>[\w-]+))?\.(?P<format>safetensors|bin)\.index(?:\.(?P<last>[\w-]+))?\.json"
)
SHARD = re.compile(r".+-\d+-of-\d+(\.[\w-]+)?\.(safetensors|bin)")
POINTER = b"version https://git-lfs"
LISTED = 12  # files that an error lists


@dataclass(frozen=True, slots=True)
class Weights:
    """The files of one model's weights.

    Attributes:
        files: The only file, or all shards.
        index: The file that maps tensors to shards; None without shards.
        variant: Name of the variant, such as fp16; None for the usual weights.
        note: Reason for the choice if others might be expected; else empty.
    """

    files: tuple[Path, ...]
    index: Path | None = None
    variant: str | None = None
    note: str = ""

    @property
    def pickled(self) -> bool:
        """Whether the files are pickled; reading them may run code."""
        return self.files[0].suffix != ".safetensors"


def find_weights(path: Path, *, variant: str | None = None, allow_pickle: bool = False) -> Weights:
    """Return the weights in a folder or a file.

    Args:
        path: Folder of one model, or a file of weights.
        variant: Name of the variant; None for the usual weights, or for the only variant without usual weights.
        allow_pickle: Whether pickled weights are used if there are no safetensors.

    Raises:
        BundleError: There are no weights, the choice is ambiguous, or files are missing or incomplete.
    """
    if path.is_file():
        return _checked(_named(path, allow_pickle))
    every = _all(path)
    readable = [weights for weights in every if allow_pickle or not weights.pickled]
    matching = [weights for weights in readable if weights.variant == variant]
    if matching:
        return _checked(matching[0])
    if variant is not None:
        _refuse_pickled([weights for weights in every if weights.variant == variant])
        raise BundleError(f"{path} has no weights of variant {variant}; {_choices(readable)}{listing(path)}")
    return _checked(_only_variant(path, readable) or _only_file(path, every))


def _named(path: Path, allow_pickle: bool) -> Weights:
    if SHARD.fullmatch(path.name):
        raise BundleError(f"{path} is one of several shards; name the folder of all shards and their index")
    if path.suffix == ".json":
        raise BundleError(f"{path} holds no weights; name its folder, or a .safetensors file")
    if path.suffix != ".safetensors" and not allow_pickle:
        raise BundleError(f"{path} is not a .safetensors file; if you trust it, read it with --allow-pickle")
    return Weights((path,))


def _all(folder: Path) -> list[Weights]:
    """Return all weights with usual names: safetensors first, single files before shards."""
    all_weights: list[Weights] = []
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for kind in ("safetensors", "bin"):
        for name in names:
            match = FILE.fullmatch(name)
            if match and match["format"] == kind and not SHARD.fullmatch(name):
                all_weights.append(Weights((folder / name,), variant=match["variant"]))
        for name in names:
            match = INDEX.fullmatch(name)
            if match and match["format"] == kind:
                all_weights.append(_sharded(folder / name, match["first"] or match["last"]))
    return all_weights


def _sharded(index: Path, variant: str | None) -> Weights:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise BundleError(f"{index} is malformed: it has no weight_map of tensors and files; get it again")
    files = tuple(index.parent / Path(name).name for name in sorted(set(shards.values())))
    return Weights(files, index, variant)


def _only_variant(folder: Path, readable: list[Weights]) -> Weights | None:
    variants = {weights.variant for weights in readable}
    if len(variants) > 1:
        raise BundleError(f"{folder} has no weights without a variant; {_choices(readable)}{listing(folder)}")
    if not readable:
        return None
    first = readable[0]
    note = f"{folder.name}: the weights are those of variant {first.variant}, the only readable ones"
    return Weights(first.files, first.index, first.variant, note)


def _only_file(folder: Path, every: list[Weights]) -> Weights:
    """Return the weights in a folder whose only file of weights has an unusual name."""
    others = [path for path in sorted(folder.glob("*.safetensors")) if path.is_file()]
    if any(SHARD.fullmatch(path.name) for path in others):
        raise BundleError(f"{folder} has shards, but no index of them (*.safetensors.index.json); {listing(folder)}")
    if len(others) == 1:
        return Weights((others[0],), note=f"{folder.name}: the weights are those in {others[0].name}")
    if others:
        raise BundleError(f"{folder} has several files of weights; name one with --model; {listing(folder)}")
    _refuse_pickled(every)
    expected = "expected diffusion_pytorch_model.safetensors"
    raise BundleError(f"{folder} has no readable weights, {expected}; {listing(folder)}")


def _choices(readable: list[Weights]) -> str:
    variants = sorted({weights.variant for weights in readable if weights.variant})
    text = " or ".join(f"--variant {variant}" for variant in variants)
    return f"choose one with {text}; " if text else "omit --variant; " if readable else ""


def _refuse_pickled(weights: list[Weights]) -> None:
    if weights:
        raise BundleError(
            f"{weights[0].files[0]} is pickled, and opening it may run code; if you trust it, read it with "
            "--allow-pickle"
        )


def _checked(weights: Weights) -> Weights:
    for path in weights.files:
        if not path.is_file():
            raise BundleError(f"{path} is missing, but listed in {weights.index}; {listing(path.parent)}")
        with path.open("rb") as file:
            start = file.read(len(POINTER))
        if start == POINTER:
            raise BundleError(f"{path} is a Git LFS pointer, not the weights; fetch the weights with: git lfs pull")
        if not start:
            raise BundleError(f"{path} is empty; get it again")
    return weights


def listing(folder: Path) -> str:
    """Return the names of a folder's files, for an error message."""
    if not folder.is_dir():
        return "there is no such folder"
    names = sorted(f"{path.name}{'/' if path.is_dir() else ''}" for path in folder.iterdir())
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"the folder contains: {', '.join(names[:LISTED])}{more}" if names else "the folder is empty"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a checkpoint; `BundleError` if it cannot be read or is not an object."""
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read: {error}; get it again") from error
    if not isinstance(fields, dict):
        raise BundleError(f"{path} is not a JSON object; get it again")
    return fields


@contextmanager
def under_usual_names(weights: Weights, config: Path, *, of_transformers: bool = False) -> Iterator[Path]:
    """Yield a temporary folder with a config and weights under the names that diffusers or transformers expect."""
    kind = "bin" if weights.pickled else "safetensors"
    stem = "diffusion_pytorch_model"
    if of_transformers:
        stem = "pytorch_model" if weights.pickled else "model"
    with tempfile.TemporaryDirectory(prefix="sdtrt-") as name:
        folder = Path(name)
        _link(config, folder / "config.json")
        if weights.index:
            _link(weights.index, folder / f"{stem}.{kind}.index.json")
        for path in weights.files:
            _link(path, folder / (path.name if weights.index else f"{stem}.{kind}"))
        yield folder


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.resolve())
    except OSError:  # the file system has no links, or the user has no permission to create them
        shutil.copyfile(source, target)
