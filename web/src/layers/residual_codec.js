/** Decodes a tile's residual: a stream of DCT coefficients in blocks of 8 x 8 pixels. */

import { arrayNamed } from "../assets/npz.js";
import { AnsDecoder } from "../entropy/ans.js";
import { buildTables, readSymbols } from "../entropy/tables.js";
import { need } from "../error.js";
import { AXES, BANDS, BLOCK, VALUE_LIMIT, inverseDct } from "./dct.js";
import { BlockContexts, EDGES, EXTENTS, GROUPS } from "./residual_contexts.js";

/** @typedef {import("./residual_contexts.js").BlockSet} BlockSet */

/**
 * Trained tables of the residual. Each table has its number of low bits and the reconstruction offsets of its bins.
 * `weights` and `offsets` belong to the scores that select a table.
 * @typedef {{tables: import("../entropy/tables.js").Tables, lowBits: Uint8Array, reconOffsets: Int8Array, weights:
 *   Int32Array, offsets: Int32Array}} ResidualTables
 */

// Vertical and horizontal frequency of each band, sorted by their sum, then by the vertical one.
const FREQUENCIES = Array.from({ length: BANDS }, (_, n) => ({ u: n >> 3, v: n & 7 }))
  .sort((a, b) => a.u + a.v - b.u - b.v || a.u - b.u);
const ZIGZAG = FREQUENCIES.map(({ u, v }) => BLOCK * u + v);
// Quantization step of each band in 1/32 of the step of the residual, by colour axis.
const QUANT_MATRIX = [2, 3, 2].map((factor) => FREQUENCIES.map(({ u, v }) => factor * (16 + u + v)));

/**
 * Build the residual tables from the arrays of their file.
 * @param {import("../assets/npz.js").Arrays} arrays
 * @returns {ResidualTables}
 * @throws {import("../error.js").BundleError} if an array is missing
 */
export function buildResidualTables(arrays) {
  const values = (/** @type {string} */ name) => arrayNamed(arrays, name).values;
  return {
    tables: buildTables(arrayNamed(arrays, "tables")),
    lowBits: Uint8Array.from(values("low_bits")),
    reconOffsets: Int8Array.from(values("points")),
    weights: Int32Array.from(values("weights")),
    offsets: Int32Array.from(values("offsets")),
  };
}

/**
 * Decode the residual of a tile, (height, width, RGB), in levels.
 * @param {Uint8Array} segment
 * @param {number} height in pixels
 * @param {number} width
 * @param {number} quantStep in 1/16 level
 * @param {ResidualTables} prior
 * @throws {import("../error.js").FormatError} if the segment is not a residual of that size
 */
export function decodeResidual(segment, height, width, quantStep, prior) {
  const rows = Math.ceil(height / BLOCK), columns = Math.ceil(width / BLOCK);
  const stream = new ResidualStream(segment, new BlockContexts(rows, columns, prior), prior);
  stream.readExtents();
  const values = new Int32Array(AXES * rows * columns * BANDS);
  for (let axis = 0; axis < AXES; axis++) {
    for (let group = 0; group < GROUPS; group++) {
      for (const half of [0, 1]) stream.readGroup(axis, group, half, quantStep, values);
    }
  }
  stream.requireEnd();
  return inverseDct(values, height, width);
}

/** Reads the passes of a residual stream. */
class ResidualStream {
  /**
   * @param {Uint8Array} segment
   * @param {BlockContexts} blocks
   * @param {ResidualTables} prior
   */
  constructor(segment, blocks, prior) {
    this._reader = new AnsDecoder(segment);
    this._blocks = blocks;
    this._prior = prior;
    const largest = blocks.rows * blocks.columns * (EDGES[GROUPS] - EDGES[GROUPS - 1]);
    this._rows = new Uint16Array(largest);
    this._lowBits = new Uint8Array(largest);
    this._bins = new Uint8Array(largest);
    this._symbols = new Int32Array(largest);
  }

  readExtents() {
    const blocks = this._blocks;
    const phases = [
      blocks.where((row, column) => ((row | column) & 1) === 0),
      blocks.where((row, column) => (row & column & 1) === 1),
      blocks.where((row, column) => ((row ^ column) & 1) === 1),
    ];
    for (let axis = 0; axis < AXES; axis++) {
      phases.forEach((part, phase) => {
        blocks.findExtentRows(axis, phase, part, this._rows);
        this._reader.readBins(this._prior.tables, this._rows, part.framed.length, this._bins);
        part.framed.forEach((at, n) => {
          need(this._bins[n] < EXTENTS, "damaged residual: an extent is out of range");
          blocks.extents[axis][at] = this._bins[n];
        });
      });
    }
  }

  /**
   * Read the coefficients of a group of bands in half of the blocks.
   * @param {number} axis
   * @param {number} group
   * @param {number} half 0 for blocks with an even sum of row and column, 1 for the others
   * @param {number} quantStep
   * @param {Int32Array} values receives the dequantized coefficients
   */
  readGroup(axis, group, half, quantStep, values) {
    const blocks = this._blocks, extents = blocks.extents[axis], { tables, lowBits } = this._prior;
    const part = blocks.where((row, column, at) => ((row ^ column) & 1) === half && extents[at] > group);
    const count = part.plain.length * (EDGES[group + 1] - EDGES[group]);
    blocks.find(axis, group, half, part, this._rows);
    for (let n = 0; n < count; n++) this._lowBits[n] = lowBits[this._rows[n]];
    const contexts = { count, rows: this._rows, bases: null, lowBits: this._lowBits };
    readSymbols(this._reader, tables, contexts, this._bins, this._symbols);
    blocks.put(axis, group, part, this._symbols);
    this._putValues(axis, group, part, quantStep, values);
  }

  /**
   * @param {number} axis
   * @param {number} group
   * @param {BlockSet} part
   * @param {number} quantStep
   * @param {Int32Array} values
   */
  _putValues(axis, group, { plain }, quantStep, values) {
    const { reconOffsets, tables } = this._prior, start = axis * this._blocks.rows * this._blocks.columns;
    for (let band = EDGES[group], n = 0; band < EDGES[group + 1]; band++) {
      const factor = quantStep * QUANT_MATRIX[axis][band], place = ZIGZAG[band];
      for (let k = 0; k < plain.length; k++, n++) {
        const fine = 64 * this._symbols[n] + reconOffsets[this._rows[n] * tables.numBins + this._bins[n]];
        // The product reaches 2^45: exact in a double, too large for 32 bits.
        const value = Math.floor((fine * factor + 1024) / 2048);
        values[(start + plain[k]) * BANDS + place] = Math.min(Math.max(value, -VALUE_LIMIT), VALUE_LIMIT);
      }
    }
  }

  requireEnd() {
    need(this._reader.isAtEnd, "damaged residual: unread data after the last symbol");
  }
}
