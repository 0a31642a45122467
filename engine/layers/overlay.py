"""Overlays, the encoder's choice: which pixels are better drawn in few colours than coded by networks, and in which.

Costs are squared error, in squared levels summed over R, G and B, plus `lmbda` times bits; `lmbda` is what a bit may
cost in squared error. Images are divided into blocks of 16x16 pixels: of text, plots and screens few pixels are
*fresh*, that is, differ both from the pixel to the left and from the one above, and lossless WebP codes the rest for
next to nothing; of photos nearly all are.
"""

import numpy as np

from sdtrt._arrays import BoolArray, F32Array, IndexArray, U8Array, U32Array
from sdtrt.engine.format.webp_lossless import OPAQUE, encode_rgba
from sdtrt.engine.layers.dct import forward_dct

BLOCK = 16  # pixels
FRESHEST = 0.8  # of a block's pixels: no block with more of them is looked at
EDGE = 24  # levels of green between a pixel and one of the two
EDGES = 0.4  # of a block's fresh pixels, at least, are at edges, of text and lines, not of noise: it is crisp
CRISP = 0.015  # of all blocks: where fewer are crisp there is no overlay. Pages have 0.02 to 0.7, photos below 0.01
FRESH_BITS = 4.0  # of a fresh pixel, the error of its colour included: few, since in parts overlays are dear
BORDER_BITS = 32.0  # of a block's side between what is covered and what is not
HEAD_BITS = 800.0  # of an overlay at all, and what hidden latents still cost
MOSTLY = 0.97  # of all blocks may be simple: from there on an overlay over all of them is tried, too
ROUNDS = 12  # of voting among blocks

STEPS_PER_PRICE = 1 / 0.12  # squared step of the transform whose slope is a price of 1
ROUNDING = 0.35  # of coefficients: less than a half, as bits are saved
COEFFICIENT_BITS = 2.5  # of a coefficient that is not 0; measured with AVIF on photos

MAX_PALETTE = 255  # and one for what is not covered: WebP's palettes have 256 colours
MAX_COLOURS = 4096  # told apart when a palette is chosen
PALETTE_ROUNDS = 8
SHARE = 1 / 3  # of the bits that a colour's frequency alone would ask for, the rest WebP saves by contexts

GROUND = (110, 118, 125)  # the cheapest of some greys in latents of `tiny`: white takes five times as many bytes


def choose_overlay(pixels: U8Array, lmbda: float) -> U8Array | None:
    """Return the overlay of an image, uint8 (H, W, 4) from (H, W, 3), or None if none pays.

    Its alpha is 255 where it stands for the image, 0 with colour 0 elsewhere.
    """
    packed = _packed(pixels)
    fresh, edges = _fresh(packed, pixels[:, :, 1])
    simple = fresh <= FRESHEST * BLOCK * BLOCK
    crisp = simple & (fresh > 0) & (edges >= EDGES * fresh)
    if np.count_nonzero(crisp) < CRISP * crisp.size:
        return None
    drawn = lmbda * FRESH_BITS * fresh
    coded = drawn / 2  # a guess, too good for most
    coded[simple] = _transform_cost(_blocks(pixels)[simple], lmbda)
    soft = (fresh > 0) & ~crisp
    coded[soft] = np.minimum(coded, drawn)[soft]  # these gain nothing, since networks are good at them
    covered = _voted(coded - drawn, lmbda * BORDER_BITS)
    if not covered.any():
        return None
    height, width = packed.shape
    mask = covered.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:height, :width]
    cost, overlay = _cheapest(packed, mask, lmbda)
    if cost + lmbda * HEAD_BITS >= float(coded[covered].sum()):
        return None
    if covered.all() or np.count_nonzero(simple) < MOSTLY * simple.size:
        return overlay
    rest = float(coded[~covered].sum())
    whole, over_all = _cheapest(packed, np.ones_like(mask), lmbda)
    return over_all if whole < cost + rest else overlay


