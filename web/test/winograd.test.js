/** Compares a network with Winograd convolutions to the original, also for sides that are no multiple of a block. */

import assert from "node:assert/strict";
import test from "node:test";
import { InferenceSession, Tensor } from "onnxruntime-web";
import { parseFields } from "../src/networks/onnx.js";
import { withWinograd } from "../src/networks/winograd.js";
import { load } from "./vectors.js";

const CHANNELS = 40, TOLERANCE = 1e-4;

const model = new Uint8Array(await load("bundles/tiny/decoder.onnx")), rewritten = withWinograd(model);
const sessions = await Promise.all([model, rewritten].map((bytes) => InferenceSession.create(bytes)));

for (const [height, width] of [[1, 1], [5, 3], [4, 8], [11, 14]]) {
  test(`withWinograd keeps the decoder's output for ${width}x${height} latents`, async () => {
    const values = Float32Array.from({ length: CHANNELS * height * width }, (_, n) => 2 * Math.sin(n * n));
    const latents = new Tensor("float32", values, [1, CHANNELS, height, width]);
    const inputs = { latents, step: new Tensor("float32", [0.5], [1]) };
    const [expected, actual] = await Promise.all(sessions.map(async (session) => (await session.run(inputs)).pixels));
    assert.deepEqual(actual.dims, expected.dims);
    const pairs = /** @type {Float32Array} */ (actual.data).map((value, n) => value - Number(expected.data[n]));
    assert.ok(pairs.every((difference) => Math.abs(difference) < TOLERANCE));
  });
}

test("parseFields refuses a truncated file with a BundleError", () => {
  assert.throws(() => parseFields(model.subarray(0, model.length - 1)), { name: "BundleError" });
});
