/** A tile's residual: a stream of coefficients, in blocks of 8 x 8 pixels, to what is added to pixels. */

import { arrayNamed } from "../assets/npz.js";
import { Reader } from "../entropy/ans.js";
import { readSymbols, tablesOf } from "../entropy/tables.js";
import { need } from "../error.js";
import { Blocks, EDGES, EXTENTS, GROUPS } from "./residual_contexts.js";
import { AXES, BANDS, BLOCK, VALUE_LIMIT, residualOf } from "./transform.js";

/** @typedef {import("./residual_contexts.js").Part} Part */

/**
 * Tables of entries, and for each of them the low bits and the points of entries; weights and offsets of scores.
 * @typedef {{tables: import("../entropy/tables.js").Tables, lowBits: Uint8Array, points: Int8Array, weights: Int32Array,
 *   offsets: Int32Array}} ResidualPrior
 */

// Each band's vertical and horizontal frequency, by their sum, then by the vertical one.
const FREQUENCIES = Array.from({ length: BANDS }, (_, n) => ({ u: n >> 3, v: n & 7 }))
  .sort((a, b) => a.u + a.v - b.u - b.v || a.u - b.u);
const PLACES = FREQUENCIES.map(({ u, v }) => BLOCK * u + v);
// How much coarser steps are than that of the first band, in 1/32.
const WEIGHTS = [2, 3, 2].map((factor) => FREQUENCIES.map(({ u, v }) => factor * (16 + u + v)));

/**
 * Return the prior of residuals from the arrays of its file.
 * @param {import("../assets/npz.js").Arrays} arrays
 * @returns {ResidualPrior}
 * @throws {import("../error.js").BundleError} if one is missing
 */
export function residualPriorOf(arrays) {
  const values = (/** @type {string} */ name) => arrayNamed(arrays, name).values;
  return {
    tables: tablesOf(arrayNamed(arrays, "tables")),
    lowBits: Uint8Array.from(values("low_bits")),
    points: Int8Array.from(values("points")),
    weights: Int32Array.from(values("weights")),
    offsets: Int32Array.from(values("offsets")),
  };
}

/**
 * Return the residual of a tile, (height, width, RGB), in levels.
 * @param {Uint8Array} segment
 * @param {number} height in pixels
 * @param {number} width
 * @param {number} step in 1/16 level
 * @param {ResidualPrior} prior
 * @throws {import("../error.js").FormatError} if the segment is not one of that size
 */
export function decodeResidual(segment, height, width, step, prior) {
  const rows = Math.ceil(height / BLOCK), columns = Math.ceil(width / BLOCK);
  const stream = new ResidualStream(segment, new Blocks(rows, columns, prior), prior);
  stream.readExtents();
  const values = new Int32Array(AXES * rows * columns * BANDS);
  for (let axis = 0; axis < AXES; axis++) {
    for (let group = 0; group < GROUPS; group++) {
      for (const half of [0, 1]) stream.readGroup(axis, group, half, step, values);
    }
  }
  stream.requireEnd();
  return residualOf(values, height, width);
}

/** Reads the passes of a stream. */
class ResidualStream {
  /**
   * @param {Uint8Array} segment
   * @param {Blocks} blocks
   * @param {ResidualPrior} prior
   */
  constructor(segment, blocks, prior) {
    this._reader = new Reader(segment);
    this._blocks = blocks;
    this._prior = prior;
    const largest = blocks.rows * blocks.columns * (EDGES[GROUPS] - EDGES[GROUPS - 1]);
    this._rows = new Uint16Array(largest);
    this._lowBits = new Uint8Array(largest);
    this._entries = new Uint8Array(largest);
    this._symbols = new Int32Array(largest);
  }

  readExtents() {
    const blocks = this._blocks;
    const thirds = [
      blocks.where((row, column) => ((row | column) & 1) === 0),
      blocks.where((row, column) => (row & column & 1) === 1),
      blocks.where((row, column) => ((row ^ column) & 1) === 1),
    ];
    for (let axis = 0; axis < AXES; axis++) {
      thirds.forEach((part, third) => {
        blocks.findExtents(axis, third, part, this._rows);
        this._reader.entries(this._prior.tables, this._rows, part.framed.length, this._entries);
        part.framed.forEach((at, n) => {
          need(this._entries[n] < EXTENTS, "damaged residual: an extent is out of range");
          blocks.extents[axis][at] = this._entries[n];
        });
      });
    }
  }

  /**
   * @param {number} axis
   * @param {number} group
   * @param {number} half 0 for blocks whose row and column have an even sum, 1 for others
   * @param {number} step
   * @param {Int32Array} values where to put what symbols mean
   */
  readGroup(axis, group, half, step, values) {
    const blocks = this._blocks, extents = blocks.extents[axis], { tables, lowBits } = this._prior;
    const part = blocks.where((row, column, at) => ((row ^ column) & 1) === half && extents[at] > group);
    const count = part.plain.length * (EDGES[group + 1] - EDGES[group]);
    blocks.find(axis, group, half, part, this._rows);
    for (let n = 0; n < count; n++) this._lowBits[n] = lowBits[this._rows[n]];
    const contexts = { count, rows: this._rows, bases: null, lowBits: this._lowBits };
    readSymbols(this._reader, tables, contexts, this._entries, this._symbols);
    blocks.put(axis, group, part, this._symbols);
    this._putValues(axis, group, part, step, values);
  }

  /**
   * @param {number} axis
   * @param {number} group
   * @param {Part} part
   * @param {number} step
   * @param {Int32Array} values
   */
  _putValues(axis, group, { plain }, step, values) {
    const { points, tables } = this._prior, start = axis * this._blocks.rows * this._blocks.columns;
    for (let band = EDGES[group], n = 0; band < EDGES[group + 1]; band++) {
      const factor = step * WEIGHTS[axis][band], place = PLACES[band];
      for (let k = 0; k < plain.length; k++, n++) {
        const fine = 64 * this._symbols[n] + points[this._rows[n] * tables.entries + this._entries[n]];
        // Up to 2^45, which is exact, where 32 bits would not do.
        const value = Math.floor((fine * factor + 1024) / 2048);
        values[(start + plain[k]) * BANDS + place] = Math.min(Math.max(value, -VALUE_LIMIT), VALUE_LIMIT);
      }
    }
  }

  requireEnd() {
    need(this._reader.isAtEnd, "damaged residual: data left over after the last symbol");
  }
}
