/**
 * The network of one pass of a prior: two layers of units, and inputs straight to outputs beside them.
 *
 * No sum of a network reaches 2^24, whatever its order, so that two of them fit a double exactly, one of them times
 * 2^26: weights are kept in such pairs, and each product counts twice. SparseInputs that are 0, which most are, are left out.
 */

import { arrayNamed } from "../assets/npz.js";
import { BundleError } from "../error.js";

/** Limit of latents, in 1/64 of a normalised unit, and of units. */
export const LIMIT = 1023;
/** How many step features there are, the last inputs, and the limit of each; at most two neighbours are not 0. */
export const KNOTS = 17, FEATURE_LIMIT = 127;
const PAIR = 2 ** 26, MAX_SUM = 2 ** 24;
const BLOCK = 8; // pairs that are summed at once
/** What pairs of sums have on top: their last bits are then the last of their doubles, the lower sum 2^25 higher. */
const BASE = 1.5 * 2 ** 52 + PAIR / 2;
const HIDDEN_SHIFT = 6, SECOND_SHIFT = 9;

/** A matrix and a bias; pair n holds the outputs n and n + `pairs`, which are filled up with zeros to whole blocks. */
export class Layer {
  /**
   * @param {import("../assets/npz.js").NumpyArray} matrix with a row for each output
   * @param {import("../assets/npz.js").Integers} bias
   */
  constructor({ shape: [outputs, inputs], values }, bias) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.pairs = BLOCK * Math.ceil(outputs / (2 * BLOCK));
    this.bias = new Float64Array(this.pairs).fill(BASE);
    const weights = new Float64Array(inputs * this.pairs);
    for (let output = 0; output < outputs; output++) {
      const pair = output % this.pairs, factor = output < this.pairs ? 1 : PAIR;
      this.bias[pair] += factor * bias[output];
      for (let input = 0; input < inputs; input++) {
        weights[input * this.pairs + pair] += factor * values[output * inputs + input];
      }
    }
    /** What `sum` finds, in pairs, and the bits of these: two numbers each, the lower first. */
    this.sums = new Float64Array(this.pairs);
    this._bits = new Int32Array(this.sums.buffer);
    /** For each input its pairs of weights. V8 reads plain arrays twice as fast as typed ones, which it checks more. */
    this.weights = Array.from(weights);
  }

  /**
   * Find sums: a bias, and what some inputs contribute. A block of sums stays in registers meanwhile.
   * @param {Float64Array} bias in pairs
   * @param {SparseInputs} inputs
   */
  sum(bias, { places, values, count }) {
    const { weights, pairs, sums } = this;
    for (let k = 0; k < pairs; k += BLOCK) {
      let a = bias[k], b = bias[k + 1], c = bias[k + 2], d = bias[k + 3];
      let e = bias[k + 4], f = bias[k + 5], g = bias[k + 6], h = bias[k + 7];
      for (let n = 0; n < count; n++) {
        const value = values[n], at = (places[n] + k) | 0;
        a += weights[at] * value;
        b += weights[at + 1] * value;
        c += weights[at + 2] * value;
        d += weights[at + 3] * value;
        e += weights[at + 4] * value;
        f += weights[at + 5] * value;
        g += weights[at + 6] * value;
        h += weights[at + 7] * value;
      }
      sums[k] = a;
      sums[k + 1] = b;
      sums[k + 2] = c;
      sums[k + 3] = d;
      sums[k + 4] = e;
      sums[k + 5] = f;
      sums[k + 6] = g;
      sums[k + 7] = h;
    }
  }

  /**
   * Return the sum of an output; by integers, since doubles are slow to convert.
   * @param {number} output
   */
  at(output) {
    const { pairs, _bits: bits } = this;
    if (output < pairs) return (bits[2 * output] & (PAIR - 1)) - PAIR / 2;
    const pair = 2 * (output - pairs);
    return ((bits[pair + 1] << 13) >> 7) | (bits[pair] >>> 26);
  }

  /**
   * List those of the first units that are not 0.
   * @param {number} units
   * @param {number} shift
   * @param {Layer} next
   * @param {SparseInputs} inputs of that, where to list them
   */
  list(units, shift, { pairs }, inputs) {
    const { places, values } = inputs;
    let count = 0;
    for (let n = 0; n < units; n++) {
      const unit = this.at(n) >> shift;
      places[count] = n * pairs;
      values[count] = Math.min(unit, LIMIT);
      count += (0 - unit) >>> 31; // 1 if it is above 0: a jump would be guessed wrong too often
    }
    inputs.count = count;
  }
}

