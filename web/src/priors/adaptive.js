/** Prior 0, which has no network: each stream carries three numbers a channel. `docs/format.md`, section 3.4. */

import { need } from "../error.js";

/** @typedef {import("./passes.js").Grid} Grid */
/** @typedef {import("./passes.js").Phase} Phase */

const SCALES = 32, LIMIT = 1023, REACH = 2, PERIOD = 4;
/** Bytes of parameters a channel: weight 0 … 8, base scale 0 … 31, first scale 0 … 31. */
export const PARAMETERS = 3;

/** @type {Phase[]} */
const PYRAMID = [
  { stride: 4, origins: [[0, 0]] },
  { stride: 4, origins: [[2, 2]] },
  { stride: 4, origins: [[0, 2], [2, 0]] },
  { stride: 2, origins: [[1, 1]] },
  { stride: 2, origins: [[0, 1], [1, 0]] },
];
/** The numbers of passes after which a level ends. */
export const CUTS = [3, 4];

// 16 * log2(1 + n), rounded, at most 127.
const MAGNITUDE = Uint8Array.from({ length: 256 }, (_, n) => Math.min(Math.round(16 * Math.log2(1 + n)), 127));

/** The adaptive prior, with the parameters of a stream. */
export class AdaptivePrior {
  /**
   * @param {import("../entropy/tables.js").Tables} tables
   * @param {Uint8Array} parameters (channels, 3)
   * @throws {import("../error.js").FormatError} if a parameter is out of range
   */
  constructor(tables, parameters) {
    const channels = parameters.length / PARAMETERS;
    this.weight = parameters.filter((_, n) => n % PARAMETERS === 0);
    this.base = parameters.filter((_, n) => n % PARAMETERS === 1);
    this.first = parameters.filter((_, n) => n % PARAMETERS === 2);
    const inRange = this.weight.every((weight) => weight <= 8)
      && [...this.base, ...this.first].every((scale) => scale < SCALES);
    need(inRange, "damaged stream: the adaptive prior's parameters are out of range");
    this.tables = tables;
    this.order = [...Array(channels).keys()];
    this.cuts = CUTS;
    this.centroids = /** @type {Int8Array | null} */ (null);
    this.hasReconOffsets = false;
    const all = /** @type {[number, number]} */ ([0, channels]);
    this.passes = PYRAMID.map((phase) => ({ ...phase, channels: all, predicted: false, spacing: 64 }));
  }

  /**
   * Return an object that computes the contexts of a plane's symbols.
   * @param {Grid} grid
   */
  contexts(grid) {
    return new SymbolPlanes(this, grid);
  }
}

/** The known symbols of a plane, clamped, and their compressed magnitudes. */
class SymbolPlanes {
  /**
   * @param {AdaptivePrior} prior
   * @param {Grid} grid
   */
  constructor(prior, grid) {
    this._prior = prior;
    this._grid = grid;
    this._symbols = new Int16Array(grid.paddedSize * prior.order.length);
    this._magnitudes = new Uint8Array(this._symbols.length);
  }

  /**
   * Compute the contexts of a pass's symbols, channel by channel, position by position.
   * @param {number} number of the pass
   * @param {Int16Array} locations in 1/8 symbol
   * @param {Uint8Array} scales 0 … 31
   * @param {Int32Array} _origins left at 0: this prior predicts no latents
   */
  find(number, locations, scales, _origins) {
    const { weight, base, first } = this._prior, { padded } = this._grid.positions(PYRAMID[number]);
    const { near, taps } = this._taps(number), count = padded.length, tapCount = taps.length + near.length;
    for (let channel = 0; channel < weight.length; channel++) {
      if (number === 0) {
        locations.fill(0, channel * count, (channel + 1) * count);
        scales.fill(first[channel], channel * count, (channel + 1) * count);
        continue;
      }
      for (let n = 0; n < count; n++) {
        const at = channel * this._grid.paddedSize + padded[n];
        let sum = 0, magnitudes = 0;
        for (let k = 0; k < taps.length; k++) magnitudes += this._magnitudes[at + taps[k]];
        for (let k = 0; k < near.length; k++) {
          sum += this._symbols[at + near[k]];
          magnitudes += this._magnitudes[at + near[k]];
        }
        const mean = Math.floor((8 * sum + (near.length >> 1)) / near.length);
        const magnitude = Math.floor((8 * magnitudes) / tapCount);
        locations[channel * count + n] = (mean * weight[channel]) >> 3;
        scales[channel * count + n] = Math.min(base[channel] + ((magnitude * 3) >> 7), SCALES - 1);
      }
    }
  }

  /**
   * Store a pass's symbols, channel by channel.
   * @param {number} number of the pass
   * @param {Int32Array} symbols
   * @param {Int32Array} _origins
   */
  put(number, symbols, _origins) {
    const { padded, margins } = this._grid.positions(PYRAMID[number]), size = this._grid.paddedSize;
    for (let channel = 0, n = 0; channel < this._prior.order.length; channel++) {
      const plane = channel * size;
      for (let k = 0; k < padded.length; k++, n++) {
        this._symbols[plane + padded[k]] = Math.min(Math.max(symbols[n], -LIMIT), LIMIT);
        this._magnitudes[plane + padded[k]] = MAGNITUDE[Math.min(Math.abs(symbols[n]), 255)];
      }
      for (let k = 0; k < margins.length; k += 2) {
        this._symbols[plane + margins[k]] = this._symbols[plane + margins[k + 1]];
        this._magnitudes[plane + margins[k]] = this._magnitudes[plane + margins[k + 1]];
      }
    }
  }

  /**
   * Return the taps of a pass as distances in the padded plane: all of them, and the nearest ones.
   * @param {number} number of the pass
   */
  _taps(number) {
    const before = PYRAMID.slice(0, number), cells = cellsOf(PYRAMID[number]), window = [];
    for (let dy = -REACH; dy <= REACH; dy++) {
      for (let dx = -REACH; dx <= REACH; dx++) {
        const isKnown = cells.every(([y, x]) => before.some((phase) => covers(phase, y + dy, x + dx)));
        if (isKnown) window.push({ at: dy * this._grid.pitch + dx, distance: Math.abs(dy) + Math.abs(dx) });
      }
    }
    const nearest = Math.min(...window.map(({ distance }) => distance));
    const near = window.filter(({ distance }) => distance === nearest);
    return { taps: Int32Array.from(window, ({ at }) => at), near: Int32Array.from(near, ({ at }) => at) };
  }
}

/**
 * Return the positions of a phase within one period.
 * @param {Phase} phase
 * @returns {[number, number][]}
 */
function cellsOf(phase) {
  const all = [...Array(PERIOD * PERIOD).keys()];
  const cells = all.map((n) => /** @type {[number, number]} */ ([Math.floor(n / PERIOD), n % PERIOD]));
  return cells.filter(([y, x]) => covers(phase, y, x));
}

/**
 * @param {Phase} phase
 * @param {number} y
 * @param {number} x
 */
function covers({ stride, origins }, y, x) {
  return origins.some(([top, left]) => (y - top) % stride === 0 && (x - left) % stride === 0);
}
