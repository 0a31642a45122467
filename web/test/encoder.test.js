/** Encodes: streams and files must equal the Python encoder's, and decoders must read them. */

import assert from "node:assert/strict";
import test from "node:test";
import { Assets } from "../src/assets/assets.js";
import { LatentReader } from "../src/coding/latent_reader.js";
import { encodeStream } from "../src/coding/stream_encoder.js";
import { Decoder } from "../src/decoder.js";
import { Encoder } from "../src/encoder.js";
import { DEFAULT_LIMITS, readFile } from "../src/format/container.js";
import { Grid } from "../src/priors/passes.js";
import { Vector, WHOLE, expectedText, load, modelOf, sha256 } from "./vectors.js";

const assets = new Assets(load), encoder = new Encoder({ load }), decoder = new Decoder({ load });
const STEP_CODE = 2300;

/**
 * Return a source of given symbols.
 * @param {Int16Array} symbols of a tile
 * @param {Grid} grid
 * @param {number[]} order of channels
 * @returns {import("../src/coding/stream_encoder.js").SymbolSource}
 */
function fixedSymbols(symbols, grid, order) {
  return {
    countUsefulPasses: ({ length }) => length,
    quantizeRdo(codingPass, _, output) {
      const { plane } = grid.positions(codingPass), [first, end] = codingPass.channels;
      for (let channel = first, n = 0; channel < end; channel++) {
        for (const at of plane) output[n++] = symbols[order[channel] * grid.height * grid.width + at];
      }
    },
  };
}

for (const vector of WHOLE) {
  test(`encodeStream reproduces the streams of ${vector.name}`, async () => {
    const file = readFile(await vector.input()), model = await modelOf(await vector.expect());
    const reader = await LatentReader.open(file, assets, DEFAULT_LIMITS, model);
    if (reader.isPalette) return;
    for (const [tile, place] of reader._tilePlaces.entries()) {
      const segments = reader._segments(tile), { prior, stream } = reader._stream(segments);
      const { height, width, inner } = reader._tileExtent(tile), grid = new Grid(height, width, inner);
      const source = fixedSymbols(reader.decoded(place).symbols, grid, prior.order);
      const levels = encodeStream(source, grid, prior, file.header.stepCode);
      assert.deepEqual(Buffer.concat(levels), Buffer.from(stream));
      const ends = segments.map(({ length }) => length);
      ends[0] -= segments.reduce((sum, { length }) => sum + length, 0) - stream.length; // without the parameters in front
      if (file.layout.levels > 1) assert.deepEqual(levels.map(({ length }) => length), ends);
    }
  });
}

for (const name of ["tiny_odd_size", "tiny_tiles", "tiny_1x1"]) {
  test(`encodeLatents writes the same file as Python for ${name}`, async () => {
    const file = readFile(await new Vector(name).input());
    const latents = await (await LatentReader.open(file, assets, DEFAULT_LIMITS)).latents();
    const encoded = await encoder.encodeLatents(latents, file.header, STEP_CODE);
    assert.equal(sha256(encoded), expectedText("encoded")[name]);
  });
}

/**
 * @param {number} width
 * @param {number} height
 */
function gradientImage(width, height) {
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      data.set([60 + x / 4 + 40 * Math.sin(y / 9), 200 - y / 3, 90 + 60 * Math.cos(x / 15)], at);
    }
  }
  return { width, height, data };
}

for (const [width, height] of [[61, 43], [1, 1], [1700, 40]]) {
  test(`encode and decode preserve an image of ${width}x${height}`, async () => {
    const image = gradientImage(width, height), bytes = await encoder.encode(image, { quality: 80 });
    const decoded = await decoder.decode(bytes), info = await decoder.info(bytes);
    assert.equal(info.quality?.toFixed(0), "80");
    const error = decoded.data.reduce((sum, level, n) => sum + (level - image.data[n]) ** 2, 0) / decoded.data.length;
    assert.ok(error < 30, `a mean squared error of ${error}`);
  });
}

test("encode refuses alpha, invalid sizes, qualities and limits", async () => {
  const clear = { width: 2, height: 1, data: new Uint8ClampedArray([0, 0, 0, 255, 0, 0, 0, 254]) };
  await assert.rejects(encoder.encode(clear), /alpha/);
  await assert.rejects(encoder.encode({ ...gradientImage(2, 2), width: 3 }), RangeError);
  for (const [width, height] of [[-2, -2], [0.5, 8], [0, 2]]) {
    await assert.rejects(encoder.encode({ ...gradientImage(2, 2), width, height }), RangeError);
  }
  await assert.rejects(encoder.encode(gradientImage(2, 2), { quality: 0 }), RangeError);
  await assert.rejects(encoder.encode(gradientImage(2, 2), { maxPixels: 3 }), { name: "LimitError" });
});
