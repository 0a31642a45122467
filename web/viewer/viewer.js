/** The viewer shows files that are dropped, chosen or linked, or encoded from photos, one at a time. */

import { open } from "../src/client.js";
import { FormatError } from "../src/error.js";
import { detailsOf, sizesOf } from "./details.js";
import { canvasOf, isPhoto, pixelsOf } from "./photos.js";
import { drawn, rivalOf } from "./baselines.js";
import { Stage } from "./stage.js";

/**
 * A file to show. One that is encoded from a `photo` gets its `original` when the photo has been read.
 * @typedef {{name: string, read: (signal: AbortSignal) => Promise<Uint8Array<ArrayBuffer>>, photo?: File, original?:
 *   Promise<HTMLCanvasElement>}} Item
 */

const SCALE = 8, ORIGINAL = "original", BACKENDS = { wasm: "WebAssembly", webgpu: "WebGPU" };
const decoder = open();

/**
 * @template {HTMLElement} T
 * @param {string} name of a class
 * @returns {T}
 */
const at = (name) => /** @type {T} */ (document.querySelector(`.${name}`));

const main = /** @type {HTMLElement} */ (document.querySelector("main"));
const picture = /** @type {HTMLCanvasElement} */ (at("picture"));
const rival = /** @type {HTMLCanvasElement} */ (at("rival"));
const files = /** @type {HTMLSelectElement} */ (at("files"));
const beside = /** @type {HTMLSelectElement} */ (at("beside"));
const split = /** @type {HTMLInputElement} */ (at("split"));
const quality = /** @type {HTMLInputElement} */ (at("quality"));
const stage = new Stage(at("stage"), (scale) => {
  at("level").textContent = `${Math.round(100 * scale)} %`;
});

/** @type {Item[]} */
let items = [];
/** Controls the newest request; older requests are aborted. */
let control = new AbortController();
/** @type {Item | null} */
let shown = null;
let nbytes = 0;

/** @param {Item[]} given */
function take(given) {
  if (!given.length) return;
  items = given;
  files.replaceChildren(...items.map(({ name }, n) => new Option(name, String(n))));
  at("shelf").hidden = items.length < 2;
  void show(items[0]);
}

/** @param {Item} item */
async function show(item) {
  control.abort();
  control = new AbortController();
  const { signal } = control;
  compareWith(null);
  say(item.photo ? "encoding …" : "…");
  try {
    const started = performance.now(), bytes = await item.read(signal), info = await infoOf(bytes, signal);
    signal.throwIfAborted();
    nbytes = bytes.length;
    offer(item, bytes);
    if (!info) return await showPart(item, bytes, signal);
    tell(item, info, detailsOf(info, nbytes));
    await drawn(picture, await decoder.preview(bytes, SCALE, { signal, ahead: true }), signal);
    say("preview; decoding …");
    const whole = await decoder.decode(bytes, { signal }), { backend } = whole;
    void keep(backend);
    await drawn(picture, whole, signal);
    const spent = Math.round(performance.now() - started).toLocaleString();
    say(`shown after ${spent} ms, the network by ${BACKENDS[backend]}`);
    await compare(signal);
  } catch (error) {
    if (!signal.aborted) fail(`${item.name}: ${error instanceof Error ? error.message : error}`);
  }
}

/**
 * Return the properties of a file, null if it is damaged.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {AbortSignal} signal
 */
