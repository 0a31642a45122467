"""The encoder's choice of an overlay: pixels that a lossless image of few colours codes better than the networks.

Costs are D + lambda R: squared error of 8-bit values, summed over R, G and B, plus `lmbda` times bits. `lmbda` is in
squared 8-bit values per bit.

The choice is made by blocks of 16x16 pixels. A pixel is *fresh* if it differs from both the pixel to the left and the
pixel above. Text, plots and screenshots have few fresh pixels, and lossless WebP codes the others for almost no bits.
In photos nearly all pixels are fresh.
"""

import numpy as np

from sdtrt._arrays import BoolArray, F32Array, IndexArray, U8Array, U32Array
from sdtrt.engine.format.webp_lossless import OPAQUE, encode_rgba
from sdtrt.engine.layers.dct import forward_dct

BLOCK = 16  # pixels

# Which blocks may be covered. A block is crisp if its fresh pixels lie at edges, of text and lines, and are not noise.
MAX_FRESH_SHARE = 0.8  # of a block's pixels
EDGE_CONTRAST = 24  # difference of green, in 8-bit values, between a pixel and its left or upper neighbour
MIN_EDGE_SHARE = 0.4  # of a crisp block's fresh pixels
MIN_CRISP_BLOCKS = 0.015  # of all blocks, for an overlay at all: pages have 0.02 to 0.7, photos below 0.01
TRY_FULL_SHARE = 0.97  # of all blocks: if so many may be covered, an overlay over all of them is tried too

# Estimated bits of an overlay.
FRESH_BITS = 4.0  # of a fresh pixel; includes the error of its colour
BORDER_BITS = 32.0  # of a side between a covered block and one that is not
OVERLAY_BITS = 800.0  # of the overlay as such, and of the latents under it
MAX_SMOOTHING_ROUNDS = 12

# Estimated cost of a block in a transform codec with a uniform quantizer.
SQUARED_STEP_PER_LAMBDA = 1 / 0.12  # the quantizer of step s has the slope lambda = 0.12 s^2
COEFFICIENT_ROUNDING = 0.35  # below 0.5: a dead zone saves bits
COEFFICIENT_BITS = 2.5  # of a coefficient that is not 0; measured with AVIF on photos

MAX_PALETTE = 255  # colours: a WebP palette has 256, and one is for pixels that are not covered
MAX_COLOURS = 4096  # of the histogram that a palette is made from
PALETTE_ROUNDS = 8
PALETTE_RATE_SHARE = 1 / 3  # of the entropy of colours: WebP's contexts save the rest

FILL_COLOUR = (110, 118, 125)  # the grey of fewest bits in latents of `tiny`; white takes five times as many


def choose_overlay(pixels: U8Array, lmbda: float) -> U8Array | None:
    """Return the overlay of an image, or None if it would not lower the cost.

    Arguments:
        pixels: uint8 (H, W, 3).
        lmbda: squared 8-bit values per bit.

    Returns uint8 (H, W, 4). Alpha is 255 where the overlay replaces the image; elsewhere alpha and colour are 0.
    """
    packed = _pack_pixels(pixels)
    fresh, edges = _fresh_counts(packed, pixels[:, :, 1])
    is_simple = fresh <= MAX_FRESH_SHARE * BLOCK * BLOCK
    is_crisp = is_simple & (fresh > 0) & (edges >= MIN_EDGE_SHARE * fresh)
    if np.count_nonzero(is_crisp) < MIN_CRISP_BLOCKS * is_crisp.size:
        return None
    overlay_costs = lmbda * FRESH_BITS * fresh
    codec_costs = overlay_costs / 2  # a guess for the other blocks, too low for most
    codec_costs[is_simple] = _transform_cost(_blocks(pixels)[is_simple], lmbda)
    is_soft = (fresh > 0) & ~is_crisp
    # Networks code soft blocks well: an overlay must not gain anything there.
    codec_costs[is_soft] = np.minimum(codec_costs, overlay_costs)[is_soft]
    is_covered = _smooth_mask(codec_costs - overlay_costs, lmbda * BORDER_BITS)
    if not is_covered.any():
        return None
    height, width = packed.shape
    mask = is_covered.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:height, :width]
    cost, overlay = _best_palette_overlay(packed, mask, lmbda)
    if cost + lmbda * OVERLAY_BITS >= float(codec_costs[is_covered].sum()):
        return None
    if is_covered.all() or np.count_nonzero(is_simple) < TRY_FULL_SHARE * is_simple.size:
        return overlay
    remaining_cost = float(codec_costs[~is_covered].sum())
    full_cost, full_overlay = _best_palette_overlay(packed, np.ones_like(mask), lmbda)
    return full_overlay if full_cost < cost + remaining_cost else overlay


