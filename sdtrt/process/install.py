"""Commands that remedy what is missing or damaged, as error messages name them; errors for missing libraries."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sdtrt.errors import DeviceError


def install_command(*extras: str) -> str:
    """Return the command that installs extras of this package, from where the package itself came.

    Args:
        extras: Names of extras, as `pyproject.toml` lists them.

    That is the checkout that runs, or the folder, file or repository that pip installed. Only a package that pip
    fetched from an index is named by its name alone.
    """
    suffix = f"[{','.join(extras)}]" if extras else ""
    checkout = _checkout()
    if checkout is not None:
        return f"pip install -e {shlex.quote(f'{_short(checkout)}{suffix}')}"
    origin = _origin()
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        reference = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
        return f"pip install {shlex.quote(f'sdtrt{suffix} @ {reference}')}"
    if url.startswith("file:"):
        path = _path_of(url)
        return f"pip install {shlex.quote(f'{_short(path)}{suffix}')}" if path.exists() else _in_a_clone(suffix)
    if url:
        return f"pip install {shlex.quote(f'sdtrt{suffix} @ {url}')}"
    return f"pip install {shlex.quote(f'sdtrt{suffix}')}" if origin else _in_a_clone(suffix)


def repair_command(folder: Path) -> str:
    """Return the command that restores files of this package in `folder`, which are damaged."""
    checkout = _checkout()
    if checkout is None:
        return install_command().replace("pip install", "pip install --force-reinstall --no-deps")
    inner = folder.relative_to(checkout) if folder.is_relative_to(checkout) else folder
    return f"git -C {shlex.quote(str(checkout))} checkout -- {shlex.quote(inner.as_posix())}"


def _checkout() -> Path | None:
    """Return the checkout that this package runs from, None if it is installed."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "engine").is_dir() else None


def _origin() -> dict[str, Any]:
    """Return where pip found this package, as direct_url.json has it; {"url": ""} of an index, {} if pip did not."""
    import json
    from importlib import metadata

    try:
        text = metadata.distribution("sdtrt").read_text("direct_url.json")
        return dict(json.loads(text)) if text else {"url": ""}
    except (metadata.PackageNotFoundError, ValueError):
        return {}


def _path_of(url: str) -> Path:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(url).path))


def _short(path: Path) -> str:
    try:
        return "." if path == Path.cwd() else str(path)
    except OSError:  # somebody has removed the current folder
        return str(path)


def _in_a_clone(suffix: str) -> str:
    return f"pip install {shlex.quote(f'.{suffix}')}, in a clone of sdtrt"


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Raise a `DeviceError` that names the extra to install if an import fails."""
    try:
        yield
    except ImportError as error:
        raise missing_libraries(name, str(error)) from error


def require_libraries(name: str, modules: Sequence[str]) -> None:
    """Raise `DeviceError` if a module of an extra is missing. No module is imported."""
    missing = [module for module in modules if not find_spec(module)]
    if missing:
        raise missing_libraries(name, f"no module {', '.join(missing)}")


def missing_libraries(name: str, text: str) -> DeviceError:
    """Return the error for missing libraries of an extra. It suggests ONNX Runtime only if none is installed."""
    runtime = () if find_spec("onnxruntime") else ("cpu",)
    return DeviceError(f"this needs libraries that are not installed ({text}): {install_command(*runtime, name)}")
