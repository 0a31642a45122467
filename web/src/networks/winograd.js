/**
 * Winograd convolutions, F(4 x 4, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
 * They need a quarter of the multiplications of 3 x 3 convolutions, on which ONNX Runtime's WebAssembly build spends
 * nearly all of its time.
 *
 * Each block of 6 x 6 inputs is transformed to 36 values. The values are multiplied with the transformed weights, and
 * transformed back to 4 x 4 outputs. The model is rewritten with standard operators. Results differ by rounding only.
 */

import { concatBytes } from "../format/bytes.js";
import { GRAPH, MODEL, bytesOf, constant, field, node, parseFields, parseNode, parseTensor } from "./onnx.js";

const TAPS = 3, IN = 6, OUT = 4, SUMS = IN * IN;
const MIN_CHANNELS = 32; // with fewer, the transforms cost more than they save

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
 * Return a model for batch size 1 whose 3 x 3 convolutions are replaced.
 * @param {Uint8Array} model
 * @throws {import("../error.js").BundleError} if the model is damaged
 */
export function withWinograd(model) {
  return concatBytes(parseFields(model).map((part) => {
    return part.number === MODEL.graph ? field(MODEL.graph, convertGraph(bytesOf(part))) : part.bytes;
  }));
}

/** @param {Uint8Array} graph */
function convertGraph(graph) {
  const fields = parseFields(graph);
  const shapes = new Map(fields.filter(({ number }) => number === GRAPH.initializer).map(parseTensor));
  const parts = fields.map((part) => {
    if (part.number !== GRAPH.node) return part.bytes;
    const node = parseNode(part), shape = shapes.get(node.inputs[node.operator === "Conv" ? 1 : 0]);
    if (node.operator === "Cast" && shape) shapes.set(node.outputs[0], shape);
    return shape && isConvertible(node, shape) ? convolution(node, shape) : part.bytes;
  });
  return concatBytes([...parts, ...SHARED]);
}

/**
 * Return whether a node is a 3 x 3 convolution of stride 1 that keeps the plane's size and has enough channels.
 * @param {import("./onnx.js").Node} node
 * @param {number[]} shape of its weights
 */
function isConvertible({ operator, attributes }, [outputs, inputs, ...kernel]) {
  const isAll = (/** @type {string} */ name, /** @type {number} */ value) =>
    (attributes.get(name) ?? [1]).every((item) => item === value);
  return operator === "Conv" && Math.min(outputs, inputs) >= MIN_CHANNELS && kernel.every((side) => side === TAPS)
    && attributes.has("pads") && ["pads", "strides", "dilations", "group"].every((name) => isAll(name, 1));
}

/**
 * Return the nodes and constants of a convolution.
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
    // The padding also completes the last block. Padding outside all blocks costs nothing.
    node("Conv", [input, name("input.kernels")], name("blocks"),
      { group: inputs, strides: [OUT, OUT], kernel_shape: [IN, IN], pads: [1, 1, OUT, OUT] }),
    node("Reshape", [name("blocks"), name("split")], name("blocks.split")),
    node("Transpose", [name("blocks.split")], name("blocks.sums"), { perm: [1, 0, 2] }),
    node("MatMul", [name("weights"), name("blocks.sums")], name("sums")),
    node("Transpose", [name("sums")], name("sums.channels"), { perm: [1, 0, 2] }),
    node("Shape", [name("blocks")], name("blocks.plane"), { start: 2 }),
    node("Concat", [name("channels"), name("blocks.plane")], name("sums.shape"), { axis: 0 }),
    node("Reshape", [name("sums.channels"), name("sums.shape")], name("sums.plane")),
    node("ConvTranspose", [name("sums.plane"), name("output.kernels"), ...bias], name("padded"),
      { group: outputs, strides: [OUT, OUT], kernel_shape: [OUT, OUT] }),
    node("Shape", [input], name("plane"), { start: 2 }),
    node("Slice", [name("padded"), "winograd.zeros", name("plane"), "winograd.plane"], result),
  ]);
}

/**
 * Return the Kronecker products of all pairs of rows.
 * @param {number[][]} rows
 */
function products(rows) {
  const pairs = rows.flatMap((down) => rows.map((across) => ({ down, across })));
  return Float32Array.from(pairs.flatMap(({ down, across }) => down.flatMap((y) => across.map((x) => y * x))));
}
