/**
 * Decodes a tile's stream, pass by pass; each pass takes its contexts from the passes before it. `stream_encoder.js` is
 * the inverse. Both together are `engine/coding/stream_codec.py`.
 */

import { AnsDecoder } from "../entropy/ans.js";
import { LOW_BITS, readSymbols } from "../entropy/tables.js";
import { need } from "../error.js";
import { Grid, countSymbols, nonEmptyPasses } from "../priors/passes.js";

const OFFSET_UNITS = 64; // offsets are in 1/64 step
const LATENT_LIMIT = OFFSET_UNITS << 15;

/** @typedef {import("../format/layout.js").InnerEdges} InnerEdges */
/** @typedef {import("../priors/adaptive.js").AdaptivePrior} AdaptivePrior */
/** @typedef {import("../priors/network_prior.js").NetworkPrior} NetworkPrior */
/** @typedef {AdaptivePrior | NetworkPrior} Prior */

/**
 * Symbols of a tile, (channels, height, width), and the offset of each latent from its symbol, in 1/64 step. The
 * offsets are null if the prior defines none.
 * @typedef {{symbols: Int16Array, reconOffsets: Int32Array | null}} DecodedStream
 */

/**
 * The levels of a stream.
 *
 * - `wordsRemaining`: words after the end of each level but the last
 * - `hasMore`: whether levels that are not decoded have any data
 * - `maybeTruncated`: whether the stream may be cut short. Missing data reads as zeros, so the last pass must be known
 *   to
 * be complete. This is unknown for a stream of less than a word.
 * @typedef {{wordsRemaining: number[], hasMore: boolean, maybeTruncated: boolean}} Levels
 */

/**
 * Decode a stream.
 * @param {Uint8Array} data
 * @param {number} height of the tile, in latents
 * @param {number} width
 * @param {Prior} prior
 * @param {number} stepCode
 * @param {InnerEdges} inner
 * @param {Levels} levels
 * @param {number} [end] number of the prior's passes to read (default: all). Symbols of later passes are 0.
 * @returns {DecodedStream}
 * @throws {import("../error.js").FormatError} if it is not a valid stream of that size. With `end`, only damage before
 *   it is found.
 */
export function decodeStream(data, height, width, prior, stepCode, inner, levels, end = prior.passes.length) {
  const reader = new AnsDecoder(data), grid = new Grid(height, width, inner);
  const symbols = new Int16Array(prior.order.length * height * width);
  const reconOffsets = prior.hasReconOffsets ? new Int32Array(symbols.length) : null;
  const nonEmpty = nonEmptyPasses(prior.passes, grid);
  let isZero = false, wasExhausted = reader.isExhausted;
  const count = reader.raw(32 - Math.clz32(nonEmpty.length));
  need(count <= nonEmpty.length, `damaged stream: ${count} passes, expected at most ${nonEmpty.length}`);
  const largest = Math.max(0, ...nonEmpty.map(({ codingPass }) => countSymbols(codingPass, grid)));
  const contexts = prior.contexts(grid, stepCode), pass = new PassReader(reader, prior.tables, largest);
  const ends = levels.wordsRemaining.map((wordsRemaining, n) => ({ cut: prior.cuts[n], wordsRemaining }));
  /** @param {number} number of the next pass */
  const requireEnds = (number) => {
    while (ends.length > 0 && ends[0].cut <= number) {
      const isAtEnd = reader.wordsRemaining === ends.shift()?.wordsRemaining;
      need(isAtEnd, "damaged stream: a level does not end with its last pass");
    }
  };
  for (const [n, { codingPass, number }] of nonEmpty.entries()) {
    const isInStream = n < count;
    if (number >= end) break;
    if (!isInStream && !codingPass.predicted) continue;
    const { plane } = grid.positions(codingPass), size = countSymbols(codingPass, grid);
    contexts.find(number, pass.locations, pass.scales, pass.origins);
    if (isInStream) {
      requireEnds(number);
      wasExhausted = reader.isExhausted;
      pass.read(size);
    } else {
      pass.symbols.fill(0);
    }
    contexts.put(number, pass.symbols, pass.origins);
    pass.putInto({ symbols, reconOffsets, size: height * width }, prior, codingPass, plane, isInStream);
    if (isInStream) isZero = pass.symbols.subarray(0, size).every((symbol) => symbol === 0);
  }
  requireEnds(end);
  need(!levels.hasMore || !reader.isExhausted, "damaged stream: a level ends before its last pass");
  need(end < prior.passes.length || reader.isAtEnd, "damaged stream: unread data after the last symbol");
  need(!levels.maybeTruncated || !wasExhausted, "damaged stream: it may end before its last pass");
  need(end < prior.passes.length || !isZero, "damaged stream: its last pass has only zeros");
  return { symbols, reconOffsets };
}

