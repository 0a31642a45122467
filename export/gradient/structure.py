"""The structural loss of an image and its gradient with respect to the pixels, as nodes of a graph.

The loss consists of the contrast and correlation terms, without the luminance term, of Wang, Bovik, Sheikh and
Simoncelli, "Image quality assessment: from error visibility to structural similarity", 2004. It is computed at several
scales, as in Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment", 2003, but
scales are summed instead of multiplied. Windows are square. Coarse scales have larger weights, which in experiments
improved both MS-SSIM and SSIMULACRA2.
"""

import functools
from typing import NamedTuple

import numpy as np

from sdtrt.export.gradient.nodes import Nodes

SCALES = {2: 0.3, 4: 0.3, 8: 0.4}  # scale (pixels averaged along a side): weight
PLANES = np.array([[0.299, 0.587, 0.114], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)  # luma (BT.601), R, G, B
SHARES = np.array([1 / 2, 1 / 6, 1 / 6, 1 / 6], np.float32)  # weights of the planes
WINDOW = 5  # pixels along a side
FLOOR = 0.03**2  # constant added to energies, in squares of the pixel range


class Structure(NamedTuple):
    """Names of two tensors.

    Attributes:
        lost: The structural loss, (N, 1, h, w), 0 to 2.
        gradient: The gradient of its weighted sum, (N, 3, H, W).
    """

    lost: str
    gradient: str


def structure(
    nodes: Nodes, decoded: str, original: str, weights: str, scale: int, pixel_range: tuple[float, float]
) -> Structure:
    """Add the nodes that compute the structural loss and its gradient.

    Arguments:
        nodes: The builder.
        decoded: Name of the decoded pixels, (N, 3, H, W).
        original: Name of the original pixels, (N, 3, H, W).
        weights: Name of the weights of each latent, (N, 1, h, w).
        scale: Pixels for each latent along a side. Scales that do not divide it are left out.
        pixel_range: The range of pixels.
    """
    add, lost, gradients = functools.partial(nodes.add, "Add"), [], []
    floor = np.float32(FLOOR * (pixel_range[1] - pixel_range[0]) ** 2)
    scales = {side: share for side, share in SCALES.items() if scale % side == 0} or {1: 1.0}
    for side, share in scales.items():
        first, second = (_planes(nodes, name, side) for name in (decoded, original))
        counts = nodes.constant((share / scale**2 * SHARES)[:, None, None])
        each = nodes.add("Mul", _enlarged(nodes, weights, scale // side), counts)
        similarity, gradient = _similarity(nodes, first, second, each, floor)
        mean = nodes.add("Conv", similarity, nodes.constant(share * SHARES[None, :, None, None]))
        lost.append(nodes.add("Sub", nodes.constant(np.float32(share)), _pooled(nodes, mean, scale // side)))
        pixels = nodes.add("Conv", gradient, nodes.constant(np.ascontiguousarray(PLANES.T)[:, :, None, None]))
        gradients.append(_enlarged(nodes, pixels, side))
    return Structure(functools.reduce(add, lost), functools.reduce(add, gradients))


def _similarity(nodes: Nodes, decoded: str, original: str, weights: str, floor: np.float32) -> tuple[str, str]:
    """Add the structural similarity of planes, at most 1, and the negative gradient of its weighted sum.

    With window means m, the similarity of a and b is

        (2 (m(ab) - m(a) m(b)) + floor) / (m(aa) - m(a) m(a) + m(bb) - m(b) m(b) + floor).

    Planes are padded with 0, so that the window is its own transpose. The edge to the padding adds energy, which
    reduces the loss beside borders whose colours are far from 0.
    """
    mul, add, sub = (functools.partial(nodes.add, operator) for operator in ("Mul", "Add", "Sub"))

    def mean(name: str) -> str:
        pads, side = [WINDOW // 2] * 4, [WINDOW] * 2
        return nodes.add("AveragePool", name, kernel_shape=side, pads=pads, strides=[1, 1], count_include_pad=1)

    two, least = nodes.constant(np.float32(2)), nodes.constant(floor)
    mean_decoded, mean_original = mean(decoded), mean(original)
    squares = mean(add(mul(decoded, decoded), mul(original, original)))
    energy = add(sub(squares, add(mul(mean_decoded, mean_decoded), mul(mean_original, mean_original))), least)
    shared = add(mul(two, sub(mean(mul(decoded, original)), mul(mean_decoded, mean_original))), least)
    similarity = nodes.add("Div", shared, energy)
    one_by = nodes.add("Div", weights, energy)
    by = mul(similarity, one_by)
    same = sub(mul(decoded, mean(by)), mean(mul(by, mean_decoded)))
    other = sub(mul(original, mean(one_by)), mean(mul(one_by, mean_original)))
    return similarity, mul(two, sub(same, other))


def _planes(nodes: Nodes, pixels: str, side: int) -> str:
    return nodes.add("Conv", _pooled(nodes, pixels, side), nodes.constant(PLANES[:, :, None, None]))


def _pooled(nodes: Nodes, name: str, side: int) -> str:
    """Add means over blocks of `side` x `side` positions."""
    return nodes.add("AveragePool", name, kernel_shape=[side] * 2, strides=[side] * 2) if side > 1 else name


def _enlarged(nodes: Nodes, name: str, factor: int) -> str:
    """Add planes enlarged by `factor` by repeating each position."""
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    factors = np.array([1, 1, factor, factor], np.float32)
    return nodes.add("Resize", name, "", nodes.constant(factors), **attributes) if factor > 1 else name
