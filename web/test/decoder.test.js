/** Vectors to images, which must be those of the Python decoder but for what networks differ by. */

import assert from "node:assert/strict";
import test from "node:test";
import { Decoder } from "../src/decoder.js";
import { EXPECTED, WHOLE, WRONG, assertAlike, expectedText, load } from "./vectors.js";

const SCALE = 8;

const decoder = new Decoder({ load });

/** @param {string} name */
function vectorNamed(name) {
  const vector = WHOLE.find((one) => one.name === name);
  assert.ok(vector);
  return vector.input();
}

for (const vector of WHOLE.filter(({ name }) => EXPECTED.has(name))) {
  test(`image of ${vector.name}`, async () => {
    assertAlike(await decoder.decode(await vector.input()), EXPECTED.get(vector.name));
  });

  test(`preview of ${vector.name}`, async () => {
    assertAlike(await decoder.preview(await vector.input(), SCALE), EXPECTED.get(`${vector.name}.preview`));
  });
}

for (const vector of WRONG) {
  test(`${vector.name} is refused`, async () => {
    const { error } = await vector.expect();
    await assert.rejects(decoder.decode(await vector.input()), { name: error });
  });
}

test("a region is the crop of the whole", async () => {
  const bytes = await vectorNamed("tiny_tiles"), region = { left: 250, top: 240, width: 37, height: 29 };
  const whole = await decoder.decode(bytes), part = await decoder.decode(bytes, { region });
  const crop = new Uint8ClampedArray(part.data.length);
  for (let y = 0; y < region.height; y++) {
    const from = 4 * ((region.top + y) * whole.width + region.left);
    crop.set(whole.data.subarray(from, from + 4 * region.width), 4 * y * region.width);
  }
  assertAlike(part, { shape: [region.height, region.width, 4], values: new Uint8Array(crop) });
});

test("a region beyond the image is a RangeError", async () => {
  const bytes = await vectorNamed("tiny_grey");
  await assert.rejects(decoder.decode(bytes, { region: { left: 20, top: 0, width: 5, height: 1 } }), RangeError);
});

test("a preview at another scale than the profile knows is the mean of the image", async () => {
  const { width, height, data } = await decoder.preview(await vectorNamed("tiny_odd_size"), 1000);
  assert.deepEqual([width, height, data.length], [1, 1, 4]);
});

test("a file of another latent space has no decoder", async () => {
  await assert.rejects(decoder.decode(await vectorNamed("sd1_1x1")), { name: "BundleError" });
  await assert.rejects(decoder.decode(await vectorNamed("model_prior")), { name: "BundleError" });
});

test("a network is asked for before the prior, for a preview after it if a image is to follow", async () => {
  const bytes = await vectorNamed("tiny_odd_size"), network = "bundles/tiny/decoder.onnx", prior = "priors/tiny-1.npz";
  const asked = /** @type {string[]} */ ([]);
  const told = () => new Decoder({ load: (path) => (asked.push(path), load(path)) });
  await told().decode(bytes);
  assert.ok(asked.indexOf(network) >= 0 && asked.indexOf(network) < asked.indexOf(prior));
  asked.length = 0;
  await told().preview(bytes, SCALE);
  assert.ok(!asked.includes(network));
  const decoder = told();
  await decoder.preview(bytes, SCALE, { ahead: true });
  assert.ok(asked.indexOf(network) > asked.lastIndexOf(prior));
  await decoder.decode(bytes);
  assert.equal(asked.filter((path) => path === network).length, 1);
});

test("a network that cannot be loaded fails the image, not the preview before it", async () => {
  const bytes = await vectorNamed("tiny_odd_size");
  const decoder = new Decoder({ load: async (path) => {
    if (path.startsWith("bundles/")) throw new Error(`${path} is not there`);
    return load(path);
  } });
  await decoder.preview(bytes, SCALE, { ahead: true });
  await assert.rejects(decoder.decode(bytes), /is not there/);
});

test("limits are arguments", async () => {
  const bytes = await vectorNamed("tiny_odd_size");
  await assert.rejects(decoder.decode(bytes, { limits: { maxPixels: 61 * 43 - 1 } }), { name: "LimitError" });
  for (const maxPixels of [undefined, NaN]) { // no number is no limit that a file could keep to
    await assert.rejects(decoder.info(bytes, { limits: { maxPixels } }), { name: "LimitError" });
  }
});

test("what a file says of its image", async () => {
  const info = await decoder.info(await vectorNamed("tiny_alpha"));
  assert.deepEqual([info.width, info.height, info.alpha, info.latentSpace], [30, 20, true, "tiny"]);
  assert.equal(info.quality?.toFixed(1), "90.5");
  assert.equal((await decoder.info(await vectorNamed("layers_tiles_alpha"))).quality?.toFixed(1), "99.6");
  assert.equal((await decoder.info(await vectorNamed("residual_coarse"))).quality?.toFixed(1), "-105.8");
  assert.equal((await decoder.info(await vectorNamed("sd1_palette"))).method, "palette");
});

test("where bytes go, and of what kinds metadata is, is told as Python does", async () => {
  const told = expectedText("spent");
  for (const vector of WHOLE) {
    const { spent, metadata } = await decoder.info(await vector.input());
    assert.deepEqual(spent, told[vector.name], vector.name);
    assert.equal(metadata.length > 0, spent.metadata > 0, vector.name);
  }
  assert.deepEqual((await decoder.info(await vectorNamed("tiny_chunks"))).metadata, ["text"]);
});

test("any byte of a file that is changed is noticed", async () => {
  const bytes = await vectorNamed("tiny_grey");
  for (let n = 0; n < bytes.length; n++) {
    const damaged = bytes.slice();
    damaged[n] ^= 1 << (n % 8);
    await assert.rejects(decoder.info(damaged), { name: "FormatError" });
  }
});
