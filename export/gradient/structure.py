"""How much of an image's structure is lost, and how its pixels could mend that: nodes of a graph.

Structure is what Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", 2004, measure by contrast and correlation, and not the luminance term; at several scales, as in Wang,
Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment", 2003, but added up. Windows are
square. Coarse scales count more, which by trials does more for MS-SSIM and SSIMULACRA2 both.
"""

import functools
from typing import NamedTuple

import numpy as np

from sdtrt.export.gradient.nodes import Nodes

SCALES = {2: 0.3, 4: 0.3, 8: 0.4}  # pixels that are one of a scale's, along a side, and what the scale counts
PLANES = np.array([[0.299, 0.587, 0.114], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)  # luma (BT.601), R, G, B
SHARES = np.array([1 / 2, 1 / 6, 1 / 6, 1 / 6], np.float32)  # what planes count
WINDOW = 5  # pixels a side
FLOOR = 0.03**2  # of the energy, in squares of the range


class Structure(NamedTuple):
    """Names of tensors: `lost`, (N, 1, h, w), 0 to 2, and the gradient of its weighted sum, (N, 3, H, W)."""

    lost: str
    gradient: str


def structure(
    nodes: Nodes, shown: str, wanted: str, weights: str, scale: int, pixel_range: tuple[float, float]
) -> Structure:
    """Add what tells how much structure of `wanted` pixels is lost in those that are `shown`, (N, 3, H, W) both.

    `weights`, (N, 1, h, w), are by how much it counts at each latent, of `scale` x `scale` pixels. Scales that do not
    divide a latent's pixels are left out.
    """
    add, lost, gradients = functools.partial(nodes.add, "Add"), [], []
    floor = np.float32(FLOOR * (pixel_range[1] - pixel_range[0]) ** 2)
    scales = {side: share for side, share in SCALES.items() if scale % side == 0} or {1: 1.0}
    for side, share in scales.items():
        first, second = (_planes(nodes, name, side) for name in (shown, wanted))
        counts = nodes.constant((share / scale**2 * SHARES)[:, None, None])
        each = nodes.add("Mul", _enlarged(nodes, weights, scale // side), counts)
        likeness, gradient = _likeness(nodes, first, second, each, floor)
        mean = nodes.add("Conv", likeness, nodes.constant(share * SHARES[None, :, None, None]))
        lost.append(nodes.add("Sub", nodes.constant(np.float32(share)), _pooled(nodes, mean, scale // side)))
        pixels = nodes.add("Conv", gradient, nodes.constant(np.ascontiguousarray(PLANES.T)[:, :, None, None]))
        gradients.append(_enlarged(nodes, pixels, side))
    return Structure(functools.reduce(add, lost), functools.reduce(add, gradients))


def _likeness(nodes: Nodes, shown: str, wanted: str, weights: str, floor: np.float32) -> tuple[str, str]:
    """Add the likeness of planes' structure, at most 1, and minus the gradient of its weighted sum.

    With means m, in windows around a place, likeness is 2 (m(ab) - m(a) m(b)) + floor, by m(aa) - m(a) m(a) + m(bb) -
    m(b) m(b) + floor. Beyond the planes' edges all is 0, so that windows are their own transpose; that edge is energy,
    too, and so what is lost beside borders counts less, the further their colours are from 0.
    """
    mul, add, sub = (functools.partial(nodes.add, operator) for operator in ("Mul", "Add", "Sub"))

    def mean(name: str) -> str:
        pads, side = [WINDOW // 2] * 4, [WINDOW] * 2
        return nodes.add("AveragePool", name, kernel_shape=side, pads=pads, strides=[1, 1], count_include_pad=1)

    two, least = nodes.constant(np.float32(2)), nodes.constant(floor)
    mean_shown, mean_wanted = mean(shown), mean(wanted)
    squares = mean(add(mul(shown, shown), mul(wanted, wanted)))
    energy = add(sub(squares, add(mul(mean_shown, mean_shown), mul(mean_wanted, mean_wanted))), least)
    shared = add(mul(two, sub(mean(mul(shown, wanted)), mul(mean_shown, mean_wanted))), least)
    likeness = nodes.add("Div", shared, energy)
    one_by = nodes.add("Div", weights, energy)
    by = mul(likeness, one_by)
    same = sub(mul(shown, mean(by)), mean(mul(by, mean_shown)))
    other = sub(mul(wanted, mean(one_by)), mean(mul(one_by, mean_wanted)))
    return likeness, mul(two, sub(same, other))


def _planes(nodes: Nodes, pixels: str, side: int) -> str:
    return nodes.add("Conv", _pooled(nodes, pixels, side), nodes.constant(PLANES[:, :, None, None]))


def _pooled(nodes: Nodes, name: str, side: int) -> str:
    """Add the means of blocks of so many places a side."""
    return nodes.add("AveragePool", name, kernel_shape=[side] * 2, strides=[side] * 2) if side > 1 else name


def _enlarged(nodes: Nodes, name: str, factor: int) -> str:
    """Add planes in which each place is repeated along both sides."""
    told = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    factors = np.array([1, 1, factor, factor], np.float32)
    return nodes.add("Resize", name, "", nodes.constant(factors), **told) if factor > 1 else name
