/**
 * The network of one pass of a prior: two layers of units, and inputs straight to outputs beside them.
 *
 * No sum of a network reaches 2^24, whatever its order, so that two of them fit a double exactly, one of them times
 * 2^26: weights are kept in such pairs, and each product counts twice. Inputs that are 0, which most are, are left out.
 */

import { BundleError } from "./error.js";
import { arrayNamed } from "./npz.js";

/** Limit of latents, in 1/64 of a normalised unit, and of units. */
export const LIMIT = 1023;
/** How many step features there are, the last inputs, and the limit of each; at most two neighbours are not 0. */
export const KNOTS = 17, FEATURE_LIMIT = 127;
const PAIR = 2 ** 26, LARGEST_SUM = 2 ** 24;
const HIDDEN_SHIFT = 6, SECOND_SHIFT = 9;

/** A matrix and a bias; pair n holds the outputs n and n + `pairs`. */
export class Layer {
  /**
   * @param {import("./npz.js").NumpyArray} matrix with a row for each output
   * @param {import("./npz.js").Integers} bias
   */
  constructor({ shape: [outputs, inputs], values }, bias) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.pairs = Math.ceil(outputs / 2);
    /** For each input its pairs of weights. */
    this.weights = new Float64Array(inputs * this.pairs);
    this.bias = new Float64Array(this.pairs);
    for (let output = 0; output < outputs; output++) {
      const pair = output % this.pairs, factor = output < this.pairs ? 1 : PAIR;
      this.bias[pair] += factor * bias[output];
      for (let input = 0; input < inputs; input++) {
        this.weights[input * this.pairs + pair] += factor * values[output * inputs + input];
      }
    }
  }

  /**
   * Add to sums what some inputs contribute, four at once: sums are loaded and stored less often.
   * @param {Float64Array} sums pairs of them
   * @param {Inputs} inputs
   */
  add(sums, { places, values, count }) {
    const { weights, pairs } = this;
    let n = 0;
    for (; n + 4 <= count; n += 4) {
      const a = values[n], b = values[n + 1], c = values[n + 2], d = values[n + 3];
      const p = places[n], q = places[n + 1], r = places[n + 2], s = places[n + 3];
      for (let k = 0; k < pairs; k++) {
        sums[k] += weights[p + k] * a + weights[q + k] * b + weights[r + k] * c + weights[s + k] * d;
      }
    }
    for (; n < count; n++) {
      const a = values[n], p = places[n];
      for (let k = 0; k < pairs; k++) sums[k] += weights[p + k] * a;
    }
  }
}

/** A list of the inputs of a layer that are not 0: their values, and where the weights of each begin. */
export class Inputs {
  /** @param {number} most how many there can be */
  constructor(most) {
    this.places = new Int32Array(most);
    this.values = new Float64Array(most);
    this.count = 0;
  }
}

/** Integers in, integers out. */
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
    this._sums = new Float64Array(first.pairs);
    this._seconds = new Float64Array(second.pairs);
    this._results = new Float64Array(output.pairs);
    this._single = new Int32Array(2 * Math.max(first.pairs, second.pairs, output.pairs));
    this._open = new Inputs(Math.max(second.inputs, output.inputs));
    /** What `run` gives: locations of the pass's channels, then scales. */
    this.outputs = new Int32Array(output.outputs);
  }

  /**
   * Find the outputs for some inputs.
   * @param {Float64Array} bias of the first layer, in pairs
   * @param {Inputs} inputs
   */
  run(bias, inputs) {
    const { first, second, output, outputs, _single: single, _open: open } = this, units = second.inputs;
    this._sums.set(bias);
    first.add(this._sums, inputs);
    unpair(this._sums, single);
    for (let n = 0; n < outputs.length; n++) outputs[n] = single[units + n];
    listUnits(single, units, HIDDEN_SHIFT, second.pairs, open);
    this._seconds.set(second.bias);
    second.add(this._seconds, open);
    unpair(this._seconds, single);
    listUnits(single, output.inputs, SECOND_SHIFT, output.pairs, open);
    this._results.fill(0);
    output.add(this._results, open);
    unpair(this._results, single);
    for (let n = 0; n < outputs.length; n++) outputs[n] += single[n];
  }
}

/**
 * Return the network of a prior's pass.
 * @param {import("./npz.js").Arrays} arrays of the prior's file
 * @param {number} number of the pass
 * @param {number[]} limits of the magnitudes of what the network sees, but for the features of the step
 * @throws {BundleError} if an array is missing or of another shape, or if sums might be too large
 */
export function networkOf(arrays, number, limits) {
  const array = (/** @type {string} */ name) => arrayNamed(arrays, `${name}${number}`);
  const first = array("first"), second = array("second"), output = array("output");
  const [outputs, seconds] = output.shape, units = second.shape[1];
  const fits = first.shape[0] === units + outputs && first.shape[1] === limits.length + KNOTS
    && second.shape[0] === seconds;
  if (!fits) throw new BundleError(`the prior's network ${number} has arrays of other shapes`);
  const bias = array("first_bias").values, secondBias = array("second_bias").values, none = new Int32Array(outputs);
  const outputSums = sumsOf(output, none, Array(seconds).fill(LIMIT));
  const firstSums = sumsOf(first, bias, limits).map((sum, n) => (n < units ? sum : sum + outputSums[n - units]));
  const secondSums = sumsOf(second, secondBias, Array(units).fill(LIMIT));
  const isExact = [...firstSums, ...secondSums].every((sum) => sum < LARGEST_SUM);
  if (!isExact) throw new BundleError(`sums of the prior's network ${number} may be too large`);
  return new Network(new Layer(first, bias), new Layer(second, secondBias), new Layer(output, none));
}

/**
 * Return bounds on the magnitudes of a layer's sums, those of any part of them, too.
 * @param {import("./npz.js").NumpyArray} matrix
 * @param {import("./npz.js").Integers} bias
 * @param {number[]} limits of the magnitudes of inputs; those behind are features of the step
 */
function sumsOf(matrix, bias, limits) {
  return Array.from(bias, (value, output) => Math.abs(value) + sumOf(matrix, output, limits));
}

/**
 * @param {import("./npz.js").NumpyArray} matrix
 * @param {number} output
 * @param {number[]} limits
 */
function sumOf({ shape: [, inputs], values }, output, limits) {
  const weights = Array.from(values.subarray(output * inputs, (output + 1) * inputs), Math.abs);
  const features = weights.slice(limits.length), pairs = features.slice(1).map((weight, n) => weight + features[n]);
  const largest = FEATURE_LIMIT * Math.max(0, ...pairs);
  return limits.reduce((sum, limit, n) => sum + limit * weights[n], largest);
}

/**
 * Take pairs of sums apart.
 * @param {Float64Array} pairs
 * @param {Int32Array} single
 */
function unpair(pairs, single) {
  const count = pairs.length;
  for (let n = 0; n < count; n++) {
    const high = Math.floor(pairs[n] / PAIR + 0.5);
    single[n] = pairs[n] - high * PAIR;
    single[count + n] = high;
  }
}

/**
 * List those of some units that are not 0.
 * @param {Int32Array} sums
 * @param {number} units
 * @param {number} shift
 * @param {number} pairs of the next layer
 * @param {Inputs} inputs where to list them
 */
function listUnits(sums, units, shift, pairs, inputs) {
  let count = 0;
  for (let n = 0; n < units; n++) {
    const value = Math.max(0, Math.min(sums[n] >> shift, LIMIT));
    inputs.places[count] = n * pairs;
    inputs.values[count] = value;
    count += (0 - value) >>> 31;
  }
  inputs.count = count;
}
