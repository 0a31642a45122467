"""The user's cache folder, and files in it that are only given back whole."""

import contextlib
import hashlib
import os
import sys
from pathlib import Path

from sdtrt.atomic import replace_file

DIGEST_NBYTES = hashlib.sha256().digest_size


def user_cache() -> Path:
    """Return the folder for what can be made again: `$XDG_CACHE_HOME/sdtrt`, else where the system has such things."""
    home = os.environ.get("XDG_CACHE_HOME")
    if not home and sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA")
    if home:
        return Path(home) / "sdtrt"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "sdtrt"


class Cache:
    """Files in a folder of the user's cache, by name; those used last are kept, `largest_nbytes` in all."""

    def __init__(self, name: str, largest_nbytes: int) -> None:
        self._folder, self._largest_nbytes = user_cache() / name, largest_nbytes

    def get(self, name: str) -> bytes | None:
        """Return what was put there, None if that is gone, or not whole."""
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
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / name, hashlib.sha256(contents).digest() + contents)
            self._clean()

    def _clean(self) -> None:
        room = self._largest_nbytes
        for path in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
            room -= path.stat().st_size
            if room < 0:
                path.unlink()
