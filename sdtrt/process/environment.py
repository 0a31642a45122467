"""Environment variables and the home folder. A variable that is set but empty counts as unset."""

import os
from pathlib import Path


def variable(name: str) -> str | None:
    """Return the value of an environment variable, or None if it is unset or empty."""
    return os.environ.get(name) or None


def set_default(name: str, value: str) -> None:
    """Set an environment variable if it is unset or empty."""
    if variable(name) is None:
        os.environ[name] = value


def absolute_folder(name: str) -> Path | None:
    """Return the folder that an environment variable names, or None if the variable holds no absolute path."""
    folder = Path(variable(name) or "")
    return folder if folder.is_absolute() else None


def home_folder() -> Path | None:
    """Return the user's home folder, or None if the user has none, as in some containers."""
    if os.name == "posix":
        return absolute_folder("HOME") or _home_of_user_entry()
    try:
        return Path.home()
    except RuntimeError:
        return None


def _home_of_user_entry() -> Path | None:
    import pwd  # POSIX only

    try:
        folder = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None
    return folder if folder.is_absolute() else None