def inpaint_covered(pixels: U8Array, overlay: U8Array) -> U8Array:
    """Return what networks see instead of an image, uint8 (H, W, 3): what the overlay covers costs little.

    It is grey if all is covered, and else goes on smoothly from what is not.
    """
    shown = overlay[:, :, 3:] != OPAQUE
    if not shown.any():
        return np.broadcast_to(np.array(GROUND, np.uint8), pixels.shape).copy()
    if shown.all():
        return pixels
    smooth = np.rint(_grown(np.where(shown, pixels, 0).astype(np.float32), shown.astype(np.float32)))
    return np.where(shown, pixels, smooth.astype(np.uint8))


def _packed(pixels: U8Array) -> U32Array:
    """Return each pixel as one number, uint32 (H, W): red in the lowest byte, green, blue, 255."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGBA")
    return np.asarray(image).view("<u4")[:, :, 0]


def _fresh(packed: U32Array, green: U8Array) -> tuple[F32Array, F32Array]:
    """Return how many fresh pixels blocks have, and how many of those are at edges: float32 (rows, columns) each."""
    this, left, above = np.s_[1:, 1:], np.s_[1:, :-1], np.s_[:-1, 1:]
    fresh, edges = np.zeros((2, *packed.shape), np.bool_)
    fresh[this] = (packed[this] != packed[left]) & (packed[this] != packed[above])
    levels = green.astype(np.int16)
    differences = [np.abs(levels[this] - levels[other]) for other in (left, above)]
    edges[this] = fresh[this] & (np.maximum(*differences) >= EDGE)
    return _counts(fresh), _counts(edges)


def _counts(mask: BoolArray) -> F32Array:
    """Return how many pixels of a mask, bool (H, W), are set in each block: float32 (rows, columns)."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % BLOCK), (0, -width % BLOCK))).view(np.uint8)
    sums = padded.reshape(-1, BLOCK, padded.shape[1]).sum(1, dtype=np.uint8)
    return sums.reshape(len(sums), -1, BLOCK).sum(2, dtype=np.float32)