def inpaint_covered(pixels: U8Array, overlay: U8Array) -> U8Array:
    """Return an image for the encoder network, uint8 (H, W, 3), whose covered pixels cost few bits.

    Covered pixels continue their surroundings smoothly. If all pixels are covered, the result is grey.
    """
    is_visible = overlay[:, :, 3:] != OPAQUE
    if not is_visible.any():
        return np.broadcast_to(np.array(FILL_COLOUR, np.uint8), pixels.shape).copy()
    if is_visible.all():
        return pixels
    smooth = np.rint(_pull_push(np.where(is_visible, pixels, 0).astype(np.float32), is_visible.astype(np.float32)))
    return np.where(is_visible, pixels, smooth.astype(np.uint8))


def _pack_pixels(pixels: U8Array) -> U32Array:
    """Return each pixel as one number, uint32 (H, W): red in the lowest byte, then green, blue and 255."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGBA")
    return np.asarray(image).view("<u4")[:, :, 0]


def _fresh_counts(packed: U32Array, green: U8Array) -> tuple[F32Array, F32Array]:
    """Return the fresh pixels of each block, and the fresh pixels at edges: float32 (rows, columns) each."""
    this, left, above = np.s_[1:, 1:], np.s_[1:, :-1], np.s_[:-1, 1:]
    is_fresh, is_edge = np.zeros((2, *packed.shape), np.bool_)
    is_fresh[this] = (packed[this] != packed[left]) & (packed[this] != packed[above])
    signed = green.astype(np.int16)
    contrasts = [np.abs(signed[this] - signed[neighbour]) for neighbour in (left, above)]
    is_edge[this] = is_fresh[this] & (np.maximum(*contrasts) >= EDGE_CONTRAST)
    return _count_in_blocks(is_fresh), _count_in_blocks(is_edge)


def _count_in_blocks(mask: BoolArray) -> F32Array:
    """Return the number of set pixels of a mask, bool (H, W), in each block: float32 (rows, columns)."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % BLOCK), (0, -width % BLOCK))).view(np.uint8)
    sums = padded.reshape(-1, BLOCK, padded.shape[1]).sum(1, dtype=np.uint8)
    return sums.reshape(len(sums), -1, BLOCK).sum(2, dtype=np.float32)


