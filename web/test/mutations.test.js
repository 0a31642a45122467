/** Decodes hostile files. `node test/mutations.mjs` decodes any number of them. */

import assert from "node:assert/strict";
import test from "node:test";
import { COUNT, attack } from "./mutations.mjs";

test(`the decoder decodes or refuses each of ${COUNT} hostile files`, async () => {
  const { outcomes } = await attack(COUNT);
  const kinds = new Set([...outcomes.keys()].map((outcome) => outcome.split(":")[0]));
  assert.deepEqual([...kinds].sort(), ["BundleError", "FormatError", "LimitError", "image"]);
});
