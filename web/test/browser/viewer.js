/** Tests of the viewer, in a frame of the page. */

import { equal, next, test } from "./check.js";

const ODD = "/vectors/tiny_odd_size/input.sdt", BROKEN = "/vectors/x_version/input.sdt", CUT = "/vectors/x_truncated/input.sdt";

const frame = document.createElement("iframe");
Object.assign(frame, { width: "800", height: "600" });

/** @param {string} name of a class within the frame */
function at(name) {
  return /** @type {HTMLElement} */ (frame.contentDocument?.querySelector(`.${name}`));
}

/**
 * Wait until a condition holds.
 * @param {() => unknown} holds
 */
async function until(holds) {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** @param {string} hash */
async function opened(hash) {
  frame.remove();
  frame.src = `/${hash}`;
  const loaded = next(frame, "load");
  document.body.append(frame);
  await loaded;
}

/** @param {string} hash */
async function shown(hash) {
  await opened(hash);
  await until(() => at("said").textContent?.startsWith("shown"));
}

/**
 * Choose a codec for the comparison.
 * @param {string} type
 */
function choose(type) {
  const select = /** @type {HTMLSelectElement} */ (at("beside"));
  select.value = type;
  select.dispatchEvent(new Event("change"));
}

/** @param {string} name */
async function photo(name) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 30 });
  canvas.getContext("2d")?.fillRect(0, 0, 40, 30);
  const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ done) => canvas.toBlob(done));
  return new File([blob ?? ""], name, { type: "image/png" });
}

/** @param {string} key */
function press(key) {
  at("stage").dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
  return at("level").textContent;
}

export function addViewerTests() {
  addShowing();

  test("viewer keeps an image that is zoomed by keys within the frame", async () => {
    await shown(`#${ODD}`);
    equal([press("+"), press("-"), press("1")], ["125 %", "100 %", "100 %"]);
    for (let n = 0; n < 20; n++) press("+");
    equal(at("sheet").classList.contains("near"), true, "single pixels");
    for (let n = 0; n < 100; n++) press("ArrowRight");
    const { right } = at("sheet").getBoundingClientRect(), stage = at("stage").getBoundingClientRect();
    equal(Math.round(right), Math.round(stage.right), "right edge");
    equal(press("0"), "100 %");
  });

  test("viewer compares the file with JPEG and WebP", async () => {
    await shown(`#${ODD}`);
    for (const [type, name] of [["image/jpeg", "JPEG"], ["image/webp", "WebP"]]) {
      choose(type);
      await until(() => at("said").textContent?.startsWith(`right of the line: ${name}`));
      equal([at("rival").hidden, at("split").hidden, at("theirs").textContent], [false, false, name]);
    }
    choose("");
    await until(() => at("rival").hidden);
  });

  test("service worker caches only the network backend in use", async () => {
    const lib = "/lib/ort-wasm-simd-threaded";
    await until(() => caches.match(`${lib}.wasm`).then(Boolean));
    equal(await caches.match(`${lib}.asyncify.wasm`).then(Boolean), false, "WebGPU's build is cached");
  });

  test("viewer opens offline after the first visit", async () => {
    await navigator.serviceWorker.ready;
    await fetch("/offline");
    await opened("");
    await until(() => at("drop").getClientRects().length);
    const paths = ["/data/bundles/tiny/decoder.onnx", ODD];
    const answers = await Promise.all(paths.map((path) => frame.contentWindow?.fetch(path)));
    equal(answers.map((answer) => answer?.status), [200, 404]);
  });
}

function addShowing() {
  test("viewer without files shows the drop zone", async () => {
    await opened("");
    equal([at("view").hidden, at("drop").getClientRects().length], [true, 1]);
  });

  test("viewer shows the file in its address", async () => {
    await shown(`#${ODD}`);
    const { width, height } = /** @type {HTMLCanvasElement} */ (at("picture"));
    equal([width, height, at("details").innerText.includes("61 × 43 pixels")], [61, 43, true]);
  });

  test("viewer shows several dropped files one at a time", async () => {
    await opened("");
    const bytes = await (await fetch(ODD)).arrayBuffer(), transfer = new DataTransfer();
    for (const name of ["one.sdt", "two.sdt"]) transfer.items.add(new File([bytes], name));
    frame.contentDocument?.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
    await until(() => at("said").textContent?.startsWith("shown"));
    equal([at("shelf").hidden, /** @type {HTMLSelectElement} */ (at("files")).length], [false, 2]);
  });

  test("viewer reports a malformed name in its address unchanged", async () => {
    await opened("#/%ff.sdt");
    await until(() => !at("wrong").hidden);
    equal(at("wrong").textContent, "%ff.sdt: 404 Not Found");
  });

  test("viewer applies a new quality to the chosen file", async () => {
    await opened("");
    const transfer = new DataTransfer(), files = /** @type {HTMLSelectElement} */ (at("files"));
    for (const name of ["one.png", "two.png"]) transfer.items.add(await photo(name));
    frame.contentDocument?.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
    await until(() => at("said").textContent === "right of the line: the original");
    files.selectedIndex = 1;
    files.dispatchEvent(new Event("change"));
    at("quality").dispatchEvent(new Event("change"));
    await until(() => at("said").textContent === "right of the line: the original");
    equal(frame.contentDocument?.title, "two.png – sdt viewer");
  });

  test("viewer reports why a file cannot be shown", async () => {
    await opened(`#${BROKEN}`);
    await until(() => !at("wrong").hidden);
    equal([at("wrong").textContent?.startsWith("input.sdt: "), at("view").hidden], [true, true]);
  });

  test("viewer encodes a photo, compares it with the original, and offers to save it", async () => {
    await opened("");
    const transfer = new DataTransfer();
    transfer.items.add(await photo("dark.room.png"));
    frame.contentDocument?.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
    await until(() => at("said").textContent === "right of the line: the original");
    const save = /** @type {HTMLAnchorElement} */ (at("save")), bytes = await (await fetch(save.href)).arrayBuffer();
    equal([save.download, at("details").innerText.includes("40 × 30 pixels")], ["dark.room.sdt", true]);
    equal(new TextDecoder().decode(bytes.slice(0, 3)), "SDT");
    await shown(`#${ODD}`);
    equal([at("making").hidden, /** @type {HTMLSelectElement} */ (at("beside")).value], [true, ""]);
  });

  test("viewer shows the readable part of a truncated file and reports the missing parts", async () => {
    await opened(`#${CUT}`);
    await until(() => at("said").textContent?.startsWith("readable part"));
    equal(at("lacking").textContent, "Cut short or damaged: tiles: 0 of 1 missing, 1 incomplete");
    equal([at("lacking").hidden, at("view").hidden, at("wrong").hidden], [false, false, true]);
    await shown(`#${ODD}`);
    equal(at("lacking").hidden, true, "lacking of an undamaged file");
  });

  test("viewer refuses addresses on other servers", async () => {
    await opened("#https://example.org/photo.sdt");
    await until(() => !at("wrong").hidden);
    equal(at("wrong").textContent?.startsWith("Only files of the server"), true);
  });
}
