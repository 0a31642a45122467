"""Video autoencoders for images: equivalent to a video of one frame, without the time axis.

Causal convolutions pad the time before the first frame with zeros, so only the last frame of their kernels has an
effect. Networks resample time only from the second frame on.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers.models.autoencoders import autoencoder_kl_qwenimage as qwen
from diffusers.models.autoencoders import autoencoder_kl_wan as wan
from torch import Tensor, nn

from sdtrt.export.graphs.attention import PlaneAttention


def on_one_frame(network: nn.Module, config: Mapping[str, Any]) -> None:
    """Convert a network of an `AutoencoderKLWan` or `AutoencoderKLQwenImage` to planes (N, C, H, W), in place.

    Patches of pixels are then packed in the order of `torch.nn.functional.pixel_unshuffle`.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in PLANAR:
                setattr(parent, name, PLANAR[type(child)](child))
    patch = config.get("patch_size") or 1
    if patch > 1:
        _reorder_patches(dict(network.named_modules()), patch)


def last_frame_of(convolution: nn.Conv3d) -> nn.Conv2d:
    """Return the two-dimensional equivalent of a causal convolution for the first frame."""
    # diffusers pads explicitly and stores the padding in `_padding`: before and after, of columns, rows and frames.
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
    """Reshape the factors of a norm over channels for planes, and return the norm."""
    norm.gamma = nn.Parameter(norm.gamma.detach().reshape(-1, 1, 1))
    return norm


def plane_upsample(_: nn.Module) -> nn.Module:
    """Return an enlargement by 2; there "nearest" equals "nearest-exact", and works in half precision."""
    return nn.Upsample(scale_factor=2, mode="nearest")


class PlaneResample(nn.Module):
    """The spatial part of a resampling block; time is resampled only from the second frame on."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.resample = block.resample

    def forward(self, plane: Tensor, **_: Any) -> Tensor:
        return self.resample(plane)


class PlaneShortcut(nn.Module):
    """A block without weights, applied to a video of one frame."""

    def __init__(self, block: nn.Module, **options: Any) -> None:
        super().__init__()
        self.block, self.options = block, options

    def forward(self, plane: Tensor, **_: Any) -> Tensor:
        return self.block(plane.unsqueeze(2), **self.options).squeeze(2)


def first_chunk(block: nn.Module) -> nn.Module:
    """Return a doubling of frames that keeps the first frame single."""
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
    """Permute the first and last weights so that the pixels of a patch are in row order; Wan has column order."""
    order = torch.arange(3 * patch**2).view(3, patch, patch).transpose(1, 2).flatten()
    with torch.no_grad():
        if first := modules.get("encoder.conv_in"):
            first.weight.copy_(first.weight[:, order])
        if last := modules.get("decoder.conv_out"):
            last.weight.copy_(last.weight[order])
            last.bias.copy_(last.bias[order])
