/** The inputs of a prior's networks in a plane, and the locations and scales that their outputs give. */

import { FEATURE_LIMIT, KNOTS, LIMIT, SparseInputs } from "./pass_network.js";

/** @typedef {import("./passes.js").Grid} Grid */
/** @typedef {import("./network_prior.js").NetworkPrior} NetworkPrior */

const FIRST_KNOT = 768, KNOT_SPACING = 160;
const INDICES_PER_CODE = 48, INDEX_SHIFT = 12, SCALES = 32, LOCATION_LIMIT = 1 << 15;
const ORIGIN_LIMIT = 8 * LOCATION_LIMIT; // the same limit in 1/64 step

const WORD = 32; // bits

/** 32 * log2(1 + n / 8), rounded: the compressed magnitude of a latent, an input of the networks. */
export const MAGNITUDE = Int32Array.from({ length: LIMIT + 1 }, (_, n) => Math.round(32 * Math.log2(1 + n / 8)));

/** The known latents of a plane: all channels of a position together, in coding order. */
export class LatentPlanes {
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
    this._stepPower = stepFixedPoint(stepCode);
    this._inversePower = stepFixedPoint(4096 - stepCode);
    this._stepEmbedding = stepEmbedding(stepCode);
    this._latents = new Int16Array(grid.paddedSize * this._channels);
    /** One bit a latent of each position: 1 if the latent is not 0. The networks skip latents of 0. */
    this._wordsPerPosition = Math.ceil(this._channels / WORD);
    this._bits = new Int32Array(grid.paddedSize * this._wordsPerPosition);
  }

  /**
   * Compute the contexts of a pass's symbols, channel by channel, position by position.
   * @param {number} number of the pass
   * @param {Int16Array} locations in 1/8 symbol
   * @param {Uint8Array} scales 0 … 31
   * @param {Int32Array} origins the predicted latents that symbols are relative to, in 1/64 step; 0 in passes without
   *   prediction
   */
  find(number, locations, scales, origins) {
    const codingPass = this._prior.passes[number], network = this._prior.networks[number];
    const { padded } = this._grid.positions(codingPass), count = padded.length;
    const { first, outputs } = network, group = outputs.length / 2;
    const { predicted, values, magnitudes } = codingPass;
    const views = this._views([...values, ...magnitudes], values.length, first.pairs);
    const bias = this._bias(first), inputs = new SparseInputs(first.inputs);
    for (let n = 0; n < count; n++) {
      this._listInputs(padded[n], views, first.pairs, inputs);
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
   * Store a pass's symbols, channel by channel.
   * @param {number} number of the pass
   * @param {Int32Array} symbols
   * @param {Int32Array} origins as computed by `find`
   */
  put(number, symbols, origins) {
    const { channels: [first, end], predicted, spacing, ...phase } = this._prior.passes[number];
    const { padded, margins } = this._grid.positions(phase);
    for (let channel = first, n = 0; channel < end; channel++) {
      for (let k = 0; k < padded.length; k++, n++) {
        const symbol = symbols[n];
        if (predicted) this._set(padded[k], channel, this._toUnits32(origins[n] + spacing * symbol));
        else if (symbol !== 0) this._set(padded[k], channel, this._toUnits64(symbol));
      }
      for (let k = 0; k < margins.length; k += 2) {
        this._set(margins[k], channel, this._latents[margins[k + 1] * this._channels + channel]);
      }
    }
  }

  /**
   * @param {number} position
   * @param {number} channel
   * @param {number} latent its value; positions start at 0
   */
  _set(position, channel, latent) {
    if (latent === 0) return;
    this._latents[position * this._channels + channel] = latent;
    this._bits[position * this._wordsPerPosition + Math.floor(channel / WORD)] |= 1 << channel % WORD;
  }

  /**
   * List the inputs of a network that are not 0.
   * @param {number} position
   * @param {Int32Array} views
   * @param {number} pairs of weights of each input
   * @param {SparseInputs} inputs receives the list
   */
  _listInputs(position, views, pairs, inputs) {
    const latents = this._latents, words = this._bits, { places, values } = inputs;
    const wordsAt = position * this._wordsPerPosition, latentsAt = position * this._channels;
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
   * Return a flat table of views, five numbers for each word of bits that the windows cover: distance to the word, mask
   * of the covered bits, distance to the latent of bit 0, first weight of that latent, and whether magnitudes are read.
   * @param {import("./network_prior.js").Window[]} windows
   * @param {number} values number of windows that read values; the others read magnitudes
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
        views.push(away * this._wordsPerPosition + word, bit, latent, place, Number(n >= values));
      }
    });
    return Int32Array.from(views);
  }

  /**
   * Return the bias of a first layer plus the contribution of the step embedding, its last inputs.
   * @param {import("./pass_network.js").Layer} first
   */
  _bias(first) {
    const inputs = new SparseInputs(KNOTS);
    for (; inputs.count < KNOTS; inputs.count++) {
      inputs.places[inputs.count] = (first.inputs - KNOTS + inputs.count) * first.pairs;
      inputs.values[inputs.count] = this._stepEmbedding[inputs.count];
    }
    first.sum(first.bias, inputs);
    return first.sums.slice();
  }

  /**
   * Return the latent of a symbol in 1/64 of a normalised unit, rounded and clamped.
   * @param {number} symbol
   */
  _toUnits64(symbol) {
    const latent = Math.floor((symbol * this._stepPower + 32768) / 65536);
    return Math.min(Math.max(latent, -LIMIT), LIMIT);
  }

  /**
   * Return a predicted latent in 1/32 of a normalised unit, rounded and clamped.
   * @param {number} fine the latent in 1/64 step
   */
  _toUnits32(fine) {
    const latent = Math.floor((fine * this._stepPower + 2 ** 22) / 2 ** 23);
    return Math.min(Math.max(latent, -LIMIT), LIMIT);
  }

  /**
   * Return floor(output * inverse / 2^shift + 1/2), clamped to -limit … limit - 1.
   * @param {number} output below 2^24. Its product with a power has up to 54 bits and is therefore computed in two
   *   parts.
   * @param {number} shift
   * @param {number} limit
   */
  _location(output, shift, limit) {
    const high = Math.floor(this._inversePower / 32768), low = this._inversePower - high * 32768;
    const lowProduct = Math.floor((output * low + 2 ** (shift - 1)) / 32768);
    const location = Math.floor((output * high + lowProduct) / 2 ** (shift - 15));
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
function stepFixedPoint(code) {
  let power = Math.floor(2 ** (14 + code / 256)) + 1;
  while (BigInt(power) ** 256n > 1n << BigInt(3584 + code)) power--;
  return power;
}

/**
 * Return the closeness of a step code to each knot, 0 … 127.
 * @param {number} stepCode
 */
function stepEmbedding(stepCode) {
  const code = Math.min(Math.max(stepCode, FIRST_KNOT), FIRST_KNOT + KNOT_SPACING * (KNOTS - 1));
  return Int32Array.from({ length: KNOTS }, (_, n) => {
    const distance = Math.abs(FIRST_KNOT + KNOT_SPACING * n - code);
    return Math.max(FEATURE_LIMIT - Math.floor((FEATURE_LIMIT * distance) / KNOT_SPACING), 0);
  });
}
