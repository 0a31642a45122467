/**
 * The network of one pass of a prior: two hidden layers, plus direct connections from the inputs to the outputs.
 *
 * The magnitude of every partial sum stays below 2^24. Two sums therefore fit one double exactly, one of them scaled by
 */

import { arrayNamed } from "../assets/npz.js";
import { BundleError } from "../error.js";

/** Magnitude limit of latents in 1/64 of a normalised unit, and of hidden units. */
export const LIMIT = 1023;
/**
 * Size of the step embedding, whose values are the last inputs, and the limit of each value. At most two neighbouring
 * values are not 0.
 */
export const KNOTS = 17, FEATURE_LIMIT = 127;
const PAIR = 2 ** 26, MAX_SUM = 2 ** 24;
const BLOCK = 8; // pairs whose sums are computed together
/**
 * An offset added to each pair of sums. It aligns the last bit of the pair with the last bit of its double, and makes
 * the lower sum positive by adding 2^25.
 */
const BASE = 1.5 * 2 ** 52 + PAIR / 2;
const HIDDEN_SHIFT = 6, SECOND_SHIFT = 9;

/** A matrix and a bias. Pair n holds the outputs n and n + `pairs`. Zeros fill up the last block of pairs. */
export class Layer {
  /**
   * @param {import("../assets/npz.js").NumpyArray} matrix one row for each output
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
    /** Results of `sum`, in pairs. `_bits` views each pair as two integers, the lower first. */
    this.sums = new Float64Array(this.pairs);
    this._bits = new Int32Array(this.sums.buffer);
    /**
     * The pairs of weights of each input. V8 reads plain arrays twice as fast as typed arrays, which need more checks.
     */
    this.weights = Array.from(weights);
  }

  /**
   * Compute the sums: the bias plus the contributions of some inputs. The sums of a block of pairs stay in registers.
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
   * Return the sum of an output. It uses integer operations because conversions from doubles are slow.
   * @param {number} output
   */
  at(output) {
    const { pairs, _bits: bits } = this;
    if (output < pairs) return (bits[2 * output] & (PAIR - 1)) - PAIR / 2;
    const pair = 2 * (output - pairs);
    return ((bits[pair + 1] << 13) >> 7) | (bits[pair] >>> 26);
  }

  /**
   * List the hidden units that are not 0 as inputs of the next layer.
   * @param {number} units number of hidden units, the first outputs of this layer
   * @param {number} shift
   * @param {Layer} next
   * @param {SparseInputs} inputs receives the list
   */
  list(units, shift, { pairs }, inputs) {
    const { places, values } = inputs;
    let count = 0;
    for (let n = 0; n < units; n++) {
      const unit = this.at(n) >> shift;
      places[count] = n * pairs;
      values[count] = Math.min(unit, LIMIT);
      count += (0 - unit) >>> 31; // 1 if the unit is positive; a branch would often be mispredicted
    }
    inputs.count = count;
  }
}

/** The inputs of a layer that are not 0: their values, and the index of the first weight of each. */
export class SparseInputs {
  /** @param {number} most maximum number of inputs */
  constructor(most) {
    this.places = new Int32Array(most);
    this.values = new Float64Array(most);
    this.count = 0;
  }
}

/** A network of integer arithmetic. */
export class PassNetwork {
  /**
   * @param {Layer} first sums of the hidden units, then of the direct connections to the outputs
   * @param {Layer} second
   * @param {Layer} output
   */
  constructor(first, second, output) {
    this.first = first;
    this.second = second;
    this.output = output;
    this._active = new SparseInputs(Math.max(second.inputs, output.inputs));
    /** Outputs of `run`: the locations of the pass's channels, then the scales. */
    this.outputs = new Int32Array(output.outputs);
  }

  /**
   * Compute the outputs.
   * @param {Float64Array} bias of the first layer, in pairs
   * @param {SparseInputs} inputs
   */
  run(bias, inputs) {
    const { first, second, output, outputs, _active: active } = this, units = second.inputs;
    first.sum(bias, inputs);
    first.list(units, HIDDEN_SHIFT, second, active);
    second.sum(second.bias, active);
    second.list(output.inputs, SECOND_SHIFT, output, active);
    output.sum(output.bias, active);
    for (let n = 0; n < outputs.length; n++) outputs[n] = first.at(units + n) + output.at(n);
  }
}

/**
 * Build the network of a pass from the arrays of a prior's file.
 * @param {import("../assets/npz.js").Arrays} arrays of the prior's file
 * @param {number} number of the pass
 * @param {number[]} limits of the magnitudes of the inputs, without the step embedding
 * @throws {BundleError} if an array is missing or has another shape, or if sums may reach 2^24
 */
export function parsePassNetwork(arrays, number, limits) {
  const array = (/** @type {string} */ name) => arrayNamed(arrays, `${name}${number}`);
  const first = array("first"), second = array("second"), output = array("output");
  const [outputs, seconds] = output.shape, units = second.shape[1];
  const fits = first.shape[0] === units + outputs && first.shape[1] === limits.length + KNOTS
    && second.shape[0] === seconds;
  if (!fits) throw new BundleError(`malformed prior: network ${number} has arrays of other shapes`);
  const bias = array("first_bias").values, secondBias = array("second_bias").values, none = new Int32Array(outputs);
  const outputSums = boundsOfSums(output, none, Array(seconds).fill(LIMIT));
  const firstSums = boundsOfSums(first, bias, limits).map((sum, n) => (n < units ? sum : sum + outputSums[n - units]));
  const secondSums = boundsOfSums(second, secondBias, Array(units).fill(LIMIT));
  const isExact = [...firstSums, ...secondSums].every((sum) => sum < MAX_SUM);
  if (!isExact) throw new BundleError(`malformed prior: sums of network ${number} may reach 2^24`);
  return new PassNetwork(new Layer(first, bias), new Layer(second, secondBias), new Layer(output, none));
}

/**
 * Return bounds on the magnitudes of a layer's sums, including all partial sums.
 * @param {import("../assets/npz.js").NumpyArray} matrix
 * @param {import("../assets/npz.js").Integers} bias
 * @param {number[]} limits of the magnitudes of the inputs; the inputs after them are the step embedding
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
