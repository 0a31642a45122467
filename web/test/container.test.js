/** The worked example of `docs/format.md`, and files that no vector has. */

import assert from "node:assert/strict";
import test from "node:test";
import { Assets } from "../src/assets/assets.js";
import { LatentReader } from "../src/coding/latent_reader.js";
import { crc32 } from "../src/format/checksum.js";
import { DEFAULT_LIMITS, readFile } from "../src/format/container.js";
import { load } from "./vectors.js";

const EXAMPLE = new Uint8Array(Buffer.from("5344540101010804000847eee9b3ce3068e29e8cc898", "hex"));

/**
 * Return a file with another checksum than it has, the right one.
 * @param {Uint8Array<ArrayBuffer>} file
 */
function sealed(file) {
  const found = file.slice();
  new DataView(found.buffer).setUint32(found.length - 4, crc32(found.subarray(0, -4)), true);
  return found;
}

test("the worked example", async () => {
  const reader = await LatentReader.open(readFile(EXAMPLE), new Assets(load), DEFAULT_LIMITS);
  assert.deepEqual(reader.shape, [40, 1, 2]);
  const found = [...reader.decoded().symbols].flatMap((symbol, n) => (symbol ? [[n >> 1, n & 1, symbol]] : []));
  assert.deepEqual(found, [[0, 0, -7], [0, 1, 3], [1, 1, 2], [5, 1, -1], [28, 0, 1]]);
});

test("a number that is longer than it needs to be", () => {
  const file = new Uint8Array([...EXAMPLE.subarray(0, 6), 0x88, 0x00, ...EXAMPLE.subarray(7)]);
  assert.throws(() => readFile(sealed(file)), { name: "FormatError", message: /longer than it needs/ });
});

test("an unknown flag", () => {
  const file = EXAMPLE.slice();
  file[3] |= 0x80;
  assert.throws(() => readFile(sealed(file)), { name: "FormatError", message: /later version/ });
});

test("a file of every length that is too short", () => {
  for (let n = 0; n < EXAMPLE.length; n++) assert.throws(() => readFile(EXAMPLE.slice(0, n)), { name: "FormatError" });
});

test("what the loading of files throws is passed on", async () => {
  const assets = new Assets(() => Promise.reject(new Error("not there")));
  await assert.rejects(LatentReader.open(readFile(EXAMPLE), assets, DEFAULT_LIMITS), { message: "not there" });
});
