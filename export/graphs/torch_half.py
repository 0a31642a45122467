"""Conversion of torch networks to half precision, with islands of single precision where activations overflow."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.autoencoder_dc import EfficientViTBlock, ResBlock
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageResidualBlock
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResidualBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from sdtrt.errors import BundleError
from sdtrt.export.graphs.attention import PlaneAttention

LARGEST = 3e4  # largest activation on the probe; half precision ends at 65504
BLOCKS = (
    *(Attention, AutoencoderTinyBlock, BasicTransformerBlock, Downsample2D, EfficientViTBlock, PlaneAttention),
    *(QwenImageResidualBlock, ResBlock, ResnetBlock2D, Upsample2D, WanResidualBlock),
)


def to_half(network: nn.Module, probe: tuple[Tensor, ...]) -> list[str]:
    """Convert `network` to half precision in place; return the names of the islands, which stay in single precision.

    An island is a block in which a value exceeds `LARGEST` while the network runs on the probe.

    Arguments:
        network: The network in single precision.
        probe: Its inputs in single precision: real images or latents.

    Raises:
        BundleError: The converted network overflows on the probe.
    """
    units = dict(_units(network))
    peaks = _peaks(network, units, probe)
    islands = [name for name in units if not max(peaks[name]) <= LARGEST]
    single = {name: copy.deepcopy(units[name].state_dict()) for name in islands}
    network.half()
    for name in islands:
        units[name].float().load_state_dict(single[name])
    if islands:
        for name, unit in units.items():
            _cast_inputs(unit, torch.float32 if name in islands else torch.float16)
            if name in islands and peaks[name][1] <= LARGEST:
                unit.register_forward_hook(_to_half_output)
    with torch.inference_mode():
        out = network(*(tensor.half() if _is_plane(tensor) else tensor for tensor in probe))
    if not torch.isfinite(out).all():
        raise BundleError("half precision overflows although no block exceeds its limit; export with --no-fp16")
    return islands


def _units(network: nn.Module, prefix: str = "") -> Iterable[tuple[str, nn.Module]]:
    """Yield all blocks that must have a single precision, and all layers outside of these blocks."""
    for name, child in network.named_children():
        if isinstance(child, BLOCKS) or not any(True for _ in child.children()):
            yield f"{prefix}{name}", child
        else:
            yield from _units(child, f"{prefix}{name}.")


def _peaks(
    network: nn.Module, units: dict[str, nn.Module], probe: tuple[Tensor, ...]
) -> dict[str, tuple[float, float]]:
    """Return for each unit the largest magnitude of all its inputs, weights and activations, and that of its output."""
    peaks = {name: (_largest(tuple(unit.parameters())), 0.0) for name, unit in units.items()}

    def note(name: str, is_output: bool) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            inner = max(_largest(inputs), _largest((output,)), peaks[name][0])
            peaks[name] = (inner, _largest((output,)) if is_output else peaks[name][1])

        return hook

    handles = [
        part.register_forward_hook(note(name, part is unit)) for name, unit in units.items() for part in unit.modules()
    ]
    with torch.inference_mode():
        network(*probe)
    for handle in handles:
        handle.remove()
    return peaks


def _largest(values: tuple[Any, ...]) -> float:
    return max(
        (float(v.detach().abs().max()) for v in values if isinstance(v, Tensor) and v.is_floating_point()), default=0.0
    )


def _is_plane(tensor: Tensor) -> bool:
    return tensor.ndim == 4


def _cast_inputs(unit: nn.Module, dtype: torch.dtype) -> None:
    def cast(value: Any) -> Any:
        other = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype
        return value.to(dtype) if other else value

    def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(map(cast, inputs)), {name: cast(value) for name, value in named.items()}

    unit.register_forward_pre_hook(hook, with_kwargs=True)


def _to_half_output(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.half()
