/**
 * The service worker. It caches the files of the site, so that the site opens offline after the first visit. Of the
 * network backends it caches only the one in use. Images are not cached. `files.js`, written by `build.mjs`, lists the
 * files; a new version replaces all of them.
 */

const scope = /** @type {any} */ (self);
scope.importScripts("files.js");

const { version, files, backends } = scope.SITE;
/** Caches belong to the origin, which may host several viewers. */
const OURS = `sdt-viewer-${new URL(".", location.href).pathname}-`, CACHE = OURS + version;
const SHARED = addressesOf([".", ...files]);
const ADDRESSES = new Set([...SHARED, ...addressesOf(Object.values(backends).flat())]);

/** @param {string[]} paths */
function addressesOf(paths) {
  return paths.map((path) => new URL(path, location.href).href);
}

/** @returns {Promise<void>} */
async function fill() {
  const cache = await caches.open(CACHE);
  await cache.addAll(SHARED.map(fresh));
}

/**
 * Cache the files of a backend that are not cached yet.
 * @param {string} backend
 */
async function keep(backend) {
  const cache = await caches.open(CACHE), addresses = addressesOf(backends[backend]);
  const found = await Promise.all(addresses.map((address) => cache.match(address)));
  await cache.addAll(addresses.filter((_, n) => !found[n]).map(fresh));
}

/**
 * Return a request that bypasses the browser's HTTP cache, which may hold a file of another version.
 * @param {string} address
 */
function fresh(address) {
  return new Request(address, { cache: "reload" });
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
self.addEventListener("message", (/** @type {any} */ event) => event.waitUntil(keep(event.data.keep)));
self.addEventListener("fetch", (/** @type {any} */ event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (ADDRESSES.has(origin + pathname)) event.respondWith(answer(event.request));
});
