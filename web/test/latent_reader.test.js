/** Decodes vectors to symbols, which must be bit-exact. */

import assert from "node:assert/strict";
import test from "node:test";
import { Assets } from "../src/assets/assets.js";
import { LatentReader } from "../src/coding/latent_reader.js";
import { DEFAULT_LIMITS, readFile } from "../src/format/container.js";
import { NetworkPrior } from "../src/priors/network_prior.js";
import { WHOLE, WRONG, load, modelOf, sha256 } from "./vectors.js";

const assets = new Assets(load);

for (const vector of WHOLE) {
  test(`LatentReader decodes ${vector.name}`, async () => {
    const expect = await vector.expect(), file = readFile(await vector.input());
    const reader = await LatentReader.open(file, assets, DEFAULT_LIMITS, await modelOf(expect));
    if (reader.isPalette) {
      assert.deepEqual(await reader.latents(), await vector.array("latents.npy"));
      return;
    }
    const { symbols, reconOffsets } = reader.decoded();
    assert.deepEqual(symbols, await vector.array("symbols.npy"));
    assert.equal(sha256(symbols), expect.symbols_sha256);
    assert.equal(reconOffsets !== null, vector.has("points.npy"));
    if (reconOffsets) assert.deepEqual(reconOffsets, await vector.array("points.npy"));
  });

  test(`readFile parses the header and chunks of ${vector.name}`, async () => {
    const { header, layout, chunks_sha256: chunks } = await vector.expect(), file = readFile(await vector.input());
    const { step_code: stepCode, ...rest } = header;
    assert.deepEqual(file.header, { ...rest, stepCode });
    assert.deepEqual(file.layout, { overlay: false, residual: 0, ...layout });
    const digests = [...file.chunks].map(([kind, data]) => [`0x${kind.toString(16).padStart(2, "0")}`, sha256(data)]);
    assert.deepEqual(Object.fromEntries(digests), chunks);
  });
}

for (const vector of WRONG) {
  const { latents } = await vector.expect();
  if (latents !== "whole") continue;
  test(`LatentReader decodes ${vector.name}, whose layers are damaged`, async () => {
    const reader = await LatentReader.open(readFile(await vector.input()), assets, DEFAULT_LIMITS);
    assert.doesNotThrow(() => reader.decoded());
  });
}

test("NetworkPrior refuses invalid predictions", async () => {
  const arrays = await assets.arrays("tiny-1"), text = arrays.get("architecture");
  assert(text);
  for (const [predicted, spacing] of [[1, 64], [true, 0], [true, 256], [true, 8.5], [false, 32]]) {
    const fields = JSON.parse(Buffer.from(text.values).toString());
    Object.assign(fields.passes[0], { predicted, spacing });
    const values = new TextEncoder().encode(JSON.stringify(fields));
    assert.throws(() => new NetworkPrior(new Map(arrays).set("architecture", { ...text, values })), { name: "BundleError" });
  }
});
