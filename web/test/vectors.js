/** The conformance vectors in `tests/vectors`, and the decoder's files, from this checkout. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { readNpz } from "../src/assets/npz.js";

const ROOT = new URL("../../", import.meta.url);
const VECTORS = new URL("tests/vectors/", ROOT);
const WEBP = new URL("../node_modules/@jsquash/webp/codec/dec/webp_dec.wasm", import.meta.url);

/**
 * Load a file that ships with sdtrt, or the WebP decoder.
 * @param {string} path
 * @returns {Promise<ArrayBuffer>}
 */
export async function load(path) {
  return bytesOf(path === "webp_dec.wasm" ? WEBP : new URL(`engine/data/${path}`, ROOT)).then(({ buffer }) => buffer);
}

/**
 * Return a file's bytes, at the start of their own buffer.
 * @param {URL | string} path
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function bytesOf(path) {
  return new Uint8Array(await readFile(path));
}

/** Results of the Python decoder for the vectors, written by make_expected.py. */
export const EXPECTED = await readNpz(await bytesOf(new URL("expected.npz", import.meta.url)));
const SHARE = 0.999;

/**
 * Return the value of a JSON entry in the expected results.
 * @param {string} name
 * @returns {any}
 */
export function expectedText(name) {
  return JSON.parse(new TextDecoder().decode(EXPECTED.get(name)?.values));
}

/**
 * Fail unless the sizes are equal and nearly all samples differ by at most one level.
 * @param {import("../src/decoder.js").RgbaImage} image
 * @param {import("../src/assets/npz.js").NumpyArray | undefined} expected
 */
export function assertAlike({ width, height, data }, expected) {
  assert.deepEqual([height, width, 4], expected?.shape);
  const near = data.reduce((count, level, n) => count + Number(Math.abs(level - (expected?.values[n] ?? NaN)) <= 1), 0);
  assert.ok(near >= SHARE * data.length, `${data.length - near} of ${data.length} samples are more than one level off`);
}

/** A vector: a folder with `input.sdt`, `expect.json` and expected results. */
export class Vector {
  /** @param {string} name */
  constructor(name) {
    this.name = name;
    this.folder = new URL(`${name}/`, VECTORS);
  }

  /** @param {string} file */
  has(file) {
    return existsSync(new URL(file, this.folder));
  }

  input() {
    return bytesOf(new URL("input.sdt", this.folder));
  }

  /** @returns {Promise<any>} */
  async expect() {
    return JSON.parse(await readFile(new URL("expect.json", this.folder), "utf8"));
  }

  /**
   * Return the values of a NumPy array in row-major order.
   * @param {string} file
   * @returns {Promise<Uint8Array | Int16Array | Int32Array | Float32Array>}
   */
  async array(file) {
    const bytes = await bytesOf(new URL(file, this.folder));
    const start = 10 + bytes[8] + 256 * bytes[9];
    const kind = /'descr': '(.+?)'/.exec(String.fromCharCode(...bytes.subarray(10, start)))?.[1] ?? "";
    const data = bytes.slice(start).buffer;
    if (kind === "<i4") return new Int32Array(data);
    if (kind === "|u1") return new Uint8Array(data);
    return kind === "<i2" ? new Int16Array(data) : new Float32Array(data);
  }
}

const ALL = (await readdir(VECTORS, { withFileTypes: true }))
  .filter((entry) => entry.isDirectory() && entry.name !== "__pycache__")
  .map((entry) => new Vector(entry.name));

/** Valid vectors, and invalid ones that must be refused. */
export const WHOLE = ALL.filter(({ name }) => !name.startsWith("x_"));
export const WRONG = ALL.filter(({ name }) => name.startsWith("x_"));

/**
 * Return the model that a vector's file refers to, undefined for files without one.
 * @param {any} expect
 * @returns {Promise<import("../src/format/profile.js").Model | undefined>}
 */
export async function modelOf({ model }) {
  if (!model) return undefined;
  const profile = new Uint8Array(Buffer.from(model.profile, "hex"));
  return { profile, prior: await bytesOf(new URL(model.prior, ROOT)) };
}

/**
 * @param {NodeJS.ArrayBufferView} data
 * @returns {string} 64 hexadecimal digits
 */
export function sha256(data) {
  return createHash("sha256").update(data).digest("hex");
}
