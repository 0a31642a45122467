"""The embeddings of the empty prompt, computed at export so that bundles need no text encoder."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from sdtrt.errors import BundleError
from sdtrt.export.checkpoints.weights import Weights, find_weights, read_json, under_usual_names
from sdtrt.export.libraries import quietly

SDXL_SIZE = 1024  # pixels; SDXL's default for the image size in `time_ids`


@dataclass(frozen=True, slots=True)
class Prompt:
    """The conditioning of a UNet, float32.

    Attributes:
        embedding: (1, tokens, width).
        pooled: (1, width), only for SDXL.
        time_ids: (1, 6), only for SDXL.
    """

    embedding: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None


@torch.inference_mode()
def empty_prompt(folder: Path, *, allow_pickle: bool = False, variant: str | None = None) -> Prompt:
    """Return the conditioning of the empty prompt for the diffusers pipeline in `folder`.

    SDXL's embedding is the concatenation of the penultimate layers of two encoders. It also takes the second encoder's
    pooled text, and (height, width, top, left, height, width). If the pipeline's config requires it, the embeddings of
    the empty prompt are zeros.

    Arguments:
        folder: The pipeline's folder.
        allow_pickle: Whether pickled weights are read.
        variant: Variant of the weights; encoders without it use the usual or only weights.

    Raises:
        BundleError: There is no CLIP text encoder, or it cannot be loaded.
    """
    if not (folder / "text_encoder" / "config.json").is_file():
        raise BundleError(f"{folder} has no text_encoder; a conditional UNet needs its pipeline's folder or hub id")
    encode = partial(_encode, folder, allow_pickle, variant)
    if not (folder / "text_encoder_2" / "config.json").is_file():
        output = encode("", CLIPTextModel)
        return Prompt(output.last_hidden_state.clone())
    first, second = encode("", CLIPTextModel), encode("_2", CLIPTextModelWithProjection)
    embedding = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    pooled = second.text_embeds
    if read_json(folder / "model_index.json").get("force_zeros_for_empty_prompt"):
        embedding, pooled = torch.zeros_like(embedding), torch.zeros_like(pooled)
    time_ids = torch.tensor([[SDXL_SIZE, SDXL_SIZE, 0, 0, SDXL_SIZE, SDXL_SIZE]], dtype=torch.float32)
    return Prompt(embedding.clone(), pooled.clone(), time_ids)


def _encode(folder: Path, allow_pickle: bool, variant: str | None, suffix: str, kind: Any) -> Any:
    part = folder / f"text_encoder{suffix}"
    weights = _text_weights(part, allow_pickle, variant)
    try:
        with under_usual_names(weights, part / "config.json", of_transformers=True) as place, quietly():
            encoder = kind.from_pretrained(place, local_files_only=True, use_safetensors=not weights.pickled)
            tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}", local_files_only=True)
    except Exception as error:  # errors of transformers, safetensors, pickle and the disk have no common base class
        raise BundleError(f"{part} and its tokenizer cannot be loaded: {error}") from error
    length = tokenizer.model_max_length
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return encoder.float().eval()(tokens.input_ids, output_hidden_states=True)


def _text_weights(part: Path, allow_pickle: bool, variant: str | None) -> Weights:
    if variant is not None:
        try:
            return find_weights(part, variant=variant, allow_pickle=allow_pickle)
        except BundleError:
            pass  # many pipelines have a variant of the UNet alone
    return find_weights(part, allow_pickle=allow_pickle)
