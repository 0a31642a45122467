"""Where a checkpoint comes from: a folder or file that is there, or the Hugging Face hub."""

import re
from pathlib import Path

from sdtrt.errors import BundleError, DeviceError, install_command

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Other precisions and copies of the same weights are not fetched.
UNWANTED = ["*.fp16.*", "*non_ema*", "*.bf16.*"]
TEXT_PARTS = ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"]


def locate(model: str, *, revision: str | None = None, unet: bool = False, allow_pickle: bool = False) -> Path:
    """Return the folder or file of a checkpoint, fetched from the hub if `model` is no path but reads like an id.

    Of a repository only what will be used is fetched; the hub's cache and offline mode are honoured. Raises
    `BundleError` if there is no such path, or the hub has no such model or cannot be reached.
    """
    path = Path(model)
    if path.exists():
        return path
    if not HUB_ID.fullmatch(model):
        raise BundleError(f"{model} does not exist, and is not the id of a model on the hub (owner/name)")
    try:
        import huggingface_hub
    except ImportError as error:
        raise DeviceError(f"the hub needs huggingface_hub ({error}): {install_command('cpu', 'export')}") from error

    def fetch(patterns: list[str]) -> Path:
        try:
            folder = huggingface_hub.snapshot_download(
                model, revision=revision, allow_patterns=patterns, ignore_patterns=UNWANTED
            )
        except Exception as error:  # of the hub, of HTTP, of the cache: no common base
            raise BundleError(f"{model} cannot be fetched from the hub: {error}") from error
        return Path(folder)

    weights = ["*.safetensors", "*.safetensors.index.json", *(["*.bin"] if allow_pickle else [])]
    folder = fetch(["model_index.json", "config.json"])
    if not (folder / "model_index.json").is_file():
        return fetch(["config.json", *(f"diffusion_pytorch_model{name.removeprefix('*')}" for name in weights)])
    parts = ["vae", *(["unet", *TEXT_PARTS] if unet else [])]
    files = ["model_index.json", "scheduler/*.json"]
    files += [f"{part}/{name}" for part in parts for name in ("*.json", "*.txt", *weights)]
    return fetch(files)
