/** The viewer: files that are dropped, chosen or linked to, shown one at a time. */

import { open } from "../src/client.js";
import { detailsOf } from "./details.js";
import { drawn, rivalOf } from "./rivals.js";
import { Stage } from "./stage.js";

/** @typedef {{name: string, read: () => Promise<Uint8Array<ArrayBuffer>>}} Item a file that can be shown */

const SCALE = 8;
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
const stage = new Stage(at("stage"), (scale) => {
  at("level").textContent = `${Math.round(100 * scale)} %`;
});

/** @type {Item[]} */
let items = [];
/** What is shown is of the newest request; what was asked before it is dropped. */
let control = new AbortController();
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
  say("…");
  try {
    const started = performance.now(), bytes = await item.read(), info = await decoder.info(bytes, { signal });
    nbytes = bytes.length;
    picture.width = info.width;
    picture.height = info.height;
    picture.setAttribute("aria-label", item.name);
    tell(item, detailsOf(info, nbytes));
    await drawn(picture, await decoder.preview(bytes, SCALE, { signal, ahead: true }), signal);
    say("preview; decoding …");
    await drawn(picture, await decoder.decode(bytes, { signal }), signal);
    say(`shown after ${Math.round(performance.now() - started).toLocaleString()} ms`);
    await compare(signal);
  } catch (error) {
    if (!signal.aborted) fail(`${item.name}: ${error instanceof Error ? error.message : error}`);
  }
}

/**
 * Show the stage and the details.
 * @param {Item} item
 * @param {[string, string][]} details
 */
function tell({ name }, details) {
  document.title = `${name} – sdt viewer`;
  main.classList.remove("empty");
  at("wrong").hidden = true;
  at("view").hidden = at("about").hidden = false;
  /** @type {HTMLElement} */ (at("about").firstElementChild).textContent = name;
  at("details").replaceChildren(...details.flatMap((row) => row.map((text, n) => {
    return Object.assign(document.createElement(n ? "dd" : "dt"), { textContent: text });
  })));
  stage.setSize(picture.width, picture.height);
}

/** @param {string} message */
function fail(message) {
  main.classList.add("empty");
  at("view").hidden = at("about").hidden = true;
  at("wrong").textContent = message;
  at("wrong").hidden = false;
}

/** @param {string} text */
function say(text) {
  at("said").textContent = text;
}

/**
 * Show what another codec makes of as many bytes, if one is chosen.
 * @param {AbortSignal} signal
 */
async function compare(signal) {
  compareWith(null);
  const name = beside.selectedOptions[0].text;
  if (!beside.value) return;
  say(`${name} …`);
  const found = await rivalOf(picture, beside.value, nbytes);
  if (signal.aborted || beside.selectedOptions[0].text !== name) return;
  if (!found) return say(`${name}: not available in this browser`);
  await drawn(rival, found.bitmap, signal);
  compareWith(name);
  const isLarger = found.nbytes > nbytes ? ", the smallest that it can" : "";
  say(`right of the line: ${name} of the decoded picture, ${found.nbytes.toLocaleString()} bytes${isLarger}`);
}

/** @param {string | null} name of the other codec, null for none */
function compareWith(name) {
  for (const part of ["rival", "line", "split", "ours", "theirs"]) at(part).hidden = !name;
  at("theirs").textContent = name;
  stage.setSplit(Number(split.value) / 100);
}

/** @param {Iterable<File>} chosen */
function takeFiles(chosen) {
  take([...chosen].map((file) => ({ name: file.name, read: async () => new Uint8Array(await file.arrayBuffer()) })));
}

/** Take what the address names behind `#`: paths of this server, with `&` between several. */
function takeLinks() {
  const links = location.hash.slice(1).split("&").filter(Boolean);
  const addresses = links.map((link) => (URL.canParse(link, location.href) ? new URL(link, location.href) : null));
  if (addresses.some((address) => address?.origin !== location.origin)) {
    fail("Only files of the server that this page comes from are opened by a link.");
    return;
  }
  take(addresses.filter((address) => address !== null).map((address) => ({
    name: decodeURIComponent(address.pathname.split("/").at(-1) ?? ""),
    read: () => fetched(address),
  })));
}

/** @param {URL} address */
async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
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
split.addEventListener("input", () => stage.setSplit(Number(split.value) / 100));
at("in").addEventListener("click", () => stage.zoom(1));
at("out").addEventListener("click", () => stage.zoom(-1));
at("fit").addEventListener("click", () => stage.fit());
at("full").addEventListener("click", () => stage.full());
addEventListener("hashchange", takeLinks);
takeLinks();
if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js").catch(() => {}); // it works without
