/** The caches of the viewer's service worker. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { runInNewContext } from "node:vm";

const SOURCE = await readFile(new URL("../viewer/sw.js", import.meta.url), "utf8");

/**
 * Install and activate a service worker in an origin with some caches.
 * @param {string} folder of the viewer
 * @param {Map<string, Request[]>} caches cached requests, by the name of the cache
 */
async function activate(folder, caches) {
  const handlers = /** @type {Map<string, (event: any) => void>} */ (new Map());
  const scope = {
    URL, Request,
    location: new URL("sw.js", `https://example.org${folder}`),
    importScripts: () => Object.assign(scope, { SITE: { version: "new", files: ["index.html"], backends: {} } }),
    addEventListener: (/** @type {string} */ kind, /** @type {any} */ handler) => handlers.set(kind, handler),
    caches: {
      open: async (/** @type {string} */ name) =>
        ({ addAll: async (/** @type {Request[]} */ requests) => void caches.set(name, requests) }),
      keys: async () => [...caches.keys()],
      delete: async (/** @type {string} */ name) => caches.delete(name),
    },
  };
  runInNewContext(SOURCE, Object.assign(scope, { self: scope }));
  for (const kind of ["install", "activate"]) {
    await new Promise((done) => handlers.get(kind)?.({ waitUntil: done }));
  }
}

test("service worker fetches files past the HTTP cache", async () => {
  const caches = new Map();
  await activate("/viewer/", caches);
  const [requests] = caches.values();
  assert.deepEqual(Array.from(requests, ({ url, cache }) => [url, cache]), [
    ["https://example.org/viewer/", "reload"], ["https://example.org/viewer/index.html", "reload"],
  ]);
});

test("service worker deletes caches of its older versions only", async () => {
  const caches = new Map();
  await activate("/a/", caches);
  const [[name, requests]] = caches;
  caches.set(name.replace(/new$/, "old"), requests);
  await activate("/b/", caches);
  assert.equal(caches.size, 3);
  await activate("/a/", caches);
  assert.deepEqual([caches.size, caches.has(name)], [2, true]);
});
