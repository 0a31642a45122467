/** Reads and writes parts of ONNX models, which are protobuf messages: fields of numbers, strings and messages. */

import { BundleError } from "../error.js";
import { concatBytes } from "../format/bytes.js";

/** A field of a message: its number, its value, and all its bytes. */
/** @typedef {{number: number, value: number | Uint8Array, bytes: Uint8Array}} Field */
/** @typedef {{inputs: string[], outputs: string[], operator: string, attributes: Map<string, number[]>}} Node */

const VARINT = 0, FIXED_64 = 1, LENGTH = 2, FIXED_32 = 5;
const FLOAT32 = 1, INT64 = 7, INT = 2, INTS = 7;
/** Field numbers, by message name, from the ONNX protobuf definition. */
export const MODEL = { graph: 7 }, GRAPH = { node: 1, initializer: 5 };
const NODE = { input: 1, output: 2, name: 3, operator: 4, attribute: 5 };
const ATTRIBUTE = { name: 1, int: 3, ints: 8, type: 20 };
const TENSOR = { dims: 1, type: 2, name: 8, data: 9 };

/**
 * Parse the fields of a message.
 * @param {Uint8Array} message
 * @returns {Field[]}
 * @throws {BundleError} if it is malformed
 */
export function parseFields(message) {
  const fields = [];
  for (let at = 0; at < message.length;) {
    const start = at, key = varintAt(message, at), kind = key.value % 8;
    at = key.end;
    if (kind === VARINT) {
      const { value, end } = varintAt(message, at);
      fields.push({ number: key.value >> 3, value, bytes: message.subarray(start, (at = end)) });
      continue;
    }
    const length = kind === LENGTH ? varintAt(message, at) : { value: kind === FIXED_64 ? 8 : 4, end: at };
    at = length.end + length.value;
    const isKnown = [FIXED_64, LENGTH, FIXED_32].includes(kind) && at <= message.length;
    if (!isKnown) throw new BundleError("damaged ONNX file");
    const value = message.subarray(length.end, at);
    fields.push({ number: key.value >> 3, value, bytes: message.subarray(start, at) });
  }
  return fields;
}

/**
 * Serialize a field.
 * @param {number} number
 * @param {number | string | Uint8Array} value
 */
export function field(number, value) {
  if (typeof value === "number") return concatBytes([varint(8 * number + VARINT), varint(value)]);
  const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
  return concatBytes([varint(8 * number + LENGTH), varint(bytes.length), bytes]);
}

/**
 * Parse a node. Of its attributes only integers are kept.
 * @param {Field} node
 * @returns {Node}
 */
export function parseNode(node) {
  const fields = parseFields(bytesOf(node)), attributes = fields.filter(({ number }) => number === NODE.attribute);
  return {
    inputs: stringsOf(fields, NODE.input),
    outputs: stringsOf(fields, NODE.output),
    operator: stringsOf(fields, NODE.operator)[0],
    attributes: new Map(attributes.map((attribute) => {
      const parts = parseFields(bytesOf(attribute));
      return [stringsOf(parts, ATTRIBUTE.name)[0], numbersOf(parts, [ATTRIBUTE.int, ATTRIBUTE.ints])];
    })),
  };
}

/**
 * Parse the name and the shape of a tensor.
 * @param {Field} tensor
 * @returns {[name: string, shape: number[]]}
 */
export function parseTensor(tensor) {
  const fields = parseFields(bytesOf(tensor));
  return [stringsOf(fields, TENSOR.name)[0], numbersOf(fields, [TENSOR.dims])];
}

/**
 * Serialize a node as a field of a graph.
 * @param {string} operator
 * @param {string[]} inputs
 * @param {string} output also the node's name
 * @param {Record<string, number | number[]>} [attributes]
 */
export function node(operator, inputs, output, attributes = {}) {
  const serialized = Object.entries(attributes).map(([name, value]) => concatBytes([
    field(ATTRIBUTE.name, name),
    ...(Array.isArray(value) ? value.map((item) => field(ATTRIBUTE.ints, item)) : [field(ATTRIBUTE.int, value)]),
    field(ATTRIBUTE.type, Array.isArray(value) ? INTS : INT),
  ]));
  return field(GRAPH.node, concatBytes([
    ...inputs.map((name) => field(NODE.input, name)), field(NODE.output, output), field(NODE.name, output),
    field(NODE.operator, operator), ...serialized.map((attribute) => field(NODE.attribute, attribute)),
  ]));
}

/**
 * Serialize a constant as a field of a graph.
 * @param {string} name
 * @param {number[]} shape
 * @param {Float32Array | BigInt64Array} values
 */
export function constant(name, shape, values) {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return field(GRAPH.initializer, concatBytes([
    ...shape.map((side) => field(TENSOR.dims, side)),
    field(TENSOR.type, values instanceof Float32Array ? FLOAT32 : INT64),
    field(TENSOR.name, name),
    field(TENSOR.data, data),
  ]));
}

/**
 * Return the bytes of a field that has a length.
 * @param {Field} field
 */
export function bytesOf({ value }) {
  if (typeof value === "number") throw new BundleError("damaged ONNX file");
  return value;
}

/**
 * @param {Field[]} fields
 * @param {number} number
 */
function stringsOf(fields, number) {
  const matching = fields.filter((field) => field.number === number);
  return matching.map((field) => new TextDecoder().decode(bytesOf(field)));
}

/**
 * @param {Field[]} fields
 * @param {number[]} numbers
 * @returns {number[]}
 */
function numbersOf(fields, numbers) {
  return fields.flatMap(({ number, value }) => (numbers.includes(number) && typeof value === "number" ? [value] : []));
}

/**
 * @param {Uint8Array} data
 * @param {number} at
 */
function varintAt(data, at) {
  let value = 0, end = at;
  for (let factor = 1; ; factor *= 128) {
    const byte = data[end++];
    value += (byte & 0x7f) * factor;
    if (!(byte & 0x80)) return { value, end };
  }
}

/** @param {number} value at least 0, exact in a double */
function varint(value) {
  const bytes = [];
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Uint8Array.from([...bytes, rest]);
}