def _blocks(pixels: U8Array) -> U8Array:
    """Return the blocks of an image, uint8 (rows, columns, 16, 16, 3), padded by its last row and column."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % BLOCK), (0, -width % BLOCK), (0, 0)), mode="edge")
    return padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK, 3).swapaxes(1, 2)


def _transform_cost(blocks: U8Array, lmbda: float) -> F32Array:
    """Return the estimated cost of blocks, uint8 (n, 16, 16, 3), in a transform codec: float32 (n,)."""
    squared_step = lmbda * SQUARED_STEP_PER_LAMBDA
    stacked = blocks.reshape(-1, BLOCK, 3).astype(np.int16) - np.int16(128)
    steps = np.abs(forward_dct(stacked)) * np.float32(squared_step**-0.5)
    symbols = np.floor(steps + np.float32(COEFFICIENT_ROUNDING))
    costs = np.square(steps - symbols) * np.float32(squared_step) + (symbols > 0) * np.float32(lmbda * COEFFICIENT_BITS)
    return costs.sum((0, 1)).reshape(len(blocks), -1).sum(1)


def _smooth_mask(gains: F32Array, border_cost: float) -> BoolArray:
    """Return the mask of covered blocks, bool (rows, columns), by iterated conditional modes.

    Arguments:
        gains: float32 (rows, columns), the cost that an overlay saves in each block.
        border_cost: of each side between a covered block and one that is not.
    """
    is_covered = gains > 0
    for _ in range(MAX_SMOOTHING_ROUNDS):
        votes = np.pad(np.where(is_covered, np.float32(1), np.float32(-1)), 1)
        neighbour_votes = votes[:-2, 1:-1] + votes[2:, 1:-1] + votes[1:-1, :-2] + votes[1:-1, 2:]
        previous, is_covered = is_covered, gains + border_cost * neighbour_votes > 0
        if (previous == is_covered).all():
            break
    return is_covered


def _best_palette_overlay(packed: U32Array, mask: BoolArray, lmbda: float) -> tuple[float, U8Array]:
    """Return the best of some overlays over `mask` with different palettes: its cost, and uint8 (H, W, 4)."""
    colours, counts, indices, histogram_error = _histogram(packed[mask])
    numbers = np.full(mask.shape, len(colours))  # the last number is for pixels that are not covered
    numbers[mask] = indices

    def candidate(rate_share: float) -> tuple[float, U8Array]:
        if rate_share:
            palette_colours = _ecvq(colours, counts, rate_share * lmbda)
            error = histogram_error + float(counts @ np.square(palette_colours - colours).sum(1))
            drawing = np.append(_pack_pixels(palette_colours[None]), np.uint32(0))[numbers]
        else:
            error, drawing = 0.0, np.where(mask, packed, np.uint32(0))
        overlay = drawing.view(np.uint8).reshape(*mask.shape, 4)
        return error + lmbda * 8 * len(encode_rgba(overlay, trial=True)), overlay

    # Hill climbing over the rate share: towards more colours (0 is lossless), else towards fewer.
    best = candidate(PALETTE_RATE_SHARE)
    for rate_shares in ((PALETTE_RATE_SHARE / 3, 0), (3 * PALETTE_RATE_SHARE,)):
        first = best
        for rate_share in rate_shares:
            trial = candidate(rate_share)
            if trial[0] >= best[0]:
                break
            best = trial
        if best is not first:
            break
    return best


def _histogram(packed: U32Array) -> tuple[F32Array, IndexArray, IndexArray, float]:
    """Return the colours of pixels, with at most `MAX_COLOURS` bins.

    If there are more colours, low bits are ignored, and a bin is the mean of its colours.

    Returns:
        colours of the bins, float32 (k, 3).
        number of pixels of each bin.
        bin of each pixel.
        squared error of the pixels to the colours of their bins.
    """
    for shift in range(8):
        high_bits = packed & np.uint32(0x010101 * (0xFF >> shift << shift))
        distinct, counts = np.unique(high_bits, return_counts=True)
        if len(distinct) <= MAX_COLOURS:
            break
    indices = np.searchsorted(distinct, high_bits)
    channels = packed.view(np.uint8).reshape(-1, 4)[:, :3].T.astype(np.float64)
    sums = np.stack([np.bincount(indices, channel, len(distinct)) for channel in channels], axis=1)
    means = sums / counts[:, None]
    error = float(np.square(channels).sum() - (means * sums).sum()) if shift else 0.0
    return means.astype(np.float32), counts, indices, error


def _ecvq(colours: F32Array, counts: IndexArray, lmbda: float) -> U8Array:
    """Return colours quantized to a palette, uint8 (k, 3), by entropy-constrained vector quantization.

    Each colour is replaced by the palette colour of least squared error plus `lmbda` times the bits of its frequency.
    Rare colours vanish if a similar colour is frequent. Chou, Lookabaugh & Gray, "Entropy-constrained vector
    quantization", 1989.

    Arguments:
        colours: float32 (k, 3).
        counts: number of pixels of each colour.
        lmbda: squared 8-bit values per bit.
    """
    frequent = np.argsort(-counts, kind="stable")[:MAX_PALETTE]
    palette, weights = colours[frequent], counts[frequent].astype(np.float64)
    for _ in range(PALETTE_ROUNDS):
        bits = np.log2(counts.sum() / weights)
        costs = (np.square(palette).sum(1) + lmbda * bits).astype(np.float32) - 2 * colours @ palette.T
        nearest = costs.argmin(1)
        weights = np.bincount(nearest, counts, len(palette)).astype(np.float64)
        sums = np.stack([np.bincount(nearest, counts * channel, len(palette)) for channel in colours.T], axis=1)
        in_use = weights > 0
        nearest = (np.cumsum(in_use) - 1)[nearest]
        weights = weights[in_use]
        palette = (sums[in_use] / weights[:, None]).astype(np.float32)
    return np.rint(palette).astype(np.uint8)[nearest]


def _pull_push(colours: F32Array, weights: F32Array) -> F32Array:
    """Return colours everywhere, float32 (h, w, 3), by pull-push interpolation.

    Arguments:
        colours: float32 (h, w, 3), weighted: 0 where the weight is 0.
        weights: float32 (h, w, 1), 0 (no colour is given) to 1.

    Gortler et al., "The Lumigraph", 1996: pixels without a colour take it from an image of half the size.
    """
    normalised = np.where(weights > 0, colours / np.maximum(weights, np.float32(1e-9)), 0)
    if weights.all():
        return normalised
    height, width = weights.shape[:2]
    to_even = ((0, height % 2), (0, width % 2), (0, 0))
    half_colours, half_weights = (
        np.pad(plane, to_even).reshape(-(-height // 2), 2, -(-width // 2), 2, -1).sum((1, 3))
        for plane in (normalised * weights, weights)
    )
    scale = np.maximum(half_weights, 1)
    coarse = _pull_push(half_colours / scale, half_weights / scale)
    for _ in range(2):
        coarse = _upsample_rows(coarse).swapaxes(0, 1)
    return np.where(weights > 0, normalised, coarse[:height, :width])


def _upsample_rows(plane: F32Array) -> F32Array:
    """Return a plane, float32 (h, w, 3), with twice the rows, by linear interpolation."""
    padded = np.pad(plane, ((1, 1), (0, 0), (0, 0)), mode="edge")
    pairs = np.stack([plane * 3 + padded[:-2], plane * 3 + padded[2:]], axis=1) / 4
    return pairs.reshape(-1, *plane.shape[1:]).astype(np.float32, copy=False)
