/** Decodes vectors to layers: residuals, overlays and alpha, which must be bit-exact. */

import assert from "node:assert/strict";
import test from "node:test";
import { Assets } from "../src/assets/assets.js";
import { readFile } from "../src/format/container.js";
import { readSpaceInfo } from "../src/format/profile.js";
import { LayerReader } from "../src/layers/layer_reader.js";
import { WHOLE, load, sha256 } from "./vectors.js";

const assets = new Assets(load);

/**
 * Return a layer of a whole image, 0 in tiles without the layer.
 * @param {import("./vectors.js").Vector} vector
 * @param {"residual" | "overlay" | "alpha"} kind
 * @param {number} from channels of a pixel in a tile
 * @param {number} count number of channels to return
 */
async function decodeLayer(vector, kind, from, count) {
  const file = readFile(await vector.input()), { width, height } = file.header;
  const layers = new LayerReader(file, (await readSpaceInfo(file, assets)).downscale, assets);
  const image = new Int16Array(height * width * count);
  for (const [tile, { rows, columns }] of layers.places.entries()) {
    const layer = await layers[kind](tile);
    let at = 0;
    for (let y = rows[0]; layer && y < rows[1]; y++) {
      for (let x = columns[0]; x < columns[1]; x++, at += from) {
        const isOpaque = kind !== "overlay" || layer[at + 3] === 255;
        if (isOpaque) image.set(layer.subarray(at, at + count), (y * width + x) * count);
      }
    }
  }
  return image;
}

for (const vector of WHOLE) {
  const { layout, alpha_sha256: digest } = await vector.expect();
  const has = { residual: vector.has("residual.npy"), overlay: vector.has("overlay.npy"), alpha: Boolean(digest) };

  test(`LayerReader decodes the layers of ${vector.name}`, async () => {
    assert.deepEqual({ residual: layout.residual > 0, overlay: layout.overlay ?? false, alpha: layout.alpha }, has);
    if (has.residual) assert.deepEqual(await decodeLayer(vector, "residual", 3, 3), await vector.array("residual.npy"));
    if (has.overlay) {
      assert.deepEqual(Uint8Array.from(await decodeLayer(vector, "overlay", 4, 4)), await vector.array("overlay.npy"));
    }
    if (has.alpha) assert.equal(sha256(Uint8Array.from(await decodeLayer(vector, "alpha", 4, 1))), digest);
  });
}
