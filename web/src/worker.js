/** A module worker: requests of `client.js`, one after the other, to pictures, whose buffers are handed over. */

import { BundleError } from "./error.js";
import { Decoder } from "./picture.js";

/**
 * `data` is where the decoder's files lie, `args` are those of the decoder's method.
 * @typedef {{id: number, data: string, method: "decode" | "preview" | "info", args: any[]}} Request
 */
/** @typedef {{id: number, found?: any, error?: {name: string, message: string}}} Answer */

/** @type {Decoder | undefined} */
let decoder;

/**
 * @param {string} data
 * @returns {import("./assets.js").Load}
 */
function loadFrom(data) {
  return async (path) => {
    const { href } = new URL(path, data), answer = await fetch(href);
    if (!answer.ok) throw new BundleError(`${href}: ${answer.status} ${answer.statusText}`);
    return answer.arrayBuffer();
  };
}

/** @param {MessageEvent<Request>} event */
self.onmessage = async ({ data: { id, data, method, args } }) => {
  decoder ??= new Decoder({ load: loadFrom(data) });
  /** @type {Answer} */
  let answer;
  try {
    answer = { id, found: await (/** @type {any} */ (decoder))[method](...args) };
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    answer = { id, error: { name, message } };
  }
  const pixels = answer.found?.data?.buffer;
  postMessage(answer, { transfer: pixels ? [pixels] : [] });
};
