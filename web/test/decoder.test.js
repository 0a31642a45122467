/** Decodes vectors to images. They must match the Python decoder's within the tolerance of the networks. */

import assert from "node:assert/strict";
import test from "node:test";
import { Decoder } from "../src/decoder.js";
import { EXPECTED, WHOLE, WRONG, assertAlike, expectedText, load } from "./vectors.js";

const SCALE = 8;

const decoder = new Decoder({ load });

/** @param {string} name */
function vectorNamed(name) {
  const vector = WHOLE.find((vector) => vector.name === name);
  assert.ok(vector);
  return vector.input();
}

for (const vector of WHOLE.filter(({ name }) => EXPECTED.has(name))) {
  test(`Decoder decodes ${vector.name} like Python`, async () => {
    assertAlike(await decoder.decode(await vector.input()), EXPECTED.get(vector.name));
  });

  test(`Decoder previews ${vector.name} like Python`, async () => {
    assertAlike(await decoder.preview(await vector.input(), SCALE), EXPECTED.get(`${vector.name}.preview`));
  });
}

for (const [name, look] of /** @type {const} */ ([
  ["tiny_odd_size", "fast"], ["tiny_grey", "fast"],
  ["residual_coarse", "fast"], ["residual", "faithful"], // a fine residual corrects the faithful image
])) {
  test(`Decoder decodes ${name} in the look fast like Python`, async () => {
    const image = await decoder.decode(await vectorNamed(name), { look: "fast" });
    assertAlike(image, EXPECTED.get(`${name}.fast`));
    assert.equal(image.look, look);
  });
}

for (const name of ["tiny_odd_size", "tiny_grey"]) {
  for (const scale of [1, 3]) {
    test(`Decoder previews ${name} at 1/${scale} like Python`, async () => {
      assertAlike(await decoder.preview(await vectorNamed(name), scale), EXPECTED.get(`${name}.preview${scale}`));
    });
  }
}

test("the look of the decoder is the default, and another network is not loaded", async () => {
  const paths = /** @type {string[]} */ ([]), bytes = await vectorNamed("tiny_odd_size");
  const fast = new Decoder({ look: "fast", load: (path) => (paths.push(path), load(path)) });
  assert.equal((await fast.decode(bytes)).look, "fast");
  assert.deepEqual(paths.filter((path) => path.endsWith(".onnx")), ["bundles/tiny/fast.onnx"]);
  assert.equal((await fast.decode(bytes, { look: "faithful" })).look, "faithful");
});

test("an unknown look raises RangeError", async () => {
  const bytes = await vectorNamed("tiny_grey"), look = /** @type {any} */ ("pretty");
  await assert.rejects(decoder.decode(bytes, { look }), RangeError);
  assert.throws(() => new Decoder({ load, look }), RangeError);
});

for (const vector of WRONG) {
  test(`Decoder refuses ${vector.name}`, async () => {
    const { error } = await vector.expect();
    await assert.rejects(decoder.decode(await vector.input()), { name: error });
  });
}

test("a region equals the crop of the image", async () => {
  const bytes = await vectorNamed("tiny_tiles"), region = { left: 250, top: 240, width: 37, height: 29 };
  const whole = await decoder.decode(bytes), part = await decoder.decode(bytes, { region });
  const crop = new Uint8ClampedArray(part.data.length);
  for (let y = 0; y < region.height; y++) {
    const from = 4 * ((region.top + y) * whole.width + region.left);
    crop.set(whole.data.subarray(from, from + 4 * region.width), 4 * y * region.width);
  }
  assertAlike(part, { shape: [region.height, region.width, 4], values: new Uint8Array(crop) });
});

test("a region outside the image raises RangeError", async () => {
  const bytes = await vectorNamed("tiny_grey");
  await assert.rejects(decoder.decode(bytes, { region: { left: 20, top: 0, width: 5, height: 1 } }), RangeError);
});

test("a preview at a scale without a linear preview is the mean of the image", async () => {
  const { width, height, data } = await decoder.preview(await vectorNamed("tiny_odd_size"), 1000);
  assert.deepEqual([width, height, data.length], [1, 1, 4]);
});

test("a file of another latent space raises BundleError", async () => {
  await assert.rejects(decoder.decode(await vectorNamed("sd1_1x1")), { name: "BundleError" });
  await assert.rejects(decoder.decode(await vectorNamed("model_prior")), { name: "BundleError" });
});

test("decode loads the network before the prior, preview with ahead after it", async () => {
  const bytes = await vectorNamed("tiny_odd_size"), network = "bundles/tiny/decoder.onnx", prior = "priors/tiny-1.npz";
  const paths = /** @type {string[]} */ ([]);
  const open = () => new Decoder({ load: (path) => (paths.push(path), load(path)) });
  await open().decode(bytes);
  assert.ok(paths.indexOf(network) >= 0 && paths.indexOf(network) < paths.indexOf(prior));
  paths.length = 0;
  await open().preview(bytes, SCALE);
  assert.ok(!paths.includes(network));
  const decoder = open();
  await decoder.preview(bytes, SCALE, { ahead: true });
  assert.ok(paths.indexOf(network) > paths.lastIndexOf(prior));
  await decoder.decode(bytes);
  assert.equal(paths.filter((path) => path === network).length, 1);
});

test("a missing network fails decode, but not preview", async () => {
  const bytes = await vectorNamed("tiny_odd_size");
  const decoder = new Decoder({ load: async (path) => {
    if (path.startsWith("bundles/")) throw new Error(`${path} is not there`);
    return load(path);
  } });
  await decoder.preview(bytes, SCALE, { ahead: true });
  await assert.rejects(decoder.decode(bytes), /is not there/);
});

test("limits are configurable", async () => {
  const bytes = await vectorNamed("tiny_odd_size");
  await assert.rejects(decoder.decode(bytes, { limits: { maxPixels: 61 * 43 - 1 } }), { name: "LimitError" });
  for (const maxPixels of [undefined, NaN]) { // NaN and undefined refuse every file
    await assert.rejects(decoder.info(bytes, { limits: { maxPixels } }), { name: "LimitError" });
  }
});

test("info returns the properties of files", async () => {
  const info = await decoder.info(await vectorNamed("tiny_alpha"));
  assert.deepEqual([info.width, info.height, info.alpha, info.latentSpace], [30, 20, true, "tiny"]);
  assert.equal(info.quality?.toFixed(1), "90.5");
  assert.equal((await decoder.info(await vectorNamed("layers_tiles_alpha"))).quality?.toFixed(1), "99.6");
  assert.equal((await decoder.info(await vectorNamed("residual_coarse"))).quality?.toFixed(1), "-105.8");
  assert.equal((await decoder.info(await vectorNamed("sd1_palette"))).method, "palette");
});

test("info returns the same bytes by section and metadata as Python", async () => {
  const expected = expectedText("bytes_by_section");
  for (const vector of WHOLE) {
    const { bytesBySection, metadata } = await decoder.info(await vector.input());
    assert.deepEqual(bytesBySection, expected[vector.name], vector.name);
    assert.equal(metadata.length > 0, bytesBySection.metadata > 0, vector.name);
  }
  assert.deepEqual((await decoder.info(await vectorNamed("tiny_chunks"))).metadata, ["text"]);
});

test("info refuses a file with any damaged byte", async () => {
  const bytes = await vectorNamed("tiny_grey");
  for (let n = 0; n < bytes.length; n++) {
    const damaged = bytes.slice();
    damaged[n] ^= 1 << (n % 8);
    await assert.rejects(decoder.info(damaged), { name: "FormatError" });
  }
});
