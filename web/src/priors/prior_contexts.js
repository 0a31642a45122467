/** What a prior's networks see of a plane, and the locations and scales of symbols that they tell. */

import { FEATURE_LIMIT, Inputs, KNOTS, LIMIT } from "./prior_network.js";

/** @typedef {import("./passes.js").Grid} Grid */
/** @typedef {import("./prior.js").NetworkPrior} NetworkPrior */

const FIRST_KNOT = 768, KNOT_SPACING = 160;
const INDICES_PER_CODE = 48, INDEX_SHIFT = 12, SCALES = 32, LOCATION_LIMIT = 1 << 15;
const ORIGIN_LIMIT = 8 * LOCATION_LIMIT; // as far, in 1/64 step

const WORD = 32; // bits

/** 32 * log2(1 + n / 8), rounded: what networks see of a latent's magnitude. */
export const MAGNITUDE = Int32Array.from({ length: LIMIT + 1 }, (_, n) => Math.round(32 * Math.log2(1 + n / 8)));

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
    /** For each position bits that tell which of its latents are not 0. */
    this._words = Math.ceil(this._channels / WORD);
    this._bits = new Int32Array(grid.paddedSize * this._words);
  }

  /**
   * Find the contexts of a pass's symbols, channel after channel, in each position after position.
   * @param {number} number of the pass
   * @param {Int16Array} locations in eighths of a symbol
   * @param {Uint8Array} scales 0 … 31
   * @param {Int32Array} origins from where symbols count, in 1/64 step; 0 if they are not predicted
   */
  find(number, locations, scales, origins) {
    const step = this._prior.passes[number], network = this._prior.networks[number];
    const { padded } = this._grid.positions(step), count = padded.length;
    const { first, outputs } = network, group = outputs.length / 2;
    const { predicted } = step, seen = [...step.values, ...step.magnitudes], views = this._views(seen, step.values.length, first.pairs);
    const bias = this._bias(first), inputs = new Inputs(first.inputs);
    for (let n = 0; n < count; n++) {
      this._see(padded[n], views, first.pairs, inputs);
      network.run(bias, inputs);
      for (let k = 0; k < group; k++) {
        const at = k * count + n;
        scales[at] = this._scale(outputs[group + k]);
        locations[at] = predicted ? 0 : this._location(outputs[k], 37, LOCATION_LIMIT);
        origins[at] = predicted ? this._location(outputs[k], 33, ORIGIN_LIMIT) : 0;
      }
    }
  }

  /**
   * Store a pass's symbols, channel after channel.
   * @param {number} number of the pass
   * @param {Int32Array} symbols
   * @param {Int32Array} origins as `find` gave them
   */
  put(number, symbols, origins) {
    const { channels: [first, end], predicted, spacing, ...phase } = this._prior.passes[number];
    const { padded, margins } = this._grid.positions(phase);
    for (let channel = first, n = 0; channel < end; channel++) {
      for (let k = 0; k < padded.length; k++, n++) {
        const symbol = symbols[n];
        if (predicted) this._set(padded[k], channel, this._predicted(origins[n] + spacing * symbol));
        else if (symbol !== 0) this._set(padded[k], channel, this._latent(symbol));
      }
      for (let k = 0; k < margins.length; k += 2) {
        this._set(margins[k], channel, this._latents[margins[k + 1] * this._channels + channel]);
      }
    }
  }

  /**
   * @param {number} position
   * @param {number} channel
   * @param {number} latent that is there; 0 is there at first
   */
  _set(position, channel, latent) {
    if (latent === 0) return;
    this._latents[position * this._channels + channel] = latent;
    this._bits[position * this._words + Math.floor(channel / WORD)] |= 1 << channel % WORD;
  }

  /**
   * List what a network sees that is not 0.
   * @param {number} position
   * @param {Int32Array} views
   * @param {number} pairs of weights of each input
   * @param {Inputs} inputs where to list it
   */
  _see(position, views, pairs, inputs) {
    const latents = this._latents, words = this._bits, { places, values } = inputs;
    const wordsAt = position * this._words, latentsAt = position * this._channels;
    let count = 0;
    for (let n = 0; n < views.length; n += 5) {
      let bits = words[wordsAt + views[n]] & views[n + 1];
      while (bits !== 0) {
        const channel = 31 - Math.clz32(bits & -bits), latent = latents[latentsAt + views[n + 2] + channel];
        bits &= bits - 1;
        places[count] = views[n + 3] + channel * pairs;
        values[count++] = views[n + 4] ? MAGNITUDE[Math.abs(latent)] : latent;
      }
    }
    inputs.count = count;
  }

  /**
   * Return five numbers for each word of bits that windows see something of: how far away it is, which bits are seen,
   * how far away the latent of its first is, where the weights of that begin, and whether magnitudes are seen.
   * @param {import("./prior.js").Window[]} windows
   * @param {number} values how many of them see values
   * @param {number} pairs of weights of each input
   */
  _views(windows, values, pairs) {
    /** @type {number[]} */
    const views = [];
    let input = 0;
    windows.forEach(([first, end, dy, dx], n) => {
      const away = dy * this._grid.pitch + dx;
      for (let channel = first; channel < end; channel++, input++) {
        const word = Math.floor(channel / WORD), bit = 1 << channel % WORD;
        if (channel > first && channel % WORD) {
          views[views.length - 4] |= bit;
          continue;
        }
        const latent = away * this._channels + word * WORD, place = (input - (channel % WORD)) * pairs;
        views.push(away * this._words + word, bit, latent, place, Number(n >= values));
      }
    });
    return Int32Array.from(views);
  }

  /**
   * Return a first layer's bias with what the features of the step, its last inputs, add to it.
   * @param {import("./prior_network.js").Layer} first
   */
  _bias(first) {
    const inputs = new Inputs(KNOTS);
    for (; inputs.count < KNOTS; inputs.count++) {
      inputs.places[inputs.count] = (first.inputs - KNOTS + inputs.count) * first.pairs;
      inputs.values[inputs.count] = this._features[inputs.count];
    }
    first.sum(first.bias, inputs);
    return first.sums.slice();
  }

  /** @param {number} symbol */
  _latent(symbol) {
    const latent = Math.floor((symbol * this._power + 32768) / 65536);
    return Math.min(Math.max(latent, -LIMIT), LIMIT);
  }

  /**
   * Return a predicted latent, which is counted half as finely.
   * @param {number} fine the latent in 1/64 step
   */
  _predicted(fine) {
    const latent = Math.floor((fine * this._power + 2 ** 22) / 2 ** 23);
    return Math.min(Math.max(latent, -LIMIT), LIMIT);
  }

  /**
   * Return floor(output * inverse / 2^shift + 1/2), in -limit … limit - 1.
   * @param {number} output below 2^24: its product with a power has up to 54 bits, so that it is found in two parts
   * @param {number} shift
   * @param {number} limit
   */
  _location(output, shift, limit) {
    const high = Math.floor(this._inverse / 32768), low = this._inverse - high * 32768;
    const rest = Math.floor((output * low + 2 ** (shift - 1)) / 32768);
    const location = Math.floor((output * high + rest) / 2 ** (shift - 15));
    return Math.min(Math.max(location, -limit), limit - 1);
  }

  /** @param {number} output */
  _scale(output) {
    const scale = (output + INDICES_PER_CODE * (2048 - this._stepCode)) >> INDEX_SHIFT;
    return Math.min(Math.max(scale, 0), SCALES - 1);
  }
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
