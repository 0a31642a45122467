/** Salvages damaged or truncated vectors. The results must equal the Python decoder's. */

import assert from "node:assert/strict";
import test from "node:test";
import { Assets } from "../src/assets/assets.js";
import { SalvagedLatentReader } from "../src/coding/salvaged_latent_reader.js";
import { DEFAULT_LIMITS } from "../src/format/container.js";
import { salvageFile } from "../src/format/salvage.js";
import { Decoder } from "../src/decoder.js";
import { EXPECTED, Vector, assertAlike, expectedText, load, sha256 } from "./vectors.js";

/**
 * A damaged vector and its expected result: an error, or a digest of symbols and reconstruction offsets with a report
 * of missing tiles. Some have an expected image, and `told`, the report of all missing parts. `make_expected.py` writes
 * these keys.
 * @typedef {{vector: string, length: number, at: number, flip: number, error?: string, sha256?: string, missing?:
 *   string, picture?: string, told?: string}} Case
 */
/** @type {Case[]} */
const CASES = expectedText("partial");

const assets = new Assets(load), decoder = new Decoder({ load });

/** @param {Case} of */
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
    for (const one of CASES.filter(({ vector: name }) => name === vector)) {
      const bytes = await damaged(one), label = JSON.stringify(one);
      if (one.error) {
        await assert.rejects(salvaged(bytes), { name: one.error }, label);
      } else if (one.sha256) {
        const { reader, symbols, reconOffsets } = await salvaged(bytes);
        assert.equal(reader.missingReport, one.missing, label);
        const digest = sha256(Buffer.concat([symbols, reconOffsets ?? []].map(bytesOfArray)));
        assert.equal(digest.slice(0, 16), one.sha256, label);
      }
    }
  });
}

for (const one of CASES.filter(({ picture }) => picture)) {
  test(`Decoder with partial decodes ${one.picture} like Python`, async () => {
    const image = await decoder.decode(await damaged(one), { partial: true });
    assert.equal(image.missing, one.told);
    assertAlike(image, EXPECTED.get(String(one.picture)));
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
