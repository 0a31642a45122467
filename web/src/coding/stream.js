/** A tile's stream to its symbols: passes of a prior, each by the contexts that it finds in those before. */

import { Reader } from "../entropy/ans.js";
import { LOW_BITS, readSymbols } from "../entropy/tables.js";
import { need } from "../error.js";
import { Grid } from "../priors/passes.js";

const STEP = 64, LATENT_LIMIT = STEP << 15; // in 1/64 step

/** @typedef {import("../format/layout.js").Inner} Inner */
/** @typedef {import("../priors/adaptive.js").AdaptivePrior | import("../priors/prior.js").NetworkPrior} Prior */

/**
 * Symbols of a tile, (channels, height, width), and where in each one's interval its latent is, in 1/64 step; null if
 * the prior does not tell.
 * @typedef {{symbols: Int16Array, points: Int32Array | null}} Decoded
 */

/**
 * What is known of a stream's levels: how many words must be left where each but the last ends, whether those that are
 * not there hold any, and whether it may be cut short: what is missing reads as zeros, so its last pass must be known to
 * be there, which is not known of one of less than a word.
 * @typedef {{left: number[], isMore: boolean, isDoubted: boolean}} Levels
 */

/**
 * Return what a stream holds.
 * @param {Uint8Array} data
 * @param {number} height of the tile, in latents
 * @param {number} width
 * @param {Prior} prior
 * @param {number} stepCode
 * @param {Inner} inner
 * @param {Levels} levels
 * @param {number} [end] how many of the prior's passes to read; symbols of the others are 0
 * @returns {Decoded}
 * @throws {import("../error.js").FormatError} if it is not a stream of that size; of a part, only if that is damaged
 */
export function decodeStream(data, height, width, prior, stepCode, inner, levels, end = prior.passes.length) {
  const reader = new Reader(data), grid = new Grid(height, width, inner);
  const symbols = new Int16Array(prior.order.length * height * width);
  const points = prior.hasPoints ? new Int32Array(symbols.length) : null;
  const present = prior.passes.flatMap((step, number) => (grid.count(step) ? [{ step, number }] : []));
  let isZero = false, isDry = reader.ranDry;
  const count = reader.raw(32 - Math.clz32(present.length));
  need(count <= present.length, `damaged stream: it tells of ${count} passes, there are ${present.length}`);
  const largest = Math.max(0, ...present.map(({ step }) => grid.count(step) * (step.channels[1] - step.channels[0])));
  const contexts = prior.contexts(grid, stepCode), pass = new PassReader(reader, prior.tables, largest);
  const ends = levels.left.map((left, n) => ({ cut: prior.cuts[n], left }));
  /** @param {number} number of the pass that is next */
  const requireEnds = (number) => {
    while (ends.length > 0 && ends[0].cut <= number) {
      const isThere = reader.left === ends.shift()?.left;
      need(isThere, "damaged stream: a level does not end where its last pass does");
    }
  };
  for (const [n, { step, number }] of present.entries()) {
    const isHeld = n < count;
    if (number >= end) break;
    if (!isHeld && !step.predicted) continue;
    const { plane } = grid.positions(step), size = (step.channels[1] - step.channels[0]) * plane.length;
    contexts.find(number, pass.locations, pass.scales, pass.origins);
    if (isHeld) {
      requireEnds(number);
      isDry = reader.ranDry;
      pass.read(size);
    } else {
      pass.symbols.fill(0);
    }
    contexts.put(number, pass.symbols, pass.origins);
    pass.putInto({ symbols, points, size: height * width }, prior, step, plane, isHeld);
    if (isHeld) isZero = pass.symbols.subarray(0, size).every((symbol) => symbol === 0);
  }
  requireEnds(end);
  need(!levels.isMore || !reader.ranDry, "damaged stream: a level ends before its last pass");
  need(end < prior.passes.length || reader.isAtEnd, "damaged stream: data left over after the last symbol");
  need(!levels.isDoubted || !isDry, "damaged stream: it may end before its last pass");
  need(end < prior.passes.length || !isZero, "damaged stream: its last pass holds zeros alone");
  return { symbols, points };
}

/** Reads passes of at most so many symbols, each at its location and scale. */
export class PassReader {
  /**
   * @param {Reader} reader
   * @param {import("../entropy/tables.js").Tables} tables
   * @param {number} largest
   */
  constructor(reader, tables, largest) {
    this._reader = reader;
    this._tables = tables;
    /** Contexts, to be set before `read`. */
    this.locations = new Int16Array(largest);
    this.scales = new Uint8Array(largest);
    this.origins = new Int32Array(largest);
    this.symbols = new Int32Array(largest);
    this._entries = new Uint8Array(largest);
    this._rows = new Uint16Array(largest);
    this._bases = new Int32Array(largest);
    this._lowBits = new Uint8Array(largest);
  }

  /** @param {number} count of symbols */
  read(count) {
    const { locations, scales, _rows: rows, _bases: bases, _lowBits: lowBits } = this;
    for (let n = 0; n < count; n++) {
      const scale = scales[n];
      rows[n] = scale * 8 + (locations[n] & 7);
      bases[n] = locations[n] >> 3;
      lowBits[n] = LOW_BITS[scale];
    }
    readSymbols(this._reader, this._tables, { count, rows, bases, lowBits }, this._entries, this.symbols);
  }

  /**
   * Put a pass into a tile at some positions.
   * @param {Decoded & {size: number}} tile with the size of a channel
   * @param {Prior} prior
   * @param {Prior["passes"][number]} step
   * @param {Int32Array} plane
   * @param {boolean} isThere whether symbols were read, not expected
   */
  putInto({ symbols, points, size }, { order, centroids }, { channels: [first, end], predicted, spacing }, plane, isThere) {
    const { entries } = this._tables, isTold = isThere && centroids;
    for (let channel = first, n = 0; channel < end; channel++) {
      const at = order[channel] * size;
      for (let k = 0; k < plane.length; k++, n++) {
        const symbol = this.symbols[n], within = isTold ? centroids[this._rows[n] * entries + this._entries[n]] : 0;
        symbols[at + plane[k]] = symbol;
        if (points) points[at + plane[k]] = predicted ? pointOf(symbol, within, this.origins[n], spacing) : within;
      }
    }
  }
}

/**
 * Return where the latent of a predicted symbol lies beside it, in 1/64 step.
 * @param {number} symbol
 * @param {number} within it, in 1/64 symbol
 * @param {number} origin
 * @param {number} spacing
 */
function pointOf(symbol, within, origin, spacing) {
  const latent = origin + (((STEP * symbol + within) * spacing) >> 6); // STEP is 2^6
  return Math.min(Math.max(latent, -LATENT_LIMIT), LATENT_LIMIT - STEP) - STEP * symbol;
}