/** Reads the symbols of passes. */
export class PassReader {
  /**
   * @param {AnsDecoder} reader
   * @param {import("../entropy/tables.js").Tables} tables
   * @param {number} largest maximum number of symbols in a pass
   */
  constructor(reader, tables, largest) {
    this._reader = reader;
    this._tables = tables;
    /** Contexts of the symbols; set them before `read`. */
    this.locations = new Int16Array(largest);
    this.scales = new Uint8Array(largest);
    this.origins = new Int32Array(largest);
    this.symbols = new Int32Array(largest);
    this._bins = new Uint8Array(largest);
    this._rows = new Uint16Array(largest);
    this._bases = new Int32Array(largest);
    this._lowBits = new Uint8Array(largest);
  }

  /** @param {number} count number of symbols */
  read(count) {
    const { locations, scales, _rows: rows, _bases: bases, _lowBits: lowBits } = this;
    for (let n = 0; n < count; n++) {
      const scale = scales[n];
      rows[n] = scale * 8 + (locations[n] & 7);
      bases[n] = locations[n] >> 3;
      lowBits[n] = LOW_BITS[scale];
    }
    readSymbols(this._reader, this._tables, { count, rows, bases, lowBits }, this._bins, this.symbols);
  }

  /**
   * Store the symbols of a pass in a tile.
   * @param {DecodedStream & {size: number}} tile with the number of positions in a channel
   * @param {Prior} prior
   * @param {Prior["passes"][number]} codingPass
   * @param {Int32Array} plane positions of the pass in a channel
   * @param {boolean} wasRead whether the symbols were read; predicted symbols have no centroid
   */
  putInto({ symbols, reconOffsets, size }, { order, centroids }, codingPass, plane, wasRead) {
    const { channels: [first, end], predicted, spacing } = codingPass;
    const { numBins } = this._tables, hasCentroid = wasRead && centroids;
    for (let channel = first, n = 0; channel < end; channel++) {
      const at = order[channel] * size;
      for (let k = 0; k < plane.length; k++, n++) {
        const symbol = this.symbols[n], centroid = hasCentroid ? centroids[this._rows[n] * numBins + this._bins[n]] : 0;
        symbols[at + plane[k]] = symbol;
        if (!reconOffsets) continue;
        const origin = this.origins[n];
        reconOffsets[at + plane[k]] = predicted ? reconOffset(symbol, centroid, origin, spacing) : centroid;
      }
    }
  }
}

/**
 * Return the offset of a predicted latent from its symbol, in 1/64 step.
 * @param {number} symbol
 * @param {number} centroid offset within the symbol's interval, in 1/64 symbol
 * @param {number} origin the predicted latent, in 1/64 step
 * @param {number} spacing distance of two symbols, in 1/64 step
 */
function reconOffset(symbol, centroid, origin, spacing) {
  const latent = origin + (((OFFSET_UNITS * symbol + centroid) * spacing) >> 6); // OFFSET_UNITS is 2^6
  return Math.min(Math.max(latent, -LATENT_LIMIT), LATENT_LIMIT - OFFSET_UNITS) - OFFSET_UNITS * symbol;
}
