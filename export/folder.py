"""A bundle's folder: written whole or not at all."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdtrt.engine.bundle import MANIFEST, SCHEMA
from sdtrt.errors import BundleError


@contextmanager
def new_bundle(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when the block ends well; until then `folder` stays as it is.

    An existing bundle is replaced only with `force`, any other existing folder or file never. Raises `BundleError`
    also where the disk refuses.
    """
    require_vacant(folder, force=force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            fresh = Path(temporary) / "new"
            fresh.mkdir()
            yield fresh
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            fresh.rename(folder)
    except OSError as error:
        left = "the bundle there is untouched" if folder.exists() else "nothing is left of it"
        raise BundleError(f"{folder} was not written, {left}: {error}; free the way and run the same again") from error


def require_vacant(folder: Path, *, force: bool) -> None:
    """Raise `BundleError` if `folder` may not be written; to be asked before long work."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder} exists and is not a bundle; name another folder with --out")
    if not force:
        raise BundleError(f"{folder} is a bundle already; --force replaces it")


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write `bundle.json` beside the files in `folder`, with their hashes; `fields` are those of `Bundle` and more."""
    files = {path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    text = json.dumps({"schema": SCHEMA, **fields, "files": files}, indent=2)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")


def file_hash(path: Path) -> str:
    """Return a file's SHA-256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(folder: Path) -> int:
    """Return the space left where `folder` is or will be."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