async function infoOf(bytes, signal) {
  try {
    return await decoder.info(bytes, { signal });
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

/**
 * Show the controls for files that are encoded from photos: quality, comparison with the original, and saving.
 * @param {Item} item
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
function offer({ name, photo }, bytes) {
  const save = /** @type {HTMLAnchorElement} */ (at("save"));
  const choice = /** @type {HTMLOptionElement} */ (at("of-photos"));
  at("making").hidden = choice.hidden = choice.disabled = !photo;
  if (!photo && beside.value === ORIGINAL) beside.value = "";
  URL.revokeObjectURL(save.href);
  save.href = URL.createObjectURL(new Blob([bytes], { type: "image/x-sdt" }));
  save.download = `${name.replace(/\.[^.]*$/, "")}.sdt`;
}

/**
 * Show the readable part of a damaged file, and a report of the missing parts.
 * @param {Item} item
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {AbortSignal} signal
 */
async function showPart(item, bytes, signal) {
  const found = await decoder.decode(bytes, { signal, partial: true });
  tell(item, found, sizesOf(found, bytes.length));
  at("lacking").textContent = `Cut short or damaged: ${found.missing}`;
  at("lacking").hidden = false;
  await drawn(picture, found, signal);
  say("readable part of the file");
}

/**
 * Show the stage, with the size of an image, and the details.
 * @param {Item} item
 * @param {{width: number, height: number}} size
 * @param {import("./details.js").Row[]} details
 */
function tell(item, { width, height }, details) {
  const { name } = item;
  Object.assign(picture, { width, height });
  picture.setAttribute("aria-label", name);
  document.title = `${name} – sdt viewer`;
  main.classList.remove("empty");
  at("wrong").hidden = at("lacking").hidden = true;
  at("view").hidden = at("about").hidden = false;
  /** @type {HTMLElement} */ (at("about").firstElementChild).textContent = name;
  at("details").replaceChildren(...details.flatMap((row) => row.map((text, n) => {
    return Object.assign(document.createElement(n ? "dd" : "dt"), { textContent: text });
  })));
  if (item === shown) return; // only the quality changed: keep the zoom and the position
  for (const other of items) if (other !== item) delete other.original;
  shown = item;
  stage.setSize(width, height);
  if (item.photo) beside.value = ORIGINAL;
}

/** @param {string} message */
function fail(message) {
  main.classList.add("empty");
  at("view").hidden = at("about").hidden = true;
  shown = null;
  at("wrong").textContent = message;
  at("wrong").hidden = false;
}

/** @param {string} text */
function say(text) {
  at("said").textContent = text;
}

/**
 * Show the original, or the image of another codec at the same size, if one is chosen.
 * @param {AbortSignal} signal
 */
async function compare(signal) {
  compareWith(null);
  const { value, selectedOptions: [{ text: name }] } = beside, original = await shown?.original;
  if (!value) return;
  if (original && value === ORIGINAL) {
    await drawn(rival, await createImageBitmap(original), signal);
    compareWith(name);
    return say("right of the line: the original");
  }
  say(`${name} …`);
  const found = await rivalOf(original ?? picture, value, nbytes);
  if (signal.aborted || beside.value !== value) return;
  if (!found) return say(`${name}: not available in this browser`);
  await drawn(rival, found.bitmap, signal);
  compareWith(name);
  const isLarger = found.nbytes > nbytes ? ", its smallest size" : "";
  const source = original ? "original" : "decoded image";
  say(`right of the line: ${name} of the ${source}, ${found.nbytes.toLocaleString()} bytes${isLarger}`);
}

/** @param {string | null} name of the other codec, null for none */
function compareWith(name) {
  for (const part of ["rival", "line", "split", "ours", "theirs"]) at(part).hidden = !name;
  at("theirs").textContent = name;
  stage.setSplit(Number(split.value) / 100);
}

/** @param {Iterable<File>} chosen */
function takeFiles(chosen) {
  take([...chosen].map((file) => (isPhoto(file) ? madeOf(file) : {
    name: file.name,
    read: async () => new Uint8Array(await file.arrayBuffer()),
  })));
}

/**
 * @param {File} photo
 * @returns {Item}
 */
function madeOf(photo) {
  /** @type {Item} */
  const item = {
    name: photo.name,
    photo,
    read: async (signal) => {
      item.original ??= canvasOf(photo);
      return decoder.encode(pixelsOf(await item.original), { quality: Number(quality.value), signal });
    },
  };
  return item;
}

/** Open the files in the address after `#`: paths on this server, separated by `&`. */
function takeLinks() {
  const links = location.hash.slice(1).split("&").filter(Boolean);
  const addresses = links.map((link) => (URL.canParse(link, location.href) ? new URL(link, location.href) : null));
  if (addresses.some((address) => address?.origin !== location.origin)) {
    fail("Only files of the server that hosts this page can be opened by a link.");
    return;
  }
  take(addresses.filter((address) => address !== null).map((address) => ({
    name: decoded(address.pathname.split("/").at(-1) ?? ""),
    read: (signal) => fetched(address, signal),
  })));
}

/**
 * Decode a part of an address. Return it unchanged if it is malformed.
 * @param {string} part
 */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * @param {URL} address
 * @param {AbortSignal} signal
 */
async function fetched(address, signal) {
  const answer = await fetch(address, { signal });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

/**
 * Let the service worker cache the files of the backend in use.
 * @param {import("../src/networks/runtime.js").Backend} backend
 */
async function keep(backend) {
  const { active } = (await navigator.serviceWorker?.ready) ?? {};
  active?.postMessage({ keep: backend });
}

for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll(".choose"))) {
  input.addEventListener("change", () => {
    takeFiles(input.files ?? []);
    input.value = "";
  });
}
for (const kind of /** @type {const} */ (["dragover", "dragleave", "drop"])) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") takeFiles(event.dataTransfer?.files ?? []);
  });
}
files.addEventListener("change", () => void show(items[files.selectedIndex]));
beside.addEventListener("change", () => void compare(control.signal));
quality.addEventListener("input", () => (at("chosen").textContent = quality.value));
quality.addEventListener("change", () => void (shown && show(items[files.selectedIndex])));
split.addEventListener("input", () => stage.setSplit(Number(split.value) / 100));
at("in").addEventListener("click", () => stage.zoom(1));
at("out").addEventListener("click", () => stage.zoom(-1));
at("fit").addEventListener("click", () => stage.fit());
at("full").addEventListener("click", () => stage.full());
addEventListener("hashchange", takeLinks);
takeLinks();
if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register("sw.js", { updateViaCache: "none" }).catch(() => {}); // the viewer also works without it
}
void decoder.backend().then(keep);
