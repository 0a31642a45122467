/** How a file's payload is divided: tiles of the plane of latents, and for each a segment of every kind. */

const GRAIN = 4; // latents: edges of tiles are multiples, as positions of passes are
const SMALLEST_TILE = 32; // latents a side, but for planes of a single tile

/** @typedef {[first: number, end: number]} Span `end` is one behind the last */
/** @typedef {{rows: Span, columns: Span}} Place */
/** @typedef {{top: boolean, bottom: boolean, left: boolean, right: boolean}} Inner edges that lie within the picture */

/**
 * Tiles across and down, and of what kinds each has a segment: its stream's `levels`, and what else there is.
 *
 * `residual` is the step of the residual layer in 1/16 level, 0 where there is none.
 * @typedef {{columns: number, rows: number, levels: number, alpha: boolean, overlay: boolean, residual: number}} Layout
 */

/** @type {Readonly<Layout>} */
export const SINGLE = Object.freeze({ columns: 1, rows: 1, levels: 1, alpha: false, overlay: false, residual: 0 });

/**
 * Return the kinds of segments in their order: levels by number, from 0, then the others by name.
 * @param {Layout} layout
 * @returns {(number | "overlay" | "residual" | "alpha")[]}
 */
export function kindsOf(layout) {
  return [
    ...Array(layout.levels).keys(),
    ...(layout.overlay ? /** @type {const} */ (["overlay"]) : []),
    ...(layout.residual ? /** @type {const} */ (["residual"]) : []),
    ...(layout.alpha ? /** @type {const} */ (["alpha"]) : []),
  ];
}

/**
 * Return how many segments there are.
 * @param {Layout} layout
 */
export function segmentCount(layout) {
  return layout.columns * layout.rows * kindsOf(layout).length;
}

/**
 * Return whether a plane of so many latents may be divided so.
 * @param {Layout} layout
 * @param {number} height
 * @param {number} width
 */
export function fits(layout, height, width) {
  return layout.rows <= mostTiles(height) && layout.columns <= mostTiles(width);
}

/**
 * Return into how many tiles a side of so many latents may be divided.
 * @param {number} length
 */
export function mostTiles(length) {
  return Math.max(1, Math.floor(length / SMALLEST_TILE));
}

/**
 * Return the tiles of a plane of latents, row by row.
 * @param {Layout} layout
 * @param {number} height
 * @param {number} width
 * @returns {Place[]}
 */
export function placesOf(layout, height, width) {
  const across = spans(width, layout.columns);
  return spans(height, layout.rows).flatMap((rows) => across.map((columns) => ({ rows, columns })));
}

/**
 * Return the pixels of a tile of latents.
 * @param {Place} place in latents
 * @param {number} downscale pixels a latent is wide
 * @param {number} height of the picture
 * @param {number} width
 * @returns {Place}
 */
export function pixelsOf({ rows, columns }, downscale, height, width) {
  return {
    rows: [downscale * rows[0], Math.min(downscale * rows[1], height)],
    columns: [downscale * columns[0], Math.min(downscale * columns[1], width)],
  };
}

/**
 * Return which edges of a tile lie within a picture of so many latents.
 * @param {Place} tile
 * @param {number} height
 * @param {number} width
 * @returns {Inner}
 */
export function innerOf({ rows, columns }, height, width) {
  return { top: rows[0] > 0, bottom: rows[1] < height, left: columns[0] > 0, right: columns[1] < width };
}

/**
 * Return what two places have in common, null if that is nothing.
 * @param {Place} first
 * @param {Place} second
 * @returns {Place | null}
 */
export function common(first, second) {
  const rows = meet(first.rows, second.rows), columns = meet(first.columns, second.columns);
  return rows && columns && { rows, columns };
}

/**
 * @param {Span} first
 * @param {Span} second
 * @returns {Span | null}
 */
function meet(first, second) {
  const start = Math.max(first[0], second[0]), end = Math.min(first[1], second[1]);
  return start < end ? [start, end] : null;
}

/**
 * Return `count` tiles along a side of so many latents.
 * @param {number} length
 * @param {number} count
 * @returns {Span[]}
 */
function spans(length, count) {
  const grains = Math.ceil(length / GRAIN);
  const edge = (/** @type {number} */ n) => (n === count ? length : GRAIN * Math.floor((n * grains) / count));
  return Array.from({ length: count }, (_, n) => [edge(n), edge(n + 1)]);
}
