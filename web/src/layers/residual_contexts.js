/**
 * Contexts of the residual: the known coefficients of a tile, and the tables that they select. `docs/format.md`,
 * section
 */

import { AXES, BANDS } from "./dct.js";

/** @typedef {import("./residual_codec.js").ResidualTables} ResidualTables */

/** Number of groups of bands; the first band of each group, and the end of the last. */
export const GROUPS = 8, EDGES = [0, 1, 3, 6, 10, 21, 36, 49, 64];
/** Number of extents. The extent of a block is its number of coded groups. */
export const EXTENTS = 9;

const EXTENT_ROWS = 3 * 3 * EXTENTS * EXTENTS, BINS = 24, SCORE_SHIFT = 10, FEATURES = 12, MAX_SUM = 255;

// 16 * log2(1 + n), rounded, at most 127.
const MAGNITUDE = Uint8Array.from({ length: 256 }, (_, n) => Math.min(Math.round(16 * Math.log2(1 + n)), 127));

/**
 * The blocks of a pass: their indices row by row (`plain`), and in planes with a margin of one block (`framed`).
 * @typedef {{plain: Int32Array, framed: Int32Array}} BlockSet
 */

/** The known symbols of a tile's blocks, from which contexts are computed. */
export class BlockContexts {
  /**
   * @param {number} rows
   * @param {number} columns
   * @param {ResidualTables} prior
   */
  constructor(rows, columns, prior) {
    this.rows = rows;
    this.columns = columns;
    this._prior = prior;
    const pitch = (this._pitch = columns + 2), size = (rows + 2) * pitch;
    const planes = (/** @type {number} */ count) => Array.from({ length: count }, () => new Uint8Array(size));
    this.extents = planes(AXES);
    /** Sums of magnitudes, by axis and group. */
    this._sums = Array.from({ length: AXES }, () => planes(GROUPS));
    /** Sums of magnitudes over all known groups, by axis. */
    this._totals = Array.from({ length: AXES }, () => new Int16Array(size));
    /** Compressed magnitudes of the first axis, block by block. */
    this._brightness = new Uint8Array(rows * columns * BANDS);
    this._inside = new Uint8Array(size);
    for (const at of this.where(() => true).framed) this._inside[at] = 1;
  }

  /**
   * Return the blocks that satisfy a condition.
   * @param {(row: number, column: number, framed: number) => boolean} condition
   * @returns {BlockSet}
   */
  where(condition) {
    const plain = new Int32Array(this.rows * this.columns), framed = new Int32Array(plain.length);
    let count = 0;
    for (let row = 0; row < this.rows; row++) {
      for (let column = 0; column < this.columns; column++) {
        const at = (row + 1) * this._pitch + column + 1;
        if (!condition(row, column, at)) continue;
        plain[count] = row * this.columns + column;
        framed[count++] = at;
      }
    }
    return { plain: plain.subarray(0, count), framed: framed.subarray(0, count) };
  }

  /**
   * Find the tables of the extents.
   * @param {number} axis
   * @param {number} phase 0 … 2
   * @param {BlockSet} part
   * @param {Uint16Array} rows receives the numbers of the tables
   */
  findExtentRows(axis, phase, { framed }, rows) {
    const extents = this.extents[axis], neighbourSum = [none, diagonalSum, directSum][phase];
    for (let n = 0; n < framed.length; n++) {
      const at = framed[n], count = Math.max(neighbourSum(this._inside, at, this._pitch), 1);
      const mean = Math.floor((neighbourSum(extents, at, this._pitch) + (count >> 1)) / count);
      const below = axis ? this.extents[axis - 1][at] : 0;
      rows[n] = ((3 * axis + phase) * EXTENTS + mean) * EXTENTS + below;
    }
  }

