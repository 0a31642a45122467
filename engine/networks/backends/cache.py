"""The user's cache folder, and files in it that are only given back whole."""

import contextlib
import hashlib
import sys
from pathlib import Path

from sdtrt.atomic import replace_file
from sdtrt.process.environment import absolute_folder, home_folder

DIGEST_NBYTES = hashlib.sha256().digest_size


def user_cache() -> Path | None:
    """Return the folder for files that can be made again, or None if the user has no home folder.

    It is `$XDG_CACHE_HOME/sdtrt`, else the system's usual place. A relative path in the variable is ignored, as the
    XDG specification asks for.
    """
    folder = absolute_folder("XDG_CACHE_HOME")
    if not folder and sys.platform == "win32":
        folder = absolute_folder("LOCALAPPDATA")
    if folder:
        return folder / "sdtrt"
    home = home_folder()
    return home and home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "sdtrt"


class Cache:
    """Files in a folder of the user's cache, by name; those used last are kept, `largest_nbytes` in all.

    Where there is no cache folder nothing is kept.
    """

    def __init__(self, name: str, largest_nbytes: int) -> None:
        cache = user_cache()
        self._folder, self._largest_nbytes = cache and cache / name, largest_nbytes

    def get(self, name: str) -> bytes | None:
        """Return what was put there, None if that is gone, or not whole."""
        if self._folder is None:
            return None
        path = self._folder / name
        try:
            data = path.read_bytes()
            path.touch()
        except OSError:
            return None
        digest, contents = data[:DIGEST_NBYTES], data[DIGEST_NBYTES:]
        return contents if hashlib.sha256(contents).digest() == digest else None

    def put(self, name: str, contents: bytes) -> None:
        """Keep a file; where the disk refuses that, it will be made again."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / name, hashlib.sha256(contents).digest() + contents)
            self._clean(self._folder)

    def _clean(self, folder: Path) -> None:
        room = self._largest_nbytes
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
            room -= path.stat().st_size
            if room < 0:
                path.unlink()
