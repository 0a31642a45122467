/** What a prior's networks see of a plane, and the locations and scales of symbols that they tell. */

import { accumulate } from "./prior_network.js";

/** @typedef {import("./prior.js").NetworkPrior} NetworkPrior */
/** @typedef {import("./passes.js").Grid} Grid */

const LIMIT = 1023; // of latents, in 1/64 of a normalised unit
const KNOTS = 17, FIRST_KNOT = 768, KNOT_SPACING = 160, FEATURE_LIMIT = 127;
const INDICES_PER_CODE = 48, INDEX_SHIFT = 12, SCALES = 32, LOCATION_LIMIT = 1 << 15;

// 32 * log2(1 + n / 8), rounded.
const MAGNITUDE = Int32Array.from({ length: LIMIT + 1 }, (_, n) => Math.round(32 * Math.log2(1 + n / 8)));

/** The latents of a plane that are known so far, all channels of a position together, in coding order. */
export class PriorContexts {
  /**
   * @param {NetworkPrior} prior
   * @param {Grid} grid
   * @param {number} stepCode
   */
  constructor(prior, grid, stepCode) {
    this._prior = prior;
    this._grid = grid;
    this._stepCode = stepCode;
    this._channels = prior.order.length;
    this._power = power(stepCode);
    this._inverse = power(4096 - stepCode);
    this._features = stepFeatures(stepCode);
    this._latents = new Int16Array(grid.paddedSize * this._channels);
  }

  /**
   * Find the contexts of a pass's symbols, channel after channel, in each position after position.
   * @param {number} number of the pass
   * @param {Int16Array} locations in eighths of a symbol
   * @param {Uint8Array} scales 0 … 31
   */
  find(number, locations, scales) {
    const step = this._prior.passes[number], network = this._prior.networks[number];
    const { padded } = this._grid.positions(step), count = padded.length;
    const latents = this._latents, channels = this._channels, { outputs } = network, group = outputs.length / 2;
    const windows = this._windows(step, network.first.outputs);
    const values = windows.filter((window) => !window.isMagnitude);
    const magnitudes = windows.filter((window) => window.isMagnitude);
    const bias = this._bias(network.first);
    const places = new Int32Array(network.first.inputs), inputs = new Int32Array(network.first.inputs);
    for (let n = 0; n < count; n++) {
      const at = padded[n] * channels;
      const some = gather(latents, at, values, false, places, inputs, 0);
      network.run(bias, places, inputs, gather(latents, at, magnitudes, true, places, inputs, some));
      for (let k = 0; k < group; k++) {
        locations[k * count + n] = this._location(outputs[k]);
        scales[k * count + n] = this._scale(outputs[group + k]);
      }
    }
  }

  /**
   * Store a pass's symbols, channel after channel.
   * @param {number} number of the pass
   * @param {Int32Array} symbols
   */
  put(number, symbols) {
    const { channels: [first, end], ...phase } = this._prior.passes[number];
    const { padded, margins } = this._grid.positions(phase), latents = this._latents, all = this._channels;
    for (let channel = first, n = 0; channel < end; channel++) {
      for (let k = 0; k < padded.length; k++, n++) {
        if (symbols[n] !== 0) latents[padded[k] * all + channel] = this._latent(symbols[n]);
      }
    }
    for (let n = 0; n < margins.length; n += 2) {
      const from = margins[n + 1] * all;
      latents.copyWithin(margins[n] * all + first, from + first, from + end);
    }
  }

  /**
   * Return where a pass looks, as distances in the plane, and where the weights of what it sees there begin.
   * @param {import("./prior.js").LatentPass} step
   * @param {number} width of the network's first layer
   * @returns {Window[]}
   */
  _windows(step, width) {
    let input = 0;
    const all = [...step.values, ...step.magnitudes];
    return all.map(([first, end, dy, dx], n) => {
      const from = (dy * this._grid.pitch + dx) * this._channels + first;
      const window = { from, length: end - first, place: input * width, width, isMagnitude: n >= step.values.length };
      input += end - first;
      return window;
    });
  }

  /**
   * Return a first layer's bias with what the features of the step, its last inputs, add to it.
   * @param {import("./prior_network.js").Layer} first
   */
  _bias({ bias, inputs, outputs, weights }) {
    const sums = bias.slice(), places = Int32Array.from({ length: KNOTS }, (_, n) => (inputs - KNOTS + n) * outputs);
    accumulate(sums, weights, places, this._features, KNOTS);
    return sums;
  }

  /** @param {number} symbol */
  _latent(symbol) {
    const latent = Math.floor((symbol * this._power + 32768) / 65536);
    return Math.min(Math.max(latent, -LIMIT), LIMIT);
  }

  /** @param {number} output below 2^24: its product with a power has up to 54 bits, so that it is found in two parts */
  _location(output) {
    const high = Math.floor(this._inverse / 32768), low = this._inverse - high * 32768;
    const rest = Math.floor((output * low + 2 ** 36) / 32768);
    const location = Math.floor((output * high + rest) / 2 ** 22);
    return Math.min(Math.max(location, -LOCATION_LIMIT), LOCATION_LIMIT - 1);
  }

  /** @param {number} output */
  _scale(output) {
    const scale = (output + INDICES_PER_CODE * (2048 - this._stepCode)) >> INDEX_SHIFT;
    return Math.min(Math.max(scale, 0), SCALES - 1);
  }
}

/**
 * So many channels, from a distance in the plane; the weights of the first begin at `place`, each `width` apart.
 * @typedef {{from: number, length: number, place: number, width: number, isMagnitude: boolean}} Window
 */

/**
 * List what windows see that is not 0, behind the `count` inputs that are listed; return how many there are then.
 * @param {Int16Array} latents
 * @param {number} at the position
 * @param {Window[]} windows
 * @param {boolean} areMagnitudes
 * @param {Int32Array} places
 * @param {Int32Array} inputs
 * @param {number} count
 */
function gather(latents, at, windows, areMagnitudes, places, inputs, count) {
  for (let n = 0; n < windows.length; n++) {
    const { from, length, place, width } = windows[n];
    for (let k = 0; k < length; k++) {
      const latent = latents[at + from + k];
      if (latent !== 0) {
        places[count] = place + k * width;
        inputs[count++] = areMagnitudes ? MAGNITUDE[Math.abs(latent)] : latent;
      }
    }
  }
  return count;
}

/**
 * Return floor(2^(22 + (code - 2048) / 256)), exactly.
 * @param {number} code 0 … 4096
 */
function power(code) {
  let found = Math.floor(2 ** (14 + code / 256)) + 1;
  while (BigInt(found) ** 256n > 1n << BigInt(3584 + code)) found--;
  return found;
}

/**
 * Return how near a step code is to each knot, 0 … 127.
 * @param {number} stepCode
 */
function stepFeatures(stepCode) {
  const code = Math.min(Math.max(stepCode, FIRST_KNOT), FIRST_KNOT + KNOT_SPACING * (KNOTS - 1));
  return Int32Array.from({ length: KNOTS }, (_, n) => {
    const distance = Math.abs(FIRST_KNOT + KNOT_SPACING * n - code);
    return Math.max(FEATURE_LIMIT - Math.floor((FEATURE_LIMIT * distance) / KNOT_SPACING), 0);
  });
}
