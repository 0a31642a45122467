/** Runs `test/browser/` on the built site in headless Chromium. Without Chromium the test is skipped. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { accessSync, constants } from "node:fs";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { delimiter, extname, join } from "node:path";
import test, { after } from "node:test";
import { pathToFileURL } from "node:url";
import { build } from "../build.mjs";

const HERE = new URL("./", import.meta.url), ROOT = new URL("../../", HERE), MAX_MS = 240_000;
const TYPES = new Map([
  [".html", "text/html"], [".js", "text/javascript"], [".mjs", "text/javascript"], [".css", "text/css"],
  [".wasm", "application/wasm"], [".json", "application/json"],
]);
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
/** Options for WebGPU emulated by the CPU. */
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

const chromium = chromiumPath();
const folder = await mkdtemp(join(tmpdir(), "sdtrt-web-"));
after(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));

/** @returns {string | undefined} */
function chromiumPath() {
  const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : ["chromium", "chromium-browser", "google-chrome"];
  const folders = (process.env.PATH ?? "").split(delimiter);
  const paths = names.flatMap((name) => (name.includes("/") ? [name] : folders.map((folder) => join(folder, name))));
  return paths.find((path) => {
    try {
      return accessSync(path, constants.X_OK) === undefined;
    } catch {
      return false;
    }
  });
}

/**
 * Return the file of a path on the server: in the site, this folder, or the repository's vectors and models.
 * @param {string} path
 * @param {URL} site
 */
function fileOf(path, site) {
  if (path === "/expected.npz") return new URL("expected.npz", HERE);
  if (path.startsWith("/test/browser/")) return new URL(`..${path}`, HERE);
  if (path.startsWith("/vectors/")) return new URL(`tests${path}`, ROOT);
  return path.startsWith("/engine/data/") ? new URL(`.${path}`, ROOT) : new URL(`.${path}`, site);
}

/**
 * Serve a page, and collect its results.
 * @param {URL} site
 */
async function serve(site) {
  const vectors = (await readdir(new URL("tests/vectors/", ROOT), { withFileTypes: true }))
    .filter((entry) => entry.isDirectory() && entry.name !== "__pycache__").map(({ name }) => name);
  let isOffline = false; // set by a request of a page; from then on every answer is 404
  const results = /** @type {import("./browser/check.js").Result[]} */ ([]), events = new EventEmitter();
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname.replace(/\/$/, "/index.html");
    if (request.method === "POST") {
      const parts = [];
      for await (const part of request) parts.push(part);
      const result = JSON.parse(Buffer.concat(parts).toString());
      if (result) results.push(result);
      else events.emit("end");
      response.end();
    } else if (path === "/vectors.json") {
      response.end(JSON.stringify(vectors));
    } else if (path === "/offline") {
      isOffline = true;
      response.end();
    } else {
      const body = isOffline ? null : await readFile(fileOf(path, site)).catch(() => null);
      const type = TYPES.get(extname(path)) ?? "application/octet-stream";
      response.writeHead(body ? 200 : 404, { ...ISOLATED, "Content-Type": type }).end(body ?? "");
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(null)));
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { server, port: address.port, results, end: once(events, "end") };
}

/**
 * Run the tests in Chromium. Return their results.
 * @param {string} program
 */
async function runInChromium(program) {
  const site = pathToFileURL(`${join(folder, "site")}/`);
  await build(site);
  const { server, port, results, end } = await serve(site);
  const options = ["--headless", "--no-sandbox", "--disable-gpu", ...WEBGPU, `--user-data-dir=${folder}/profile`];
  const browser = spawn(program, [...options, `http://127.0.0.1:${port}/test/browser/`], { stdio: "ignore" });
  const exit = once(browser, "exit");
  const timer = setTimeout(() => browser.kill(), MAX_MS);
  try {
    const isComplete = await Promise.race([end.then(() => true), exit.then(() => false)]);
    const late = { name: "all tests", skip: "", error: `${program} ended, or took over ${MAX_MS} ms` };
    return isComplete ? results : [...results, late];
  } finally {
    clearTimeout(timer);
    browser.kill();
    await exit;
    server.closeAllConnections();
    server.close();
  }
}

test("the built site passes its tests in Chromium", { skip: !chromium && "no Chromium; name one by CHROMIUM=" }, async (context) => {
  for (const { name, error, skip } of await runInChromium(String(chromium))) {
    await context.test(name, { skip: skip || false }, () => assert.equal(error, null));
  }
});
