/** Hostile files, of which `node test/mutations.mjs` decodes any number. */

import assert from "node:assert/strict";
import test from "node:test";
import { COUNT, attack } from "./mutations.mjs";

test(`${COUNT} hostile files are images or refused`, async () => {
  const { outcomes } = await attack(COUNT);
  const kinds = new Set([...outcomes.keys()].map((outcome) => outcome.split(":")[0]));
  assert.deepEqual([...kinds].sort(), ["BundleError", "FormatError", "LimitError", "image"]);
});
