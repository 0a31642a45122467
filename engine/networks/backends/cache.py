"""The user's cache folder, and files in it with checksums."""

import contextlib
import hashlib
import sys
from pathlib import Path

from sdtrt.atomic import replace_file
from sdtrt.process.environment import absolute_folder, home_folder

DIGEST_NBYTES = hashlib.sha256().digest_size


def user_cache() -> Path | None:
    """Return sdtrt's folder for files that can be generated again; None if the user has no home folder.

    The folder is `$XDG_CACHE_HOME/sdtrt`, or the usual one of the system. A relative path in the variable is ignored,
    as the XDG specification demands.
    """
    folder = absolute_folder("XDG_CACHE_HOME")
    if not folder and sys.platform == "win32":
        folder = absolute_folder("LOCALAPPDATA")
    if folder:
        return folder / "sdtrt"
    home = home_folder()
    return home and home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "sdtrt"


class Cache:
    """Files in a folder of the user's cache. A user without a cache folder has an empty cache.

    Arguments:
        name: the name of the folder.
        max_nbytes: the size of all files; the files that were not used for longest are deleted.
    """

    def __init__(self, name: str, max_nbytes: int) -> None:
        cache = user_cache()
        self._folder, self._max_nbytes = cache and cache / name, max_nbytes

    def get(self, name: str) -> bytes | None:
        """Return the contents of a file; None if the file is missing or damaged."""
        if self._folder is None:
            return None
        path = self._folder / name
        try:
            data = path.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # of a folder that can only be read
            path.touch()
        digest, contents = data[:DIGEST_NBYTES], data[DIGEST_NBYTES:]
        return contents if hashlib.sha256(contents).digest() == digest else None

    def put(self, name: str, contents: bytes) -> None:
        """Write a file. Errors of the disk are ignored: the contents can be generated again."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / name, hashlib.sha256(contents).digest() + contents)
            self._clean(self._folder)

    def _clean(self, folder: Path) -> None:
        room = self._max_nbytes
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
            room -= path.stat().st_size
            if room < 0:
                path.unlink()