  /**
   * Find the tables of a group's symbols, band by band, block by block.
   * @param {number} axis
   * @param {number} group
   * @param {number} half 0 or 1
   * @param {BlockSet} part
   * @param {Uint16Array} rows receives the numbers of the tables
   */
  find(axis, group, half, { plain, framed }, rows) {
    const { weights, offsets } = this._prior, count = plain.length, first = EDGES[group], end = EDGES[group + 1];
    const start = ((axis * GROUPS + group) * 2 + half) * FEATURES, own = weights.subarray(start, start + FEATURES);
    const base = EXTENT_ROWS + (axis * GROUPS + group) * BINS;
    for (let n = 0; n < count; n++) {
      const common = this._score(own, axis, group, half, framed[n]), brightness = plain[n] * BANDS;
      for (let band = first, at = n; band < end; band++, at += count) {
        let score = common + offsets[(2 * axis + half) * BANDS + band];
        if (axis) score += own[FEATURES - 1] * this._brightness[brightness + band];
        rows[at] = base + Math.min(Math.max(score >> SCORE_SHIFT, 0), BINS - 1);
      }
    }
  }

  /**
   * Store the symbols of a group, in the order of `find`.
   * @param {number} axis
   * @param {number} group
   * @param {BlockSet} part
   * @param {Int32Array} symbols
   */
  put(axis, group, { plain, framed }, symbols) {
    const count = plain.length, first = EDGES[group], end = EDGES[group + 1];
    for (let n = 0; n < count; n++) {
      let sum = 0;
      for (let band = first, at = n; band < end; band++, at += count) {
        const magnitude = Math.abs(symbols[at]);
        sum += magnitude;
        if (axis === 0) this._brightness[plain[n] * BANDS + band] = compressed(magnitude);
      }
      sum = Math.min(sum, MAX_SUM);
      this._sums[axis][group][framed[n]] = sum;
      this._totals[axis][framed[n]] += sum;
    }
  }

  /**
   * Return the score of a block: the part that all bands of a group share.
   * @param {Int32Array} weights
   * @param {number} axis
   * @param {number} group
   * @param {number} half
   * @param {number} at index of the block, framed
   */
  _score(weights, axis, group, half, at) {
    const pitch = this._pitch, sums = this._sums[axis], totals = this._totals[axis], extents = this.extents[axis];
    let score = weights[2] * compressed(totals[at]) + weights[6] * compressed(directSum(totals, at, pitch))
      + weights[9] * 16 * extents[at] + weights[10] * 4 * directSum(extents, at, pitch);
    if (group > 0) {
      const before = sums[group - 1];
      score += weights[0] * compressed(before[at]) + weights[4] * compressed(directSum(before, at, pitch))
        + weights[5] * compressed(diagonalSum(before, at, pitch));
    }
    if (group > 1) score += weights[1] * compressed(sums[group - 2][at]);
    if (half) score += weights[3] * compressed(directSum(sums[group], at, pitch));
    if (axis > 0) score += weights[7] * compressed(this._sums[0][group][at]);
    if (axis > 1) score += weights[8] * compressed(this._sums[1][group][at]);
    return score;
  }
}

/** @param {number} sum of magnitudes */
function compressed(sum) {
  return MAGNITUDE[Math.min(sum, MAX_SUM)];
}

function none() {
  return 0;
}

/**
 * Return the sum over the four direct neighbours of a block.
 * @param {Uint8Array | Int16Array} plane
 * @param {number} at
 * @param {number} pitch
 */
function directSum(plane, at, pitch) {
  return plane[at - 1] + plane[at + 1] + plane[at - pitch] + plane[at + pitch];
}

/**
 * Return the sum over the four diagonal neighbours of a block.
 * @param {Uint8Array | Int16Array} plane
 * @param {number} at
 * @param {number} pitch
 */
function diagonalSum(plane, at, pitch) {
  return plane[at - pitch - 1] + plane[at - pitch + 1] + plane[at + pitch - 1] + plane[at + pitch + 1];
}
