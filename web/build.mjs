/** `node build.mjs` writes the viewer to `dist/` as a self-contained static site, and prints the sizes of its files. */

import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const HERE = new URL("./", import.meta.url), DATA = new URL("../engine/data/", HERE);
const RUNTIME = "onnxruntime-web", WEBP = "@jsquash/webp";

/** The builds of ONNX Runtime: a module, and the WebAssembly file that it loads. A browser loads one of them. */
const BACKENDS = {
  wasm: ["lib/ort.wasm.bundle.min.mjs", "lib/ort-wasm-simd-threaded.wasm"],
  webgpu: ["lib/ort.webgpu.bundle.min.mjs", "lib/ort-wasm-simd-threaded.asyncify.wasm"],
};

/** Files that are copied into the site: source files by their paths in the site. */
const COPIES = new Map([
  ...Object.values(BACKENDS).flat().map((path) => from(`${RUNTIME}/dist/`, posix.basename(path), "lib/")),
  ...["decode.js", "utils.js", "codec/dec/webp_dec.js"].map((name) => from(`${WEBP}/`, name, "lib/webp/")),
  from(`${WEBP}/codec/dec/`, "webp_dec.wasm", "data/"),
  ...["bundle.json", "decoder.onnx", "encoder.onnx", "fast.onnx"].map((name) => data(`bundles/tiny/${name}`)),
  ...["adaptive-1", "residual-1", "tiny-1"].map((name) => data(`priors/${name}.npz`)),
  ...["tiny-1", "sd1-1"].map((name) => data(`profiles/${name}.json`)),
]);

/** Groups of files that most images do not need. */
const OCCASIONAL = new Set([
  "data/bundles/tiny/encoder.onnx", "data/bundles/tiny/fast.onnx", "data/webp_dec.wasm", "lib/webp/", "licences",
]);

/** The works in the site, and the files of their licences. */
const LICENCES = new Map([
  ["sdtrt: all but what is named below", new URL("../LICENSE", HERE)],
  ["ONNX Runtime Web: lib/ort*", new URL("licences/onnxruntime-web.txt", HERE)], // its npm package has no licence file
  [`${WEBP}: lib/webp/ and data/webp_dec.wasm`, new URL(`node_modules/${WEBP}/LICENSE`, HERE)],
  ["libwebp: data/webp_dec.wasm", new URL(`node_modules/${WEBP}/codec/LICENSE.codec.md`, HERE)],
]);

/**
 * Paths of the libraries in the site. Import maps do not reach workers, so modules import libraries by relative paths.
 */
const LIBRARIES = [
  [RUNTIME, BACKENDS.wasm[0]],
  [`${RUNTIME}/webgpu`, BACKENDS.webgpu[0]],
  [`${WEBP}/decode.js`, "lib/webp/decode.js"],
];

/**
 * @param {string} folder of a library
 * @param {string} name
 * @param {string} into
 * @returns {[string, URL]}
 */
function from(folder, name, into) {
  return [into + name, new URL(`node_modules/${folder}${name}`, HERE)];
}

/**
 * @param {string} path
 * @returns {[string, URL]}
 */
function data(path) {
  return [`data/${path}`, new URL(path, DATA)];
}

/**
 * Write the site to a folder. Existing contents are removed.
 * @param {URL} folder ending in a slash
 * @returns {Promise<string[]>} paths of its files, relative to the folder
 */
export async function build(folder) {
  await rm(folder, { recursive: true, force: true });
  const sources = [...(await sourceTexts("src/", "src/")), ...(await sourceTexts("viewer/", ""))];
  sources.push(["LICENSES.txt", await licences()]);
  for (const [path, text] of sources) await put(new URL(path, folder), text);
  for (const [path, source] of COPIES) {
    await mkdir(dirname(fileURLToPath(new URL(path, folder))), { recursive: true });
    await copyFile(source, new URL(path, folder));
  }
  const files = [...sources.map(([path]) => path), ...COPIES.keys()].sort(), hash = createHash("sha256");
  for (const path of files) hash.update(path).update(await readFile(new URL(path, folder)));
  const shared = files.filter((path) => !backendOf(path));
  const site = { version: hash.digest("hex").slice(0, 16), files: shared, backends: BACKENDS };
  await put(new URL("files.js", folder), `self.SITE = ${JSON.stringify(site, null, 1)};\n`);
  return [...files, "files.js"];
}

