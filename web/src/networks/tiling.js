/** Divides large images into tiles for a network. Tiles overlap by the receptive field and are cut in the middle. */

/** @typedef {import("../format/layout.js").Place} Place */
/** @typedef {import("../format/layout.js").Span} Span */

const TILE = 1536; // pixels a side

/** Tiles whose core is the same as without tiles. */
export class Tiling {
  /**
   * @param {number} scale width of a latent in pixels
   * @param {number} reach radius of the network's receptive field, in latents
   */
  constructor(scale, reach) {
    this._scale = scale;
    this._reach = reach;
    this._overlap = 2 * reach;
    this._tile = Math.max(Math.floor(TILE / scale), 3 * this._overlap);
  }

  /**
   * Yield the tiles that cover an area, each with its core: the pixels that are used.
   * @param {Place} area in pixels
   * @param {number} height of the plane, in latents
   * @param {number} width
   * @returns {Generator<{latents: Place, core: Place}>}
   */
  *tiles(area, height, width) {
    const across = this._along(area.columns, width);
    for (const down of this._along(area.rows, height)) {
      for (const { span, core } of across) {
        yield { latents: { rows: down.span, columns: span }, core: { rows: down.core, columns: core } };
      }
    }
  }

  /**
   * Return the tiles along a side, with the core of each.
   * @param {Span} pixels
   * @param {number} length of the side, in latents
   * @returns {{span: Span, core: Span}[]}
   */
  _along(pixels, length) {
    const scale = this._scale, first = Math.max(Math.floor(pixels[0] / scale) - this._reach, 0);
    const end = Math.min(Math.ceil(pixels[1] / scale) + this._reach, length);
    const spans = this._spans(end - first).map(([from, to]) => /** @type {Span} */ ([first + from, first + to]));
    const edges = spans.slice(1).map(([start], n) => scale * start + Math.floor((scale * (spans[n][1] - start)) / 2));
    const bounds = [pixels[0], ...edges, pixels[1]];
    return spans.map((span, n) => ({ span, core: [bounds[n], bounds[n + 1]] }));
  }

  /**
   * Return the spans of tiles along a side: all of one length, in order, covering the side exactly.
   * @param {number} length of the side, in latents
   * @returns {Span[]}
   */
  _spans(length) {
    if (length <= this._tile) return [[0, length]];
    const count = Math.ceil((length - this._overlap) / (this._tile - this._overlap));
    const size = Math.ceil((length + (count - 1) * this._overlap) / count);
    return Array.from({ length: count }, (_, n) => {
      const start = Math.floor((n * (length - size)) / (count - 1));
      return [start, start + size];
    });
  }
}
