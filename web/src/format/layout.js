/** The division of a file's payload: tiles of the plane of latents, each with one segment of every kind. */

const TILE_ALIGNMENT = 4; // latents: tile edges are multiples of the period of the passes
const MIN_TILE = 32; // latents a side; a single tile may be smaller

/** @typedef {[first: number, end: number]} Span `end` is exclusive */
/** @typedef {{rows: Span, columns: Span}} Place */
/**
 * @typedef {{top: boolean, bottom: boolean, left: boolean, right: boolean}} InnerEdges whether each edge lies inside
 *   the image, next to another tile
 */

/**
 * Numbers of tiles, and the kinds of segments of each tile: `levels` segments of its stream, and the layers.
 *
 * `residual` is the quantization step of the residual layer in 1/16 level, 0 without that layer.
 * @typedef {{columns: number, rows: number, levels: number, alpha: boolean, overlay: boolean, residual: number}} Layout
 */

/** @type {Readonly<Layout>} */
export const SINGLE = Object.freeze({ columns: 1, rows: 1, levels: 1, alpha: false, overlay: false, residual: 0 });

/**
 * Return the kinds of segments in file order: levels by number from 0, then layers by name.
 * @param {Layout} layout
 * @returns {(number | "overlay" | "residual" | "alpha")[]}
 */
export function segmentKinds(layout) {
  return [
    ...Array(layout.levels).keys(),
    ...(layout.overlay ? /** @type {const} */ (["overlay"]) : []),
    ...(layout.residual ? /** @type {const} */ (["residual"]) : []),
    ...(layout.alpha ? /** @type {const} */ (["alpha"]) : []),
  ];
}

/**
 * Return the number of segments.
 * @param {Layout} layout
 */
export function segmentCount(layout) {
  return layout.columns * layout.rows * segmentKinds(layout).length;
}

/**
 * Return whether a plane of latents may be divided into that many tiles.
 * @param {Layout} layout
 * @param {number} height
 * @param {number} width
 */
export function fits(layout, height, width) {
  return layout.rows <= maxTiles(height) && layout.columns <= maxTiles(width);
}

/**
 * Return the largest number of tiles along a side.
 * @param {number} length of the side, in latents
 */
export function maxTiles(length) {
  return Math.max(1, Math.floor(length / MIN_TILE));
}

/**
 * Return the tiles of a plane of latents, row by row.
 * @param {Layout} layout
 * @param {number} height
 * @param {number} width
 * @returns {Place[]}
 */
export function tilePlaces(layout, height, width) {
  const across = tileSpans(width, layout.columns);
  return tileSpans(height, layout.rows).flatMap((rows) => across.map((columns) => ({ rows, columns })));
}

/**
 * Return the pixels of a tile of latents.
 * @param {Place} place in latents
 * @param {number} downscale width of a latent in pixels
 * @param {number} height of the image
 * @param {number} width
 * @returns {Place}
 */
export function pixelPlace({ rows, columns }, downscale, height, width) {
  return {
    rows: [downscale * rows[0], Math.min(downscale * rows[1], height)],
    columns: [downscale * columns[0], Math.min(downscale * columns[1], width)],
  };
}

/**
 * Return which edges of a tile lie inside the image.
 * @param {Place} tile
 * @param {number} height of the plane, in latents
 * @param {number} width
 * @returns {InnerEdges}
 */
export function innerEdges({ rows, columns }, height, width) {
  return { top: rows[0] > 0, bottom: rows[1] < height, left: columns[0] > 0, right: columns[1] < width };
}

/**
 * Return the intersection of two places, null if it is empty.
 * @param {Place} first
 * @param {Place} second
 * @returns {Place | null}
 */
export function intersect(first, second) {
  const rows = overlap(first.rows, second.rows), columns = overlap(first.columns, second.columns);
  return rows && columns && { rows, columns };
}

/**
 * @param {Span} first
 * @param {Span} second
 * @returns {Span | null}
 */
function overlap(first, second) {
  const start = Math.max(first[0], second[0]), end = Math.min(first[1], second[1]);
  return start < end ? [start, end] : null;
}

/**
 * Return the tiles along a side.
 * @param {number} length of the side, in latents
 * @param {number} count number of tiles
 * @returns {Span[]}
 */
function tileSpans(length, count) {
  const units = Math.ceil(length / TILE_ALIGNMENT);
  const edge = (/** @type {number} */ n) => (n === count ? length : TILE_ALIGNMENT * Math.floor((n * units) / count));
  return Array.from({ length: count }, (_, n) => [edge(n), edge(n + 1)]);
}