/** A list of the inputs of a layer that are not 0: their values, and where the weights of each begin. */
export class SparseInputs {
  /** @param {number} most how many there can be */
  constructor(most) {
    this.places = new Int32Array(most);
    this.values = new Float64Array(most);
    this.count = 0;
  }
}

/** Integers in, integers out. */
export class PassNetwork {
  /**
   * @param {Layer} first sums for units, then those that go straight to outputs
   * @param {Layer} second
   * @param {Layer} output
   */
  constructor(first, second, output) {
    this.first = first;
    this.second = second;
    this.output = output;
    this._open = new SparseInputs(Math.max(second.inputs, output.inputs));
    /** What `run` gives: locations of the pass's channels, then scales. */
    this.outputs = new Int32Array(output.outputs);
  }

  /**
   * Find the outputs for some inputs.
   * @param {Float64Array} bias of the first layer, in pairs
   * @param {SparseInputs} inputs
   */
  run(bias, inputs) {
    const { first, second, output, outputs, _open: open } = this, units = second.inputs;
    first.sum(bias, inputs);
    first.list(units, HIDDEN_SHIFT, second, open);
    second.sum(second.bias, open);
    second.list(output.inputs, SECOND_SHIFT, output, open);
    output.sum(output.bias, open);
    for (let n = 0; n < outputs.length; n++) outputs[n] = first.at(units + n) + output.at(n);
  }
}

/**
 * Return the network of a prior's pass.
 * @param {import("../assets/npz.js").Arrays} arrays of the prior's file
 * @param {number} number of the pass
 * @param {number[]} limits of the magnitudes of what the network sees, but for the features of the step
 * @throws {BundleError} if an array is missing or of another shape, or if sums might be too large
 */
export function parsePassNetwork(arrays, number, limits) {
  const array = (/** @type {string} */ name) => arrayNamed(arrays, `${name}${number}`);
  const first = array("first"), second = array("second"), output = array("output");
  const [outputs, seconds] = output.shape, units = second.shape[1];
  const fits = first.shape[0] === units + outputs && first.shape[1] === limits.length + KNOTS
    && second.shape[0] === seconds;
  if (!fits) throw new BundleError(`the prior's network ${number} has arrays of other shapes`);
  const bias = array("first_bias").values, secondBias = array("second_bias").values, none = new Int32Array(outputs);
  const outputSums = boundsOfSums(output, none, Array(seconds).fill(LIMIT));
  const firstSums = boundsOfSums(first, bias, limits).map((sum, n) => (n < units ? sum : sum + outputSums[n - units]));
  const secondSums = boundsOfSums(second, secondBias, Array(units).fill(LIMIT));
  const isExact = [...firstSums, ...secondSums].every((sum) => sum < MAX_SUM);
  if (!isExact) throw new BundleError(`sums of the prior's network ${number} may be too large`);
  return new PassNetwork(new Layer(first, bias), new Layer(second, secondBias), new Layer(output, none));
}

/**
 * Return bounds on the magnitudes of a layer's sums, those of any part of them, too.
 * @param {import("../assets/npz.js").NumpyArray} matrix
 * @param {import("../assets/npz.js").Integers} bias
 * @param {number[]} limits of the magnitudes of inputs; those behind are features of the step
 */
function boundsOfSums(matrix, bias, limits) {
  return Array.from(bias, (value, output) => Math.abs(value) + boundOfRow(matrix, output, limits));
}

/**
 * @param {import("../assets/npz.js").NumpyArray} matrix
 * @param {number} output
 * @param {number[]} limits
 */
function boundOfRow({ shape: [, inputs], values }, output, limits) {
  const weights = Array.from(values.subarray(output * inputs, (output + 1) * inputs), Math.abs);
  const features = weights.slice(limits.length), pairs = features.slice(1).map((weight, n) => weight + features[n]);
  const largest = FEATURE_LIMIT * Math.max(0, ...pairs);
  return limits.reduce((sum, limit, n) => sum + limit * weights[n], largest);
}
