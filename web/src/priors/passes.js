/**
 * The order in which symbols are coded: passes over channels and interleaved subsets of the plane. `docs/format.md`,
 * section 3.3.
 *
 * Planes of what is known have a margin around them, as far as passes look.
 */

/** How far passes look beyond a plane. */
export const MARGIN = 4;

/**
 * A subset of the plane: every `stride`-th row and column from each of `origins`, (row, column).
 * @typedef {{stride: number, origins: [number, number][]}} Phase
 */
/** @typedef {import("../format/layout.js").Inner} Inner */

/**
 * The positions of a phase in their order: where they are in a plane, and in one with a margin.
 *
 * What lies in the margin beyond inner edges takes the place `margins`[2 n] from `margins`[2 n + 1].
 * @typedef {{plane: Int32Array, padded: Int32Array, margins: Int32Array}} Positions
 */

/** Finds the positions of phases in a plane of so many latents, each once. */
export class Grid {
  /**
   * @param {number} height
   * @param {number} width
   * @param {Inner} inner
   */
  constructor(height, width, inner) {
    this.height = height;
    this.width = width;
    this.inner = inner;
    /** How far rows are apart in planes with a margin, and how many elements those have. */
    this.pitch = width + 2 * MARGIN;
    this.paddedSize = (height + 2 * MARGIN) * this.pitch;
    /** @type {Map<string, Positions>} */
    this._known = new Map();
  }

  /**
   * @param {Phase} phase
   * @returns {Positions}
   */
  positions(phase) {
    const key = `${phase.stride}:${phase.origins.join(";")}`;
    const known = this._known.get(key) ?? this._find(phase);
    this._known.set(key, known);
    return known;
  }

  /**
   * Return how many positions a phase has.
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
 * Return the rows or columns of a phase along a side, those in the margin beyond inner edges too, each with the nearest
 * that lies inside.
 * @param {number} first below `length`
 * @param {number} stride
 * @param {number} length
 * @param {boolean} before whether the edge before the first lies within the picture
 * @param {boolean} behind
 */
function along(first, stride, length, before, behind) {
  const last = first + Math.floor((length - 1 - first) / stride) * stride;
  const end = length + (behind ? MARGIN : 0);
  const found = [];
  let at = first;
  if (before) while (at - stride >= -MARGIN) at -= stride;
  for (; at < end; at += stride) found.push({ at, nearest: Math.min(Math.max(at, first), last) });
  return found;
}
