/**
 * Reads NumPy's `.npz` files of integer arrays: zip archives of `.npy` files, stored or deflated.
 *
 * The files ship with sdtrt or come with a model, so errors in them are `BundleError`s.
 */

import { BundleError } from "../error.js";

/**
 * @typedef {Int8Array<ArrayBuffer> | Uint8Array<ArrayBuffer> | Int16Array<ArrayBuffer> | Uint16Array<ArrayBuffer>
 *   | Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>} Integers
 */
/** @typedef {{shape: number[], values: Integers}} NumpyArray `values` in row-major order */
/** @typedef {Map<string, NumpyArray>} Arrays */

const END_SIGNATURE = 0x06054b50, ENTRY_SIGNATURE = 0x02014b50;
const END_NBYTES = 22, ENTRY_NBYTES = 46, LOCAL_NBYTES = 30;
const STORED = 0, DEFLATED = 8;
const NPY_MAGIC = "\x93NUMPY\x01\x00";
const MAX_NBYTES = 1 << 26; // of all arrays, uncompressed

/** @type {Record<string, (data: ArrayBuffer) => Integers>} */
const KINDS = {
  "|i1": (data) => new Int8Array(data),
  "|u1": (data) => new Uint8Array(data),
  "<i2": (data) => new Int16Array(data),
  "<u2": (data) => new Uint16Array(data),
  "<i4": (data) => new Int32Array(data),
  "<u4": (data) => new Uint32Array(data),
};

/**
 * Return the arrays of an `.npz` file by name.
 * @param {Uint8Array<ArrayBuffer>} data
 * @returns {Promise<Arrays>}
 * @throws {BundleError} if the file is malformed, or larger than 64 MiB unpacked
 */
export async function readNpz(data) {
  const members = [...membersOf(data)], unpacked = members.reduce((sum, { nbytes }) => sum + nbytes, 0);
  need(unpacked <= MAX_NBYTES, `more than ${MAX_NBYTES} bytes of arrays`);
  return new Map(await Promise.all(members.map(async (member) => {
    const packed = data.subarray(member.start, member.start + member.packedNbytes);
    const bytes = member.method === DEFLATED ? await inflated(packed) : packed;
    need(bytes.length === member.nbytes, `${member.name} does not have its declared length`);
    return /** @type {const} */ ([member.name.replace(/\.npy$/, ""), arrayOf(bytes)]);
  })));
}

/**
 * Return an array by its name.
 * @param {Arrays} arrays
 * @param {string} name
 * @returns {NumpyArray}
 * @throws {BundleError} if it is missing
 */
export function arrayNamed(arrays, name) {
  const array = arrays.get(name);
  if (!array) throw new BundleError(`an .npz file lacks the array ${name}`);
  return array;
}

/**
 * Yield the members in the directory of the archive.
 * @param {Uint8Array<ArrayBuffer>} data
 */
function* membersOf(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const end = data.length - END_NBYTES; // NumPy writes no archive comment
  need(end >= 0 && view.getUint32(end, true) === END_SIGNATURE, "no directory at the end");
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  for (let n = 0; n < count; n++) {
    need(at + ENTRY_NBYTES <= end && view.getUint32(at, true) === ENTRY_SIGNATURE, "a damaged directory");
    const method = view.getUint16(at + 10, true);
    const packedNbytes = view.getUint32(at + 20, true), nbytes = view.getUint32(at + 24, true);
    const nameNbytes = view.getUint16(at + 28, true), local = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(data.subarray(at + ENTRY_NBYTES, at + ENTRY_NBYTES + nameNbytes));
    need(method === STORED || method === DEFLATED, `${name} uses compression method ${method}`);
    need(local + LOCAL_NBYTES <= end, "a damaged directory");
    const start = local + LOCAL_NBYTES + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    need(start + packedNbytes <= end, `${name} is cut short`);
    yield { name, method, start, packedNbytes, nbytes };
    at += ENTRY_NBYTES + nameNbytes + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
}

/**
 * @param {Uint8Array<ArrayBuffer>} packed
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function inflated(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (error) {
    throw new BundleError(`damaged .npz file: ${error}`);
  }
}

/**
 * Parse an `.npy` file.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {NumpyArray}
 */
function arrayOf(bytes) {
  const text = String.fromCharCode(...bytes.subarray(0, 10));
  need(text.startsWith(NPY_MAGIC), "an array of an unsupported version");
  const start = 10 + bytes[8] + 256 * bytes[9];
  const header = new TextDecoder("latin1").decode(bytes.subarray(10, start));
  const fields = /'descr': '(.+?)', 'fortran_order': False, 'shape': \(([\d, ]*)\)/.exec(header);
  need(fields && fields[1] in KINDS, `an array that is not of integers in row-major order: ${header.trim()}`);
  const shape = fields[2].split(",").filter((side) => side.trim()).map(Number);
  const values = KINDS[fields[1]](bytes.slice(start).buffer);
  const size = shape.reduce((product, side) => product * side, 1);
  need(values.length === size, `an array of ${values.length} values, expected ${size}`);
  return { shape, values };
}

/**
 * @param {unknown} condition
 * @param {string} message
 * @returns {asserts condition}
 */
function need(condition, message) {
  if (!condition) throw new BundleError(`damaged .npz file: ${message}`);
}
