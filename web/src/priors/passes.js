/**
 * The coding order of symbols: passes over channels and interleaved subsets of the plane. `docs/format.md`, section
 * 3.3.
 *
 * Planes of known values have a margin as wide as the context windows reach.
 */

/** Width of the margin of a padded plane. */
export const MARGIN = 4;

/**
 * A subset of the plane: every `stride`-th row and column, starting at each of `origins` (row, column).
 * @typedef {{stride: number, origins: [number, number][]}} Phase
 */
/** @typedef {import("../format/layout.js").InnerEdges} InnerEdges */

/**
 * The positions of a phase in coding order: indices in a plane, and in a padded plane.
 *
 * At inner edges the margin repeats the nearest known value: `margins`[2 n] is copied from `margins`[2 n + 1].
 * @typedef {{plane: Int32Array, padded: Int32Array, margins: Int32Array}} Positions
 */

/**
 * Return the passes that have positions in a grid, with their numbers.
 * @template {Phase} P
 * @param {P[]} passes
 * @param {Grid} grid
 */
export function nonEmptyPasses(passes, grid) {
  return passes.flatMap((codingPass, number) => (grid.count(codingPass) ? [{ codingPass, number }] : []));
}

/**
 * Return the number of symbols of a pass.
 * @param {Phase & {channels: [first: number, end: number]}} codingPass
 * @param {Grid} grid
 */
export function countSymbols(codingPass, grid) {
  return (codingPass.channels[1] - codingPass.channels[0]) * grid.count(codingPass);
}

/** The positions of phases in a plane. Each phase is computed once. */
export class Grid {
  /**
   * @param {number} height
   * @param {number} width
   * @param {InnerEdges} inner
   */
  constructor(height, width, inner) {
    this.height = height;
    this.width = width;
    this.inner = inner;
    /** Row pitch and number of elements of a padded plane. */
    this.pitch = width + 2 * MARGIN;
    this.paddedSize = (height + 2 * MARGIN) * this.pitch;
    /** @type {Map<string, Positions>} */
    this._cache = new Map();
  }

  /**
   * @param {Phase} phase
   * @returns {Positions}
   */
  positions(phase) {
    const key = `${phase.stride}:${phase.origins.join(";")}`;
    const positions = this._cache.get(key) ?? this._find(phase);
    this._cache.set(key, positions);
    return positions;
  }

  /**
   * Return the number of positions of a phase.
   * @param {Phase} phase
   */
  count(phase) {
    return this.positions(phase).plane.length;
  }

  /**
   * @param {Phase} phase
   * @returns {Positions}
   */
  _find({ stride, origins }) {
    /** @type {number[]} */
    const plane = [], padded = [], margins = [];
    const { height, width, inner } = this;
    for (const [top, left] of origins) {
      if (top >= height || left >= width) continue;
      const rows = along(top, stride, height, inner.top, inner.bottom);
      const columns = along(left, stride, width, inner.left, inner.right);
      for (const row of rows) {
        for (const column of columns) {
          if (row.at === row.nearest && column.at === column.nearest) {
            plane.push(row.at * width + column.at);
            padded.push(this._padded(row.at, column.at));
          } else {
            margins.push(this._padded(row.at, column.at), this._padded(row.nearest, column.nearest));
          }
        }
      }
    }
    return { plane: Int32Array.from(plane), padded: Int32Array.from(padded), margins: Int32Array.from(margins) };
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  _padded(row, column) {
    return (row + MARGIN) * this.pitch + column + MARGIN;
  }
}

/**
 * Return the rows or columns of a phase along a side, including the margin at inner edges, each with the nearest
 * position inside the plane.
 * @param {number} first below `length`
 * @param {number} stride
 * @param {number} length
 * @param {boolean} before whether the first edge is an inner edge
 * @param {boolean} behind whether the last edge is an inner edge
 */
function along(first, stride, length, before, behind) {
  const last = first + Math.floor((length - 1 - first) / stride) * stride;
  const end = length + (behind ? MARGIN : 0);
  const coordinates = [];
  let at = first;
  if (before) while (at - stride >= -MARGIN) at -= stride;
  for (; at < end; at += stride) coordinates.push({ at, nearest: Math.min(Math.max(at, first), last) });
  return coordinates;
}
