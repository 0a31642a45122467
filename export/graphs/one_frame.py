"""Autoencoders of videos on images: exactly what they do with a video of one frame, without its time axis.

Before the first frame such networks see zeros, so that of a kernel's three frames only the last one counts, and they
neither shorten nor lengthen time until a second frame comes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers.models.autoencoders import autoencoder_kl_qwenimage as qwen
from diffusers.models.autoencoders import autoencoder_kl_wan as wan
from torch import Tensor, nn

from sdtrt.export.graphs.attention import PlaneAttention


def on_one_frame(network: nn.Module, config: Mapping[str, Any]) -> None:
    """Make a network of an `AutoencoderKLWan` or `AutoencoderKLQwenImage` work on planes (N, C, H, W), in place.

    Patches of pixels are then packed as `torch.nn.functional.pixel_unshuffle` does it.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in PLANAR:
                setattr(parent, name, PLANAR[type(child)](child))
    patch = config.get("patch_size") or 1
    if patch > 1:
        _reorder_patches(dict(network.named_modules()), patch)


def last_frame_of(convolution: nn.Conv3d) -> nn.Conv2d:
    """Return what a causal convolution does with a first frame."""
    # diffusers pads by itself, and keeps what it pads by in `_padding`: columns, rows and frames, before and after.
    left, _, top = convolution._padding[:3]
    plane = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size[1:],
        convolution.stride[1:],
        (top, left),
        bias=convolution.bias is not None,
    )
    plane.weight = nn.Parameter(convolution.weight.detach()[:, :, -1].clone())
    plane.bias = convolution.bias
    return plane


def plane_norm(norm: nn.Module) -> nn.Module:
    """Return a norm over channels whose factors fit planes."""
    norm.gamma = nn.Parameter(norm.gamma.detach().reshape(-1, 1, 1))
    return norm


def plane_upsample(_: nn.Module) -> nn.Module:
    """Return what enlarges a plane: by a factor of 2, "nearest" is "nearest-exact", and needs no single precision."""
    return nn.Upsample(scale_factor=2, mode="nearest")


class PlaneResample(nn.Module):
    """A change of size; that of time waits for a second frame."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.resample = block.resample

    def forward(self, plane: Tensor, **_: Any) -> Tensor:
        return self.resample(plane)


class PlaneShortcut(nn.Module):
    """A block without weights, on a video of one frame."""

    def __init__(self, block: nn.Module, **options: Any) -> None:
        super().__init__()
        self.block, self.options = block, options

    def forward(self, plane: Tensor, **_: Any) -> Tensor:
        return self.block(plane.unsqueeze(2), **self.options).squeeze(2)


def first_chunk(block: nn.Module) -> nn.Module:
    """Return a doubling whose first frame stays one."""
    return PlaneShortcut(block, first_chunk=True)


PLANAR: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    wan.WanCausalConv3d: last_frame_of,
    qwen.QwenImageCausalConv3d: last_frame_of,
    wan.WanRMS_norm: plane_norm,
    qwen.QwenImageRMS_norm: plane_norm,
    wan.WanUpsample: plane_upsample,
    qwen.QwenImageUpsample: plane_upsample,
    wan.WanResample: PlaneResample,
    qwen.QwenImageResample: PlaneResample,
    wan.WanAttentionBlock: PlaneAttention,
    qwen.QwenImageAttentionBlock: PlaneAttention,
    wan.AvgDown3D: PlaneShortcut,
    wan.DupUp3D: first_chunk,
}


def _reorder_patches(modules: Mapping[str, nn.Module], patch: int) -> None:
    """Move the pixels of a patch from columns first, as Wan has them, to rows first: in the weights at both ends."""
    order = torch.arange(3 * patch**2).view(3, patch, patch).transpose(1, 2).flatten()
    with torch.no_grad():
        if first := modules.get("encoder.conv_in"):
            first.weight.copy_(first.weight[:, order])
        if last := modules.get("decoder.conv_out"):
            last.weight.copy_(last.weight[order])
            last.bias.copy_(last.bias[order])
