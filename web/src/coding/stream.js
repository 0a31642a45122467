/** A tile's stream to its symbols: passes of a prior, each by the contexts that it finds in those before. */

import { Reader } from "../entropy/ans.js";
import { LOW_BITS, readSymbols } from "../entropy/tables.js";
import { need } from "../error.js";
import { Grid } from "../priors/passes.js";

/** @typedef {import("../format/layout.js").Inner} Inner */
/** @typedef {import("../priors/adaptive.js").AdaptivePrior | import("../priors/prior.js").NetworkPrior} Prior */

/**
 * Symbols of a tile, (channels, height, width), and where in each one's interval its latent is, in 1/64 step; null if
 * the prior does not tell.
 * @typedef {{symbols: Int16Array, points: Int8Array | null}} Decoded
 */

/**
 * Return what a stream holds.
 * @param {Uint8Array} data
 * @param {number} height of the tile, in latents
 * @param {number} width
 * @param {Prior} prior
 * @param {number} stepCode
 * @param {Inner} inner
 * @param {number} [end] how many of the prior's passes to read; symbols of the others are 0
 * @returns {Decoded}
 * @throws {import("../error.js").FormatError} if it is not a stream of that size; of a part, only if that is damaged
 */
export function decodeStream(data, height, width, prior, stepCode, inner, end = prior.passes.length) {
  const reader = new Reader(data), grid = new Grid(height, width, inner), size = height * width;
  const symbols = new Int16Array(prior.order.length * size);
  const points = prior.hasPoints ? new Int8Array(symbols.length) : null;
  const present = prior.passes.flatMap((step, number) => (grid.count(step) ? [{ step, number }] : []));
  const count = reader.raw(32 - Math.clz32(present.length));
  need(count <= present.length, `damaged stream: it tells of ${count} passes, there are ${present.length}`);
  const held = present.slice(0, count);
  const largest = Math.max(0, ...held.map(({ step }) => grid.count(step) * (step.channels[1] - step.channels[0])));
  const contexts = prior.contexts(grid, stepCode), pass = new PassReader(reader, prior.tables, largest);
  let isZero = false;
  for (const { step, number } of held) {
    if (number >= end) return { symbols, points };
    const { plane } = grid.positions(step), count = (step.channels[1] - step.channels[0]) * plane.length;
    contexts.find(number, pass.locations, pass.scales, pass.points);
    pass.read(count);
    contexts.put(number, pass.symbols, pass.points);
    pass.putInto(symbols, points, prior, step.channels, plane, size);
    isZero = pass.symbols.subarray(0, count).every((symbol) => symbol === 0);
  }
  need(end < prior.passes.length || reader.isAtEnd, "damaged stream: data left over after the last symbol");
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
    this.points = new Int8Array(largest);
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
   * Put symbols into a tile at some positions of some channels in coding order.
   * @param {Int16Array} symbols of the tile
   * @param {Int8Array | null} points of the tile; null if the prior does not tell them
   * @param {Prior} prior
   * @param {[first: number, end: number]} channels
   * @param {Int32Array} plane
   * @param {number} size of a channel
   * @param {boolean} isThere whether they were read, not expected
   */
  putInto(symbols, points, prior, [first, end], plane, size, isThere = true) {
    const centroids = isThere ? prior.centroids : null;
    for (let channel = first, n = 0; channel < end; channel++) {
      const at = prior.order[channel] * size;
      for (let k = 0; k < plane.length; k++, n++) symbols[at + plane[k]] = this.symbols[n];
      if (points) this.putPoints(points, at, plane, n - plane.length, centroids);
    }
  }

  /**
   * Put the points of symbols from number `from` on into a channel at some positions.
   * @param {Int8Array} points
   * @param {number} at where the channel begins
   * @param {Int32Array} plane
   * @param {number} from
   * @param {Int8Array | null} centroids
   */
  putPoints(points, at, plane, from, centroids) {
    const { entries } = this._tables;
    for (let k = 0; k < plane.length; k++) {
      const within = centroids ? centroids[this._rows[from + k] * entries + this._entries[from + k]] : 0;
      points[at + plane[k]] = this.points[from + k] + within;
    }
  }
}
