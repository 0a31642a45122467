/**
 * Convolutions of 3 x 3 by Winograd's way, F(4 x 4, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural
 * Networks" (2015): a quarter of the products, which ONNX Runtime's WebAssembly spends nearly all its time on.
 *
 * BlockContexts of 6 x 6 inputs become 36 sums each, which are convolved by themselves, and become 4 x 4 outputs. The model is
 * rewritten in operators that say so; results differ by rounding alone.
 */

import { concatBytes } from "../format/bytes.js";
import { GRAPH, MODEL, bytesOf, constant, field, parseFields, node, parseNode, parseTensor } from "./onnx.js";

const TAPS = 3, IN = 6, OUT = 4, SUMS = IN * IN;
const MIN_CHANNELS = 32; // with fewer, blocks cost more than products

const INPUT = [
  [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
  [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
];
const WEIGHTS = [
  [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
  [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
];
const OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]];

/** Constants that all convolutions share. */
const SHARED = [
  constant("winograd.input", [SUMS, 1, IN, IN], products(INPUT)),
  constant("winograd.weights", [SUMS, TAPS * TAPS], products(WEIGHTS)),
  constant("winograd.output", [SUMS, 1, OUT, OUT], products(OUTPUT[0].map((_, n) => OUTPUT.map((row) => row[n])))),
  constant("winograd.zeros", [2], BigInt64Array.of(0n, 0n)),
  constant("winograd.plane", [2], BigInt64Array.of(2n, 3n)),
];

/**
 * Return a model for batches of one, with such convolutions instead of its own.
 * @param {Uint8Array} model
 * @throws {import("../error.js").BundleError} if it is damaged
 */
export function withWinograd(model) {
  return concatBytes(parseFields(model).map((one) => {
    return one.number === MODEL.graph ? field(MODEL.graph, convertGraph(bytesOf(one))) : one.bytes;
  }));
}

/** @param {Uint8Array} graph */
function convertGraph(graph) {
  const fields = parseFields(graph);
  const shapes = new Map(fields.filter(({ number }) => number === GRAPH.initializer).map(parseTensor));
  const parts = fields.map((one) => {
    if (one.number !== GRAPH.node) return one.bytes;
    const found = parseNode(one), shape = shapes.get(found.inputs[found.operator === "Conv" ? 1 : 0]);
    if (found.operator === "Cast" && shape) shapes.set(found.outputs[0], shape);
    return shape && isConvertible(found, shape) ? convolution(found, shape) : one.bytes;
  });
  return concatBytes([...parts, ...SHARED]);
}

/**
 * Return whether a node is a convolution of 3 x 3, its plane as large as it was, of enough channels.
 * @param {import("./onnx.js").Node} node
 * @param {number[]} shape of its weights
 */
function isConvertible({ operator, attributes }, [outputs, inputs, ...kernel]) {
  const isAll = (/** @type {string} */ name, /** @type {number} */ value) =>
    (attributes.get(name) ?? [1]).every((one) => one === value);
  return operator === "Conv" && Math.min(outputs, inputs) >= MIN_CHANNELS && kernel.every((side) => side === TAPS)
    && attributes.has("pads") && ["pads", "strides", "dilations", "group"].every((name) => isAll(name, 1));
}

/**
 * Return the nodes of a convolution, with constants of their own.
 * @param {import("./onnx.js").Node} node
 * @param {number[]} shape of its weights
 */
function convolution({ inputs: [input, weights, ...bias], outputs: [result] }, [outputs, inputs]) {
  const name = (/** @type {string} */ part) => `${result}.${part}`;
  const sizes = (/** @type {string} */ part, /** @type {number[]} */ ...values) =>
    constant(name(part), [values.length], BigInt64Array.from(values, BigInt));
  return concatBytes([
    sizes("rows", outputs * inputs, TAPS * TAPS),
    sizes("each", SUMS, outputs, inputs),
    sizes("inputs", inputs, 1, 1, 1),
    sizes("outputs", outputs, 1, 1, 1),
    sizes("split", inputs, SUMS, -1),
    sizes("channels", 1, SUMS * outputs),
    node("Reshape", [weights, name("rows")], name("weights.rows")),
    node("Transpose", [name("weights.rows")], name("weights.taps"), { perm: [1, 0] }),
    node("MatMul", ["winograd.weights", name("weights.taps")], name("weights.sums")),
    node("Reshape", [name("weights.sums"), name("each")], name("weights")),
    node("Tile", ["winograd.input", name("inputs")], name("input.kernels")),
    node("Tile", ["winograd.output", name("outputs")], name("output.kernels")),
    // Padded by what a last block may lack, too; of a padding that no block reaches nothing is computed.
    node("Conv", [input, name("input.kernels")], name("blocks"),
      { group: inputs, strides: [OUT, OUT], kernel_shape: [IN, IN], pads: [1, 1, OUT, OUT] }),
    node("Reshape", [name("blocks"), name("split")], name("blocks.split")),
    node("Transpose", [name("blocks.split")], name("blocks.sums"), { perm: [1, 0, 2] }),
    node("MatMul", [name("weights"), name("blocks.sums")], name("sums")),
    node("Transpose", [name("sums")], name("sums.channels"), { perm: [1, 0, 2] }),
    node("Shape", [name("blocks")], name("blocks.plane"), { start: 2 }),
    node("Concat", [name("channels"), name("blocks.plane")], name("sums.shape"), { axis: 0 }),
    node("Reshape", [name("sums.channels"), name("sums.shape")], name("sums.plane")),
    node("ConvTranspose", [name("sums.plane"), name("output.kernels"), ...bias], name("whole"),
      { group: outputs, strides: [OUT, OUT], kernel_shape: [OUT, OUT] }),
    node("Shape", [input], name("plane"), { start: 2 }),
    node("Slice", [name("whole"), "winograd.zeros", name("plane"), "winograd.plane"], result),
  ]);
}

/**
 * Return the products of all rows with all rows, in each of all elements with all elements.
 * @param {number[][]} rows
 */
function products(rows) {
  const pairs = rows.flatMap((down) => rows.map((across) => ({ down, across })));
  return Float32Array.from(pairs.flatMap(({ down, across }) => down.flatMap((y) => across.map((x) => y * x))));
}