/**
 * @param {string} folder
 * @param {string} into
 * @returns {Promise<[string, string][]>} paths in the site, and their texts
 */
async function sourceTexts(folder, into) {
  const paths = await readdir(new URL(folder, HERE), { recursive: true });
  const names = paths.filter((name) => posix.extname(name)).map((name) => name.replaceAll("\\", "/")).sort();
  return Promise.all(names.map(async (name) => {
    const text = await readFile(new URL(folder + name, HERE), "utf8"), path = into + name;
    return /** @type {[string, string]} */ ([path, withSitePaths(text, posix.dirname(path))]);
  }));
}

/**
 * Replace the imports in a module's text by relative paths in the site, where the viewer lies beside `src/`.
 * @param {string} text
 * @param {string} folder of the module in the site
 */
function withSitePaths(text, folder) {
  const replaced = LIBRARIES.reduce((all, [name, place]) => {
    return all.replaceAll(`"${name}"`, `"${posix.relative(folder, place)}"`);
  }, text);
  return replaced.replaceAll('"../src/', '"./src/');
}

/** Return the texts of all licences, each under its works. */
async function licences() {
  const texts = await Promise.all([...LICENCES].map(async ([works, source]) => {
    return `${works}\n${"=".repeat(works.length)}\n\n${(await readFile(source, "utf8")).trim()}\n`;
  }));
  return texts.join("\n\n");
}

/**
 * @param {URL} target
 * @param {string} text
 */
async function put(target, text) {
  await mkdir(dirname(fileURLToPath(target)), { recursive: true });
  await writeFile(target, text);
}

/**
 * Print the sizes of files: uncompressed, and as sent by servers that compress.
 * @param {URL} folder
 * @param {string[]} files
 */
async function printSizes(folder, files) {
  const fast = { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } };
  const rows = await Promise.all(files.map(async (path) => {
    const bytes = await readFile(new URL(path, folder));
    const sent = [bytes, gzipSync(bytes), brotliCompressSync(bytes, fast)];
    return { group: groupOf(path), sizes: sent.map(({ length }) => length) };
  }));
  const print = (/** @type {(string | number)[]} */ [name, ...cells]) =>
    console.log(String(name).padEnd(32), ...cells.map((cell) => cell.toLocaleString("en").padStart(12)));
  print(["bytes", "raw", "gzip", "brotli 9"]);
  const sum = (/** @type {string} */ name, /** @type {typeof rows} */ its) =>
    print([name, ...[0, 1, 2].map((n) => its.reduce((total, { sizes }) => total + sizes[n], 0))]);
  for (const group of new Set(rows.map((row) => row.group))) sum(group, rows.filter((row) => row.group === group));
  for (const backend of Object.keys(BACKENDS)) {
    const its = rows.filter(({ group }) => !Object.hasOwn(BACKENDS, group) || group === backend);
    sum(`all, with ${backend}`, its);
    sum(`for an image, with ${backend}`, its.filter(({ group }) => !OCCASIONAL.has(group)));
  }
}

/**
 * Return the backend that a file belongs to, undefined for files of all backends.
 * @param {string} path
 */
function backendOf(path) {
  return Object.entries(BACKENDS).find(([, paths]) => paths.includes(path))?.[0];
}

/** @param {string} path */
function groupOf(path) {
  const backend = backendOf(path);
  if (backend) return backend;
  if (path.startsWith("src/")) return "decoder (src/)";
  if (path.includes("/")) return path.startsWith("lib/webp/") ? "lib/webp/" : path;
  return path === "LICENSES.txt" ? "licences" : "viewer";
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = new URL("dist/", HERE);
  await printSizes(folder, await build(folder));
}
