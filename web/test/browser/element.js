/** Tests of the element `<sdt-image>`, and of the polyfill. */

import { SdtImage, define } from "../../src/element.js";
import { Encoder } from "../../src/encoder.js";
import { polyfill } from "../../src/polyfill.js";
import { equal, fails, next, test } from "./check.js";

const ODD = "/vectors/tiny_odd_size/input.sdt", GREY = "/vectors/tiny_grey/input.sdt", FAR = 5000; // pixels
const BROKEN = "/vectors/x_version/input.sdt"; // a file that cannot be shown
const CHANNELS = 40; // of latents
const [WIDTH, HEIGHT] = [61, 43]; // of ODD

const stage = /** @type {HTMLElement} */ (document.getElementById("stage"));

/**
 * Empty the stage and put an element on it.
 * @param {Record<string, string>} attributes
 */
function staged(attributes) {
  const element = /** @type {SdtImage} */ (document.createElement("sdt-image"));
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  stage.replaceChildren(element);
  return element;
}

/** @param {SdtImage} element */
function canvasOf(element) {
  return /** @type {HTMLCanvasElement} */ (element.shadowRoot?.querySelector("canvas"));
}

/** @param {Element} element */
function sizeOf(element) {
  const { width, height } = element.getBoundingClientRect();
  return [width, height].map(Math.round);
}

/** @param {SdtImage} element */
function middleOf(element) {
  const canvas = canvasOf(element);
  return [...(canvas.getContext("2d")?.getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1).data ?? [])];
}

export function addElementTests() {
  define();
  addLoading();
  addLooks();
  addPolyfill();
}

function addLoading() {
  test("SdtImage knows its size before the image is loaded", async () => {
    const element = staged({ src: ODD, alt: "noise" });
    equal([element.complete, element.naturalWidth], [false, 0]);
    while (!element.naturalWidth) await new Promise(requestAnimationFrame);
    equal([element.naturalWidth, element.naturalHeight], [WIDTH, HEIGHT]);
    equal(element.complete, false, "complete when only the size is known");
    await next(element, "load");
    equal(element.complete, true);
    equal(middleOf(element)[3], 255, "opacity");
    await element.decode();
  });

  test("SdtImage shows the preview before the image", async () => {
    const element = staged({ src: "/vectors/tiny_tiles/input.sdt" }), done = next(element, "load");
    while (!element.naturalWidth || !middleOf(element)[3]) await new Promise(requestAnimationFrame);
    equal(element.complete, false);
    const preview = canvasOf(element).toDataURL();
    await done;
    equal(canvasOf(element).toDataURL() !== preview, true, "the image differs from the preview");
  });

  test("SdtImage fires error and shows the alt text for a file that cannot be decoded", async () => {
    const element = staged({ src: BROKEN, alt: "a cat" });
    const { error } = await next(element, "error");
    equal([error.name, element.complete], ["FormatError", true]);
    equal(/** @type {HTMLElement} */ (element.shadowRoot?.querySelector("span")).innerText, "a cat");
    equal(canvasOf(element).hidden, true);
    await fails(element.decode(), "FormatError");
  });

  test("SdtImage shows the readable part of a truncated file", async () => {
    const element = staged({ src: "/vectors/x_truncated/input.sdt" });
    equal(element.missing, "");
    await next(element, "load");
    equal(element.missing, "tiles: 0 of 1 missing, 1 incomplete");
    equal([element.complete, middleOf(element)[3]], [true, 255]);
    element.src = GREY;
    await element.decode();
    equal(element.missing, "", "missing of an undamaged file");
  });

  test("SdtImage fires error for a missing file", async () => {
    const { error } = await next(staged({ src: "/nowhere.sdt" }), "error");
    equal(error.message.endsWith("404 Not Found"), true);
  });

  test("SdtImage fires error for an invalid address", async () => {
    const element = staged({ src: "http://[", alt: "a cat" });
    equal([(await next(element, "error")).error.name, element.src], ["TypeError", "http://["]);
  });

  test("SdtImage fires error for an image that is too long for a canvas", async () => {
    const encoder = new Encoder({ load: async (path) => (await fetch(`/data/${path}`)).arrayBuffer() }), height = 66_000;
    const file = await encoder.encodeLatents(new Float32Array((CHANNELS * height) / 8), { width: 1, height }, 2048);
    const { error } = await next(staged({ src: URL.createObjectURL(new Blob([file])) }), "error");
    equal(error.message, "this browser has no canvas of 1x66000 pixels");
  });

  test("SdtImage.decode fails without src", async () => {
    const element = staged({});
    equal([element.complete, element.currentSrc], [true, ""]);
    await fails(element.decode(), "EncodingError");
  });

  test("SdtImage loads only the last src", async () => {
    const element = staged({ src: ODD }), first = element.decode();
    let count = 0;
    element.addEventListener("load", () => count++);
    element.src = GREY;
    await fails(first, "AbortError");
    await element.decode();
    equal([element.naturalWidth !== WIDTH, element.src.endsWith(GREY), count], [true, true, 1]);
  });

  test("SdtImage stops loading when it is removed and restarts when it is inserted", async () => {
    const element = staged({ src: ODD }), first = element.decode();
    element.remove();
    await fails(first, "AbortError");
    equal(element.complete, true);
    stage.append(element);
    await next(element, "load");
    stage.prepend(element);
    equal([element.complete, element.naturalWidth], [true, WIDTH]);
  });

  test("a lazy SdtImage waits until it is near the view, decoded, or printed", async () => {
    const below = { src: ODD, loading: "lazy", width: "61", height: "43", style: `position: absolute; top: ${FAR}px` };
    for (const act of [
      (/** @type {SdtImage} */ element) => element.scrollIntoView(),
      (/** @type {SdtImage} */ element) => void element.decode(),
      () => void dispatchEvent(new Event("beforeprint")),
      (/** @type {SdtImage} */ element) => element.removeAttribute("loading"),
    ]) {
      scrollTo(0, 0);
      const element = staged(below);
      await new Promise((resolve) => setTimeout(resolve, 100));
      equal([element.complete, element.naturalWidth], [false, 0], "before");
      const done = next(element, "load");
      act(element);
      await done;
    }
    scrollTo(0, 0);
  });
}

