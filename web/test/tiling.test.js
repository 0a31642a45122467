/** Tiles of large images: they cover each pixel once, with the network's whole receptive field. */

import assert from "node:assert/strict";
import test from "node:test";
import { Tiling } from "../src/networks/tiling.js";

const SCALE = 8, REACH = 20;

/** @type {[area: [number, number], length: number][]} pixels, and latents along that side */
const SIDES = [
  [[0, 5], 1],
  [[0, 1536], 192],
  [[0, 1537], 193],
  [[0, 5000], 625],
  [[1001, 1003], 625],
  [[1500, 4999], 625],
];

for (const [area, length] of SIDES) {
  test(`Tiling covers pixels ${area.join(" to ")} of ${length} latents`, () => {
    const place = { rows: /** @type {[number, number]} */ ([0, SCALE]), columns: area };
    let next = area[0];
    for (const tile of new Tiling(SCALE, REACH).tiles(place, 1, length)) {
      const [first, end] = tile.latents.columns, core = tile.core.columns;
      assert.equal(core[0], next);
      assert.ok(core[1] > core[0] && end - first <= 192);
      next = core[1];
      assert.ok(first <= Math.max(Math.floor(core[0] / SCALE) - REACH, 0));
      assert.ok(end >= Math.min(Math.ceil(core[1] / SCALE) + REACH, length));
    }
    assert.equal(next, area[1]);
  });
}
