"""The source of a checkpoint: a local folder or file, or the Hugging Face hub."""

import re
from collections.abc import Callable
from pathlib import Path

from sdtrt.errors import BundleError, DeviceError
from sdtrt.export.checkpoints.weights import listing
from sdtrt.process.install import install_command

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Other precisions and copies of the same weights are fetched only if there are no others.
PRECISIONS = ["*.fp16.*", "*.fp16-*", "*.bf16.*", "*.bf16-*"]
COPIES = ["*non_ema*"]
TEXT_PARTS = ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"]
Fetch = Callable[..., Path]


def locate(
    model: str,
    *,
    revision: str | None = None,
    unet: bool = False,
    allow_pickle: bool = False,
    variant: str | None = None,
) -> Path:
    """Return the folder or file of a checkpoint; fetch it from the hub if `model` is not a path but an id.

    Only the necessary files of a repository are fetched. The hub's cache and offline mode are respected.

    Args:
        model: Path or id.
        revision: Branch, tag or commit on the hub.
        unet: Whether the UNet and its text encoders are also fetched.
        allow_pickle: Whether pickled weights are also fetched.
        variant: The variant of the weights, such as fp16.

    Raises:
        BundleError: There is no such path, or the hub has no such model or cannot be reached.
        DeviceError: The hub's library is not installed.
    """
    if Path(model).exists():
        return Path(model)
    require_path_or_id(model)
    try:
        import huggingface_hub
    except ImportError as error:
        command = install_command("cpu", "export")
        raise DeviceError(f"the hub needs huggingface_hub ({error}): {command}") from error

    def fetch(patterns: list[str], ignored: list[str]) -> Path:
        try:
            return Path(
                huggingface_hub.snapshot_download(
                    model, revision=revision, allow_patterns=patterns, ignore_patterns=ignored
                )
            )
        except Exception as error:  # errors of the hub, HTTP and the cache have no common base class
            raise BundleError(f"{model} cannot be fetched from the hub: {_remedy(model, error)}") from error

    folder = fetch(["model_index.json", "config.json"], [])
    if not (folder / "model_index.json").is_file():
        return _with_weights(fetch, [""], allow_pickle, variant)
    fetch(["scheduler/*.json"], [])
    _with_weights(fetch, ["vae", *(["unet"] if unet else [])], allow_pickle, variant)
    return _with_weights(fetch, TEXT_PARTS, allow_pickle, variant) if unet else folder


def _with_weights(fetch: Fetch, parts: list[str], allow_pickle: bool, variant: str | None) -> Path:
    """Return the folder of a repository after fetching its parts: the requested weights, else any weights."""
    kinds = ["safetensors", *(["bin"] if allow_pickle else [])]
    usual = [f"*.{kind}" for kind in kinds]
    named = [f"*.{variant}{mark}{kind}" for kind in kinds for mark in (".", "-*.")] if variant else usual
    folder = fetch(_patterns(parts, ["*.json", "*.txt", *named]), COPIES if variant else [*COPIES, *PRECISIONS])
    missing = [part for part in parts if not _has_weights(folder / part, kinds) and "tokenizer" not in part]
    return fetch(_patterns(missing, ["*.json", *usual]), COPIES) if missing else folder


def _patterns(parts: list[str], names: list[str]) -> list[str]:
    """Return patterns of files in parts; the part "" stands for a repository of a single model."""
    alone = ["config.json", *(f"diffusion_pytorch_model{name}" for name in names)] if "" in parts else []
    return [f"{part}/{name}" for part in parts if part for name in names] + alone


def _has_weights(folder: Path, kinds: list[str]) -> bool:
    return any(any(folder.glob(f"*.{kind}")) for kind in kinds)


def _remedy(model: str, error: Exception) -> str:
    """Return the cause of an error of the hub, and the remedy."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    page = f"https://huggingface.co/{model}"
    if "GatedRepoError" in kinds:
        return f"its owner asks for consent; give it at {page}, then run: hf auth login"
    if "RepositoryNotFoundError" in kinds:
        return f"there is no such model or local folder; see {page}; private models need: hf auth login"
    if "RevisionNotFoundError" in kinds:
        return f"it has no such revision; see {page}/tree/main"
    return (
        f"{error}; on a machine with network access run: hf download {model} --local-dir FOLDER; then name this folder "
        "with --model"
    )


def require_path_or_id(model: str) -> None:
    """Raise `BundleError` if `model` is neither an existing path nor of the form of a hub id."""
    path = Path(model)
    if path.exists() or HUB_ID.fullmatch(model):
        return
    parent = next(folder for folder in (path.parent, *path.absolute().parents) if folder.is_dir())
    raise BundleError(
        f"{model} does not exist, and is not the id of a model on the hub (owner/name); in {parent}: {listing(parent)}"
    )


def part_of(path: Path, name: str) -> Path:
    """Return the folder of a part, such as the VAE, in a pipeline's folder; `path` itself if it has no such folder."""
    return path / name if (path / name).is_dir() else path
