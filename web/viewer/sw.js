/**
 * The service worker: keeps all files of the site, so that it opens without a network after the first visit. Pictures
 * are not kept. `files.js`, which `build.mjs` writes, says which files there are; with another version all come anew.
 */

const scope = /** @type {any} */ (self);
scope.importScripts("files.js");

const { version, files } = scope.SITE;
/** Caches are the origin's, which may have other viewers, too. */
const OURS = `sdt-viewer-${new URL(".", location.href).pathname}-`, CACHE = OURS + version;
const ADDRESSES = new Set([".", ...files].map((path) => new URL(path, location.href).href));

/**
 * Keep all files, past what the browser has of them already, which may be another version's.
 * @returns {Promise<void>}
 */
async function fill() {
  const cache = await caches.open(CACHE);
  await cache.addAll([...ADDRESSES].map((address) => new Request(address, { cache: "reload" })));
}

/** @returns {Promise<void>} */
async function sweep() {
  const old = (await caches.keys()).filter((name) => name.startsWith(OURS) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

/** @param {Request} request */
async function answer(request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}

self.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(fill()));
self.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(sweep()));
self.addEventListener("fetch", (/** @type {any} */ event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (ADDRESSES.has(origin + pathname)) event.respondWith(answer(event.request));
});
