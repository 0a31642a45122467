/** Compares the layers of a prior's networks with plain integer sums, up to the largest possible sums. */

import assert from "node:assert/strict";
import test from "node:test";
import { Layer, SparseInputs } from "../src/priors/pass_network.js";

const MAX_ABS_SUM = 2 ** 24 - 1;

/**
 * Return the outputs of a layer for given inputs.
 * @param {number[][]} matrix
 * @param {number[]} bias
 * @param {number[]} values
 */
function sumsOf(matrix, bias, values) {
  const shape = [matrix.length, values.length];
  const layer = new Layer({ shape, values: Int32Array.from(matrix.flat()) }, Int32Array.from(bias));
  const inputs = new SparseInputs(values.length);
  inputs.places.set(values.map((_, n) => n * layer.pairs));
  inputs.values.set(values);
  inputs.count = values.length;
  layer.sum(layer.bias, inputs);
  return bias.map((_, output) => layer.at(output));
}

test("Layer computes extreme sums exactly in either half of a pair", () => {
  const extremes = [MAX_ABS_SUM, -MAX_ABS_SUM, 0, 1, -1], bias = extremes.flatMap((value) => Array(5).fill(value));
  const matrix = extremes.flatMap(() => extremes.map((value) => [value]));
  const zeros = Array(bias.length).fill(0);
  assert.deepEqual(sumsOf(matrix, zeros, [1]), matrix.flat());
  assert.deepEqual(sumsOf(matrix, zeros, [-1]), matrix.flat().map((value) => 0 - value));
  assert.deepEqual(sumsOf(matrix, bias, [0]), bias);
});

test("Layer sums many inputs like plain integer arithmetic", () => {
  const value = (/** @type {number} */ n) => ((n * 7919) % 2047) - 1023;
  const inputs = Array.from({ length: 30 }, (_, n) => value(n));
  const matrix = Array.from({ length: 37 }, (_, row) => inputs.map((_, n) => value(31 * row + n + 5) >> 2));
  const bias = matrix.map((_, row) => value(row));
  const expected = matrix.map((row, n) => row.reduce((sum, weight, k) => sum + weight * inputs[k], bias[n]));
  assert.deepEqual(sumsOf(matrix, bias, inputs), expected);
});