def _blocks(pixels: U8Array) -> U8Array:
    """Return an image's blocks, uint8 (rows, columns, 16, 16, 3), where the last row and column are repeated."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
    return padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK, 3).swapaxes(1, 2)


def _transform_cost(blocks: U8Array, lmbda: float) -> F32Array:
    """Return about what blocks, uint8 (n, 16, 16, 3), cost in a codec that transforms, float32 (n,).

    A transform's quantizer of step s has the slope of `lmbda` = 0.12 s^2.
    """
    squared = lmbda * STEPS_PER_PRICE
    stacked = blocks.reshape(-1, BLOCK, 3).astype(np.int16) - np.int16(128)
    steps = np.abs(forward_dct(stacked)) * np.float32(squared**-0.5)
    levels = np.floor(steps + np.float32(ROUNDING))
    costs = np.square(steps - levels) * np.float32(squared) + (levels > 0) * np.float32(lmbda * COEFFICIENT_BITS)
    return costs.sum((0, 1)).reshape(len(blocks), -1).sum(1)


def _voted(gains: F32Array, border: float) -> BoolArray:
    """Return which blocks are covered, bool (rows, columns): those that gain, unless neighbours outvote them.

    A side between a block that is covered and one that is not costs `border`.
    """
    covered = gains > 0
    for _ in range(ROUNDS):
        votes = np.pad(np.where(covered, np.float32(1), np.float32(-1)), 1)
        around = votes[:-2, 1:-1] + votes[2:, 1:-1] + votes[1:-1, :-2] + votes[1:-1, 2:]
        before, covered = covered, gains + border * around > 0
        if (before == covered).all():
            break
    return covered


def _cheapest(packed: U32Array, mask: BoolArray, lmbda: float) -> tuple[float, U8Array]:
    """Return the cost of the overlay, uint8 (H, W, 4), that is cheapest of some that cover `mask`, and it."""
    colours, counts, found, lost = _colours(packed[mask])
    numbers = np.full(mask.shape, len(colours))  # the last, of what is not covered, stands for nothing
    numbers[mask] = found

    def tried(share: float) -> tuple[float, U8Array]:
        if share:
            reduced = _reduced(colours, counts, share * lmbda)
            error = lost + float(counts @ np.square(reduced - colours).sum(1))
            drawn = np.append(_packed(reduced[None]), np.uint32(0))[numbers]
        else:
            error, drawn = 0.0, np.where(mask, packed, np.uint32(0))
        overlay = drawn.view(np.uint8).reshape(*mask.shape, 4)
        return error + lmbda * 8 * len(encode_rgba(overlay, trial=True)), overlay

    best = tried(SHARE)
    for shares in ((SHARE / 3, 0), (3 * SHARE,)):
        first = best
        for share in shares:
            trial = tried(share)
            if trial[0] >= best[0]:
                break
            best = trial
        if best is not first:
            break
    return best


def _colours(packed: U32Array) -> tuple[F32Array, IndexArray, IndexArray, float]:
    """Return colours that stand for pixels (n,): float32 (k, 3), how many pixels each has, and each pixel's number.

    They are all colours that there are, or if those are too many, means of what low bits tell apart; last comes the
    squared error of that.
    """
    for shift in range(8):
        kept = packed & np.uint32(0x010101 * (0xFF >> shift << shift))
        distinct, counts = np.unique(kept, return_counts=True)
        if len(distinct) <= MAX_COLOURS:
            break
    numbers = np.searchsorted(distinct, kept)
    channels = packed.view(np.uint8).reshape(-1, 4)[:, :3].T.astype(np.float64)
    sums = np.stack([np.bincount(numbers, channel, len(distinct)) for channel in channels], axis=1)
    means = sums / counts[:, None]
    lost = float(np.square(channels).sum() - (means * sums).sum()) if shift else 0.0
    return means.astype(np.float32), counts, numbers, lost


def _reduced(colours: F32Array, counts: IndexArray, lmbda: float) -> U8Array:
    """Return colours, float32 (k, 3) that occur `counts` times, each replaced by one of a palette: uint8 (k, 3).

    Entropy-constrained vector quantization (Chou, Lookabaugh & Gray, 1989): colours go where squared error plus `lmbda`
    times the bits of that frequency is least, so that rare colours vanish whose neighbours are frequent.
    """
    frequent = np.argsort(-counts, kind="stable")[:MAX_PALETTE]
    palette, weights = colours[frequent], counts[frequent].astype(np.float64)
    for _ in range(PALETTE_ROUNDS):
        bits = np.log2(counts.sum() / weights)
        costs = (np.square(palette).sum(1) + lmbda * bits).astype(np.float32) - 2 * colours @ palette.T
        chosen = costs.argmin(1)
        weights = np.bincount(chosen, counts, len(palette)).astype(np.float64)
        sums = np.stack([np.bincount(chosen, counts * channel, len(palette)) for channel in colours.T], axis=1)
        used = weights > 0
        chosen = (np.cumsum(used) - 1)[chosen]
        weights = weights[used]
        palette = (sums[used] / weights[:, None]).astype(np.float32)
    return np.rint(palette).astype(np.uint8)[chosen]


def _grown(sums: F32Array, weights: F32Array) -> F32Array:
    """Return colours everywhere, float32 (h, w, 3), from sums of colours times weights, 0 to 1, float32 (h, w, 1)."""
    known = np.where(weights > 0, sums / np.maximum(weights, np.float32(1e-9)), 0)
    if weights.all():
        return known
    height, width = weights.shape[:2]
    even = ((0, height % 2), (0, width % 2), (0, 0))
    halves = [
        np.pad(a, even).reshape(-(-height // 2), 2, -(-width // 2), 2, -1).sum((1, 3))
        for a in (known * weights, weights)
    ]
    scale = np.maximum(halves[1], 1)
    coarse = _doubled(_doubled(_grown(halves[0] / scale, halves[1] / scale)).swapaxes(0, 1)).swapaxes(0, 1)
    return np.where(weights > 0, known, coarse[:height, :width])


def _doubled(plane: F32Array) -> F32Array:
    """Return a plane, float32 (h, w, 3), with twice the rows, interpolated."""
    padded = np.pad(plane, ((1, 1), (0, 0), (0, 0)), mode="edge")
    pairs = np.stack([plane * 3 + padded[:-2], plane * 3 + padded[2:]], axis=1) / 4
    return pairs.reshape(-1, *plane.shape[1:]).astype(np.float32, copy=False)
