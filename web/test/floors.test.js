/** Limits on the structure of the sources: files per folder, lines per file, and the direction of imports. */

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { posix } from "node:path";
import test from "node:test";

const { dirname, extname, join } = posix;
const WEB = new URL("../", import.meta.url), FOLDERS = ["src", "viewer", "bench"];
const MAX_FILES = 14, MAX_LINES = 300;

/** The layer of each folder. A module imports from its own layer and lower ones only, including types. */
const FLOORS = new Map([
  ["viewer", 9],
  ["bench", 9],
  ["src", 8], // the main paths, and the modules for pages
  ["src/networks", 7],
  ["src/layers", 6],
  ["src/coding", 5],
  ["src/priors", 4],
  ["src/entropy", 3],
  ["src/format", 2],
  ["src/assets", 1],
  ["src/error.js", 0],
]);

/** @returns {Promise<[path: string, text: string][]>} the files of all folders */
async function sources() {
  const paths = await Promise.all(FOLDERS.map(async (folder) => {
    const names = await readdir(new URL(folder, WEB), { recursive: true });
    return names.filter((name) => extname(name)).map((name) => `${folder}/${name.replaceAll("\\", "/")}`);
  }));
  return Promise.all(paths.flat().map(async (path) => [path, await readFile(new URL(path, WEB), "utf8")]));
}

/**
 * Return the layer of a path.
 * @param {string} path
 */
function floorOf(path) {
  const floor = FLOORS.get(path) ?? FLOORS.get(dirname(path));
  assert.notEqual(floor, undefined, `${path} has no layer`);
  return Number(floor);
}

/**
 * Return the imports of a module that point to a higher layer.
 * @param {string} path
 * @param {string} text
 */
function upward(path, text) {
  const targets = [...text.matchAll(/(?:from |import\(|import )"(\.[^"]+)"/g)].map(([, name]) => {
    return join(dirname(path), name);
  });
  return targets.filter((target) => floorOf(target) > floorOf(path)).map((target) => `${path} imports ${target}`);
}

test("folders have at most 14 files", async () => {
  const counts = new Map();
  for (const [path] of await sources()) counts.set(dirname(path), (counts.get(dirname(path)) ?? 0) + 1);
  assert.deepEqual([...counts.keys()].filter((folder) => !FLOORS.has(folder)), []);
  assert.deepEqual([...counts].filter(([, count]) => count > MAX_FILES), []);
});

test("files have at most 300 lines", async () => {
  const lines = (await sources()).map(([path, text]) => /** @type {const} */ ([path, text.split("\n").length - 1]));
  assert.deepEqual(lines.filter(([, count]) => count > MAX_LINES), []);
});

test("imports point to the same layer or a lower one", async () => {
  const modules = (await sources()).filter(([path]) => path.endsWith(".js"));
  assert.deepEqual(modules.flatMap(([path, text]) => upward(path, text)), []);
});

test("upward finds imports of a higher layer", () => {
  assert.equal(upward("src/format/layout.js", 'import { Grid } from "../priors/passes.js";').length, 1);
  assert.equal(upward("src/error.js", '/** @typedef {import("./decoder.js").RgbaImage} RgbaImage */').length, 1);
  assert.equal(upward("src/networks/onnx.js", 'import { need } from "../error.js";').length, 0);
});