function addLooks() {
  test("SdtImage takes its size from the image, attributes, or style sheets", async () => {
    for (const [attributes, size] of /** @type {[Record<string, string>, number[]][]} */ ([
      [{}, [WIDTH, HEIGHT]],
      [{ width: "122" }, [122, 86]],
      [{ height: "86" }, [122, 86]],
      [{ width: "30", height: "50" }, [30, 50]],
      [{ class: "half" }, [28, 20]],
      [{ class: "half", width: "30", height: "50" }, [30, 20]],
      [{ class: "fluid", width: "122", height: "86" }, [122, 86]],
    ])) {
      const element = staged({ src: ODD, ...attributes });
      await element.decode();
      equal(sizeOf(element), size, `size with ${JSON.stringify(attributes)}`);
      equal(sizeOf(canvasOf(element)), size, `size within, with ${JSON.stringify(attributes)}`);
    }
  });

  test("SdtImage reserves the size of its attributes", async () => {
    equal(sizeOf(staged({ width: "122", height: "86", class: "fluid" })), [122, 86]);
  });

  test("SdtImage applies object-fit and object-position to its canvas", async () => {
    const element = staged({ src: ODD, class: "box" });
    await element.decode();
    const { objectFit, objectPosition } = getComputedStyle(canvasOf(element));
    equal([objectFit, objectPosition, ...sizeOf(element)], ["none", "0px 0px", 40, 40]);
  });

  test("SdtImage exposes its alt text to assistive technology", async () => {
    const element = staged({ src: ODD, alt: "noise" });
    const labels = () => ["role", "aria-label"].map((name) => canvasOf(element).getAttribute(name));
    equal(labels(), ["img", "noise"]);
    element.alt = "";
    equal(labels(), ["presentation", ""]);
  });
}

function addPolyfill() {
  test("polyfill replaces present and later images of .sdt files only", async () => {
    stage.innerHTML = `<img src="${ODD}#early" class="half" alt="noise"><img src="${ODD}" alt="" hidden><img>`;
    polyfill();
    stage.insertAdjacentHTML("beforeend", `<p><img id="late" src="${GREY}?late"></p>`);
    await Promise.resolve();
    const [early, , late] = /** @type {SdtImage[]} */ ([...stage.querySelectorAll("sdt-image")]);
    await Promise.all([early.decode(), late.decode()]);
    equal([early.className, early.alt, late.id], ["half", "noise", "late"]);
    equal(stage.querySelectorAll("img").length, 1);
  });

  test("polyfill restores the img of a picture whose source fails", async () => {
    const other = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==";
    const html = (/** @type {string} */ src) =>
      `<picture><source type="image/x-sdt" srcset="${src}"><img src="${other}" alt="dot"></picture>`;
    stage.innerHTML = html(ODD) + html(BROKEN);
    await Promise.resolve();
    const [good, bad] = /** @type {SdtImage[]} */ ([...stage.querySelectorAll("sdt-image")]);
    await Promise.all([good.decode(), next(bad, "error")]);
    await new Promise(requestAnimationFrame);
    const last = [...stage.querySelectorAll("picture > :last-child")];
    equal(last.map(({ localName }) => localName), ["sdt-image", "img"]);
  });
}
