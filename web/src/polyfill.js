/**
 * Shows `.sdt` files in existing markup: `<img src="photo.sdt">`, and `<source type="image/x-sdt">` within `<picture>`.
 */

import { define } from "./element.js";

const TYPE = "image/x-sdt", SDT = /\.sdt(?:[?#]|$)/i;

/**
 * Replace each image of an `.sdt` file, including later ones, by an `<sdt-image>` with the same attributes. If that
 * fails within `<picture>`, the `<img>` is restored.
 * @param {Parameters<typeof define>[0]} [options] passed to `define`
 */
export function polyfill(options) {
  define(options);
  replaceAll(document);
  new MutationObserver((records) => {
    for (const target of new Set(records.map((record) => record.target))) {
      if (target instanceof Element) replaceAll(target.parentElement ?? target);
    }
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["src", "srcset"] });
}

/** @param {Document | Element} root */
function replaceAll(root) {
  for (const image of root.querySelectorAll("img")) replace(image);
}

/** Images whose file failed. */
const failed = /** @type {WeakSet<HTMLImageElement>} */ (new WeakSet());

/** @param {HTMLImageElement} image */
function replace(image) {
  const source = image.closest("picture")?.querySelector(`source[type="${TYPE}"]`);
  const src = source?.getAttribute("srcset") ?? image.getAttribute("src") ?? "";
  if ((!source && !SDT.test(src)) || failed.has(image)) return;
  const element = document.createElement("sdt-image");
  for (const attribute of image.attributes) element.setAttributeNode(/** @type {Attr} */ (attribute.cloneNode()));
  element.setAttribute("src", src);
  if (source) {
    element.addEventListener("error", () => {
      failed.add(image);
      element.replaceWith(image);
    });
  }
  image.replaceWith(element);
}
