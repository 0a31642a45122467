/** Salvages damaged or truncated vectors. The results must equal the Python decoder's. */

import assert from "node:assert/strict";
import test from "node:test";
import { Assets } from "../src/assets/assets.js";
import { SalvagedLatentReader } from "../src/coding/salvaged_latent_reader.js";
import { Decoder } from "../src/decoder.js";
import { DEFAULT_LIMITS } from "../src/format/container.js";
import { salvageFile } from "../src/format/salvage.js";
import { EXPECTED, Vector, assertAlike, expectedText, load, sha256 } from "./vectors.js";

/**
 * A damaged vector and its expected result: an error, or a digest of symbols and reconstruction offsets with a report
 * of missing tiles. Some have an expected image, and a report of all missing parts.
 * @typedef {{vector: string, length: number, at: number, flip: number, error?: string, sha256?: string,
 *   missing?: string, image?: string, report?: string}} Case
 */
/** @type {Case[]} */
const CASES = expectedText("partial");

const assets = new Assets(load), decoder = new Decoder({ load });

/** @param {Case} damage */
async function damaged({ vector, length, at, flip }) {
  const bytes = (await new Vector(vector).input()).slice(0, length);
  bytes[at] ^= flip;
  return bytes;
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
async function salvaged(bytes) {
  const reader = await SalvagedLatentReader.open(salvageFile(bytes), assets, DEFAULT_LIMITS);
  return { reader, ...reader.decoded() };
}

for (const vector of new Set(CASES.map(({ vector: name }) => name))) {
  test(`SalvagedLatentReader decodes damaged files of ${vector} like Python`, async () => {
    for (const testCase of CASES.filter(({ vector: name }) => name === vector)) {
      const bytes = await damaged(testCase), label = JSON.stringify(testCase);
      if (testCase.error) {
        await assert.rejects(salvaged(bytes), { name: testCase.error }, label);
      } else if (testCase.sha256) {
        const { reader, symbols, reconOffsets } = await salvaged(bytes);
        assert.equal(reader.missingReport, testCase.missing, label);
        const digest = sha256(Buffer.concat([symbols, reconOffsets ?? []].map(bytesOfArray)));
        assert.equal(digest.slice(0, 16), testCase.sha256, label);
      }
    }
  });
}

for (const testCase of CASES.filter(({ image }) => image)) {
  test(`Decoder with partial decodes ${testCase.image} like Python`, async () => {
    const image = await decoder.decode(await damaged(testCase), { partial: true });
    assert.equal(image.missing, testCase.report);
    assertAlike(image, EXPECTED.get(String(testCase.image)));
  });
}

test("Decoder with partial reports nothing missing in an undamaged file", async () => {
  const bytes = await new Vector("layers_tiles_alpha").input();
  const { missing, ...whole } = await decoder.decode(bytes, { partial: true });
  assert.equal(missing, "");
  assert.deepEqual(whole, await decoder.decode(bytes));
});

test("Decoder refuses partial together with a region", async () => {
  const options = { partial: true, region: { left: 0, top: 0, width: 1, height: 1 } };
  await assert.rejects(decoder.decode(await new Vector("tiny_grey").input(), options), TypeError);
});

/** @param {Int16Array | Int32Array | never[]} array */
function bytesOfArray(array) {
  return Array.isArray(array) ? Buffer.alloc(0) : Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}
