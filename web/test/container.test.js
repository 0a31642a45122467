/** The worked example of `docs/format.md`, and malformed files that are not among the vectors. */

import assert from "node:assert/strict";
import test from "node:test";
import { Assets } from "../src/assets/assets.js";
import { LatentReader } from "../src/coding/latent_reader.js";
import { crc32 } from "../src/format/checksum.js";
import { DEFAULT_LIMITS, readFile } from "../src/format/container.js";
import { load } from "./vectors.js";

const EXAMPLE = new Uint8Array(Buffer.from("5344540101010804000847eee9b3ce3068e29e8cc898", "hex"));

/**
 * Return a copy of a file with a correct checksum.
 * @param {Uint8Array<ArrayBuffer>} file
 */
function withChecksum(file) {
  const copy = file.slice();
  new DataView(copy.buffer).setUint32(copy.length - 4, crc32(copy.subarray(0, -4)), true);
  return copy;
}

test("LatentReader decodes the worked example of the format", async () => {
  const reader = await LatentReader.open(readFile(EXAMPLE), new Assets(load), DEFAULT_LIMITS);
  assert.deepEqual(reader.shape, [40, 1, 2]);
  const nonZero = [...reader.decoded().symbols].flatMap((symbol, n) => (symbol ? [[n >> 1, n & 1, symbol]] : []));
  assert.deepEqual(nonZero, [[0, 0, -7], [0, 1, 3], [1, 1, 2], [5, 1, -1], [28, 0, 1]]);
});

test("readFile refuses a number with superfluous bytes", () => {
  const file = new Uint8Array([...EXAMPLE.subarray(0, 6), 0x88, 0x00, ...EXAMPLE.subarray(7)]);
  assert.throws(() => readFile(withChecksum(file)), { name: "FormatError", message: /longer than necessary/ });
});

test("readFile refuses an unknown flag", () => {
  const file = EXAMPLE.slice();
  file[3] |= 0x80;
  assert.throws(() => readFile(withChecksum(file)), { name: "FormatError", message: /later version/ });
});

test("readFile refuses every truncated length", () => {
  for (let n = 0; n < EXAMPLE.length; n++) assert.throws(() => readFile(EXAMPLE.slice(0, n)), { name: "FormatError" });
});

test("LatentReader.open passes on errors of load", async () => {
  const assets = new Assets(() => Promise.reject(new Error("not there")));
  await assert.rejects(LatentReader.open(readFile(EXAMPLE), assets, DEFAULT_LIMITS), { message: "not there" });
});
