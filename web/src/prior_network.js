/** The network of one pass of a prior: two layers of units, and inputs straight to outputs beside them. */

import { arrayNamed } from "./npz.js";

const LIMIT = 1023, HIDDEN_SHIFT = 6, SECOND_SHIFT = 9;

/**
 * A layer's weights have a row for each input, so that an input that is 0 costs nothing.
 * @typedef {{inputs: number, outputs: number, weights: Int32Array, bias: Int32Array}} Layer
 */

/** Integers in, integers out; every sum stays below 2^24. */
export class Network {
  /**
   * @param {Layer} first sums for units, then those that go straight to outputs
   * @param {Layer} second
   * @param {Layer} output
   */
  constructor(first, second, output) {
    this.first = first;
    this.second = second;
    this.output = output;
    this._sums = new Int32Array(first.outputs);
    this._seconds = new Int32Array(second.outputs);
    this._places = new Int32Array(Math.max(second.inputs, output.inputs));
    this._values = new Int32Array(this._places.length);
    /** What `run` gives: locations of the pass's channels, then scales. */
    this.outputs = new Int32Array(output.outputs);
  }

  /**
   * Find the outputs for inputs of which `count` are not 0.
   * @param {Int32Array} bias of the first layer
   * @param {Int32Array} places where the weights of each input begin, that is, its number times `first.outputs`
   * @param {Int32Array} values of each input
   * @param {number} count
   */
  run(bias, places, values, count) {
    const { first, second, output, outputs } = this, units = second.inputs;
    this._sums.set(bias);
    accumulate(this._sums, first.weights, places, values, count);
    let open = this._open(this._sums, units, HIDDEN_SHIFT, second.outputs);
    this._seconds.set(second.bias);
    accumulate(this._seconds, second.weights, this._places, this._values, open);
    open = this._open(this._seconds, output.inputs, SECOND_SHIFT, output.outputs);
    for (let n = 0; n < outputs.length; n++) outputs[n] = this._sums[units + n];
    accumulate(outputs, output.weights, this._places, this._values, open);
  }

  /**
   * List those of some units that are not 0; return how many.
   * @param {Int32Array} sums
   * @param {number} units
   * @param {number} shift
   * @param {number} width of the next layer
   */
  _open(sums, units, shift, width) {
    let count = 0;
    for (let n = 0; n < units; n++) {
      const value = Math.min(sums[n] >> shift, LIMIT);
      if (value > 0) {
        this._places[count] = n * width;
        this._values[count++] = value;
      }
    }
    return count;
  }
}

/**
 * Return the network of a prior's pass.
 * @param {import("./npz.js").Arrays} arrays of the prior's file
 * @param {number} number of the pass
 */
export function networkOf(arrays, number) {
  const first = layerOf(arrays, `first${number}`, `first_bias${number}`);
  const second = layerOf(arrays, `second${number}`, `second_bias${number}`);
  return new Network(first, second, layerOf(arrays, `output${number}`));
}

/**
 * @param {import("./npz.js").Arrays} arrays
 * @param {string} name of a matrix with a row for each output
 * @param {string} [biasName]
 * @returns {Layer}
 */
function layerOf(arrays, name, biasName) {
  const { shape: [outputs, inputs], values } = arrayNamed(arrays, name);
  const weights = new Int32Array(values.length);
  for (let n = 0; n < outputs; n++) for (let k = 0; k < inputs; k++) weights[k * outputs + n] = values[n * inputs + k];
  const bias = biasName ? Int32Array.from(arrayNamed(arrays, biasName).values) : new Int32Array(outputs);
  return { inputs, outputs, weights, bias };
}

/**
 * Add to sums what inputs contribute, four of them at once: sums are loaded and stored less often.
 * @param {Int32Array} sums
 * @param {Int32Array} weights
 * @param {Int32Array} places where each input's weights begin
 * @param {Int32Array} values
 * @param {number} count of inputs
 */
export function accumulate(sums, weights, places, values, count) {
  const width = sums.length;
  let n = 0;
  for (; n + 4 <= count; n += 4) {
    const a = values[n], b = values[n + 1], c = values[n + 2], d = values[n + 3];
    const p = places[n], q = places[n + 1], r = places[n + 2], s = places[n + 3];
    for (let k = 0; k < width; k++) {
      sums[k] += Math.imul(weights[p + k], a) + Math.imul(weights[q + k], b)
        + Math.imul(weights[r + k], c) + Math.imul(weights[s + k], d);
    }
  }
  for (; n < count; n++) {
    const a = values[n], p = places[n];
    for (let k = 0; k < width; k++) sums[k] += Math.imul(weights[p + k], a);
  }
}
