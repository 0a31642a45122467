"""The empty prompt's embeddings, computed once so that no text encoder is needed afterwards."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from sdtrt.errors import BundleError

SDXL_SIZE = 1024  # pixels, what SDXL is told of the picture's size by default


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a conditional UNet is told besides the picture; float32.

    `embedding` is (1, tokens, width); SDXL also has `pooled` (1, width) and `time_ids` (1, 6).
    """

    embedding: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None


@torch.inference_mode()
def empty_prompt(folder: Path) -> Prompt:
    """Return the empty prompt of the diffusers pipeline in `folder`; `BundleError` if it has no CLIP text encoder.

    SDXL's networks see the last layer but one of two encoders side by side, the second's pooled text, and
    (height, width, top, left, height, width); where the pipeline says so, empty text is all zeros.
    """
    if not (folder / "text_encoder" / "config.json").is_file():
        raise BundleError(f"{folder} has no text_encoder; a conditional UNet needs its pipeline's folder or hub id")
    if not (folder / "text_encoder_2" / "config.json").is_file():
        output = _encode(folder, "", CLIPTextModel)
        return Prompt(output.last_hidden_state.clone())
    first, second = _encode(folder, "", CLIPTextModel), _encode(folder, "_2", CLIPTextModelWithProjection)
    embedding = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    pooled = second.text_embeds
    if json.loads((folder / "model_index.json").read_text()).get("force_zeros_for_empty_prompt"):
        embedding, pooled = torch.zeros_like(embedding), torch.zeros_like(pooled)
    time_ids = torch.tensor([[SDXL_SIZE, SDXL_SIZE, 0, 0, SDXL_SIZE, SDXL_SIZE]], dtype=torch.float32)
    return Prompt(embedding.clone(), pooled.clone(), time_ids)


def _encode(folder: Path, suffix: str, kind: Any) -> Any:
    tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}", local_files_only=True)
    encoder = kind.from_pretrained(folder / f"text_encoder{suffix}", local_files_only=True).float().eval()
    length = tokenizer.model_max_length
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return encoder(tokens.input_ids, output_hidden_states=True)
