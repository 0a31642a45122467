"""A bundle's folder, written atomically."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sdtrt.atomic import check_new_folder
from sdtrt.engine.networks.backends.engine_index import ENGINES
from sdtrt.engine.networks.bundle import MANIFEST, SCHEMA, Bundle, file_hash
from sdtrt.errors import BundleError


@contextmanager
def new_bundle(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when the block succeeds; until then `folder` is unchanged.

    Arguments:
        folder: Path of the new bundle.
        force: Whether an existing bundle is replaced. Other existing folders and files never are.

    Raises:
        BundleError: `folder` may not be written, the disk refuses, or the new bundle does not open.
    """
    require_vacant(folder, force=force)
    folder = Path(os.path.realpath(folder))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".sdtrt-") as temporary:
            fresh = Path(temporary) / "new"
            fresh.mkdir()
            yield fresh
            _ = Bundle.open(fresh).latent_profile  # raises if the bundle is not complete
            _swap(folder, fresh, Path(temporary) / "old")
    except OSError as error:
        state = "the existing folder is unchanged" if folder.exists() else "no partial folder is left"
        raise BundleError(f"{folder} was not written, {state}: {error}; fix this and run the same again") from error


def _swap(folder: Path, fresh: Path, old: Path) -> None:
    """Move `folder` to `old` and `fresh` to `folder`; on an error move `old` back."""
    status = folder.stat() if folder.exists() else None
    if status:
        keep_attributes(fresh, status)
        with suppress(OSError):  # only root may move a folder without write permission
            folder.chmod(stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
        folder.rename(old)
    try:
        fresh.rename(folder)
        if status:
            with suppress(OSError):  # the file system may have no modes
                folder.chmod(stat.S_IMODE(status.st_mode))
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
            if status:
                with suppress(OSError):
                    folder.chmod(stat.S_IMODE(status.st_mode))
        raise


def keep_attributes(fresh: Path, status: os.stat_result) -> None:
    """Give a folder the owner, group and mode in `status`, as far as the file system permits.

    The owner keeps write permission for now, without which a folder cannot be moved.
    """
    with suppress(OSError):
        fresh.chmod(stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
    if hasattr(os, "chown"):
        with suppress(OSError):
            os.chown(fresh, status.st_uid, status.st_gid)


def require_vacant(folder: Path, *, force: bool) -> None:
    """Raise `BundleError` if `folder` may not be written. Call it before long work.

    With `force` a bundle may be replaced if its folder holds no other files, which would be deleted.
    """
    place = Path(os.path.realpath(folder))
    if place.is_symlink():
        raise BundleError(f"{folder} is a loop of symbolic links; name another folder with --out")
    if place in {Path.cwd(), *Path.cwd().parents}:
        raise BundleError(f"{folder} is the folder you are in, or above it; name a folder below with --out")
    try:
        check_new_folder(place.parent)
    except OSError as error:
        raise BundleError(f"{folder} cannot be written: {error}; name another folder with --out") from error
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder} exists and is not a bundle; name another folder with --out")
    if not force:
        raise BundleError(f"{folder} is a bundle already; --force replaces it")
    others = {path.name for path in folder.iterdir()} - {MANIFEST, ENGINES, *Bundle.open(folder).files}
    if others:
        raise BundleError(f"{folder} holds more than a bundle: {', '.join(sorted(others)[:5])}; move these files first")


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write `bundle.json` with `fields` and the hashes of all files in `folder`."""
    files = {path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    text = json.dumps({"schema": SCHEMA, **fields, "files": files}, indent=2, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk on which `folder` is or will be."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
