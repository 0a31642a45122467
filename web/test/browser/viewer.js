/** The viewer, in a frame of the page. */

import { equal, next, test } from "./check.js";

const ODD = "/vectors/tiny_odd_size/input.sdt", BROKEN = "/vectors/x_version/input.sdt", CUT = "/vectors/x_truncated/input.sdt";

const frame = document.createElement("iframe");
Object.assign(frame, { width: "800", height: "600" });

/** @param {string} name of a class within the frame */
function at(name) {
  return /** @type {HTMLElement} */ (frame.contentDocument?.querySelector(`.${name}`));
}

/**
 * Wait until something holds.
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
 * Choose a codec beside the file.
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

  test("what is zoomed by keys stays within the frame", async () => {
    await shown(`#${ODD}`);
    equal([press("+"), press("-"), press("1")], ["125 %", "100 %", "100 %"]);
    for (let n = 0; n < 20; n++) press("+");
    equal(at("sheet").classList.contains("near"), true, "single pixels");
    for (let n = 0; n < 100; n++) press("ArrowRight");
    const { right } = at("sheet").getBoundingClientRect(), stage = at("stage").getBoundingClientRect();
    equal(Math.round(right), Math.round(stage.right), "right edge");
    equal(press("0"), "100 %");
  });

  test("JPEG and WebP stand beside the file", async () => {
    await shown(`#${ODD}`);
    for (const [type, name] of [["image/jpeg", "JPEG"], ["image/webp", "WebP"]]) {
      choose(type);
      await until(() => at("said").textContent?.startsWith(`right of the line: ${name}`));
      equal([at("rival").hidden, at("split").hidden, at("theirs").textContent], [false, false, name]);
    }
    choose("");
    await until(() => at("rival").hidden);
  });

  test("of what runs networks the service worker keeps what is taken alone", async () => {
    const lib = "/lib/ort-wasm-simd-threaded";
    await until(() => caches.match(`${lib}.wasm`).then(Boolean));
    equal(await caches.match(`${lib}.asyncify.wasm`).then(Boolean), false, "WebGPU's kept");
  });

  test("after the first visit the viewer opens without a network", async () => {
    await navigator.serviceWorker.ready;
    await fetch("/offline");
    await opened("");
    await until(() => at("drop").getClientRects().length);
    const paths = ["/data/bundles/tiny/decoder.onnx", ODD];
    const found = await Promise.all(paths.map((path) => frame.contentWindow?.fetch(path)));
    equal(found.map((answer) => answer?.status), [200, 404]);
  });
}

function addShowing() {
  test("the viewer waits for files", async () => {
    await opened("");
    equal([at("view").hidden, at("drop").getClientRects().length], [true, 1]);
  });

  test("it shows what its address names", async () => {
    await shown(`#${ODD}`);
    const { width, height } = /** @type {HTMLCanvasElement} */ (at("picture"));
    equal([width, height, at("details").innerText.includes("61 × 43 pixels")], [61, 43, true]);
  });

  test("it shows files that are dropped, of several one at a time", async () => {
    await opened("");
    const bytes = await (await fetch(ODD)).arrayBuffer(), transfer = new DataTransfer();
    for (const name of ["one.sdt", "two.sdt"]) transfer.items.add(new File([bytes], name));
    frame.contentDocument?.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
    await until(() => at("said").textContent?.startsWith("shown"));
    equal([at("shelf").hidden, /** @type {HTMLSelectElement} */ (at("files")).length], [false, 2]);
  });

  test("an address that names nothing is told of by its name as it is written", async () => {
    await opened("#/%ff.sdt");
    await until(() => !at("wrong").hidden);
    equal(at("wrong").textContent, "%ff.sdt: 404 Not Found");
  });

  test("another quality is that of the file which is chosen, not of the one before it", async () => {
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

  test("it says what is wrong with a file", async () => {
    await opened(`#${BROKEN}`);
    await until(() => !at("wrong").hidden);
    equal([at("wrong").textContent?.startsWith("input.sdt: "), at("view").hidden], [true, true]);
  });

  test("a photo becomes a file, which lies beside it and can be saved", async () => {
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

  test("it shows what there is of a file that is cut short, and says what is missing", async () => {
    await opened(`#${CUT}`);
    await until(() => at("said").textContent?.startsWith("what there is"));
    equal(at("lacking").textContent, "Cut short or damaged: tiles: 0 of 1 missing, 1 incomplete");
    equal([at("lacking").hidden, at("view").hidden, at("wrong").hidden], [false, false, true]);
    await shown(`#${ODD}`);
    equal(at("lacking").hidden, true, "of a whole file");
  });

  test("it opens nothing of other servers", async () => {
    await opened("#https://example.org/photo.sdt");
    await until(() => !at("wrong").hidden);
    equal(at("wrong").textContent?.startsWith("Only files of the server"), true);
  });
}
