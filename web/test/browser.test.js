/** The built site in headless Chromium, which runs `test/browser/`; skipped where there is none. */

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
/** WebGPU by the processor. */
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

const chromium = chromiumPath();
const folder = await mkdtemp(join(tmpdir(), "sdtrt-web-"));
after(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));

/** @returns {string | undefined} */
function chromiumPath() {
  const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : ["chromium", "chromium-browser", "google-chrome"];
  const folders = (process.env.PATH ?? "").split(delimiter);
  const paths = names.flatMap((name) => (name.includes("/") ? [name] : folders.map((one) => join(one, name))));
  return paths.find((path) => {
    try {
      return accessSync(path, constants.X_OK) === undefined;
    } catch {
      return false;
    }
  });
}

/**
 * Return where a path of the server lies: the site, this folder, the repository's vectors and what they refer to.
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
 * Serve a page, and take its results.
 * @param {URL} site
 */
async function served(site) {
  const vectors = (await readdir(new URL("tests/vectors/", ROOT), { withFileTypes: true }))
    .filter((entry) => entry.isDirectory() && entry.name !== "__pycache__").map(({ name }) => name);
  let isOffline = false; // from when on a page asks for that, nothing is found
  const results = /** @type {import("./browser/check.js").Result[]} */ ([]), told = new EventEmitter();
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname.replace(/\/$/, "/index.html");
    if (request.method === "POST") {
      const parts = [];
      for await (const part of request) parts.push(part);
      const result = JSON.parse(Buffer.concat(parts).toString());
      if (result) results.push(result);
      else told.emit("end");
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
  return { server, port: address.port, results, end: once(told, "end") };
}

/**
 * Return what Chromium makes of the tests.
 * @param {string} program
 */
async function resultsOf(program) {
  const site = pathToFileURL(`${join(folder, "site")}/`);
  await build(site);
  const { server, port, results, end } = await served(site);
  const options = ["--headless", "--no-sandbox", "--disable-gpu", ...WEBGPU, `--user-data-dir=${folder}/profile`];
  const browser = spawn(program, [...options, `http://127.0.0.1:${port}/test/browser/`], { stdio: "ignore" });
  const exit = once(browser, "exit");
  const timer = setTimeout(() => browser.kill(), MAX_MS);
  try {
    const isWhole = await Promise.race([end.then(() => true), exit.then(() => false)]);
    const late = { name: "all tests", skip: "", error: `${program} ended, or took over ${MAX_MS} ms` };
    return isWhole ? results : [...results, late];
  } finally {
    clearTimeout(timer);
    browser.kill();
    await exit;
    server.closeAllConnections();
    server.close();
  }
}

test("in Chromium", { skip: !chromium && "no Chromium; name one by CHROMIUM=" }, async (context) => {
  for (const { name, error, skip } of await resultsOf(String(chromium))) {
    await context.test(name, { skip: skip || false }, () => assert.equal(error, null));
  }
});
