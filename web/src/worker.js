/** The worker's side of `client.js`: handles requests in turn, and transfers the pixels of results. */

import { Decoder } from "./decoder.js";
import { Encoder } from "./encoder.js";
import { BundleError } from "./error.js";

/**
 * `data` is the folder of the decoder's files. `args` are the arguments of the method.
 * @typedef {{id: number, data: string, backend?: import("./networks/runtime.js").Backend, look?:
 *   import("./networks/bundle.js").Look, method: "decode" | "preview"
 *   | "info" | "backend" | "encode", args: any[]}} Request
 */
/** @typedef {{id: number, result?: any, error?: {name: string, message: string}}} Answer */

/** @type {Decoder | undefined} */
let decoder;
/** @type {Encoder | undefined} */
let encoder;

/**
 * @param {string} data
 * @returns {import("./assets/assets.js").Load}
 */
function loadFrom(data) {
  return async (path) => {
    const { href } = new URL(path, data), answer = await fetch(href);
    if (!answer.ok) throw new BundleError(`${href}: ${answer.status} ${answer.statusText}`);
    return answer.arrayBuffer();
  };
}

/** @param {MessageEvent<Request>} event */
self.onmessage = async ({ data: { id, data, backend, look, method, args } }) => {
  /** @type {Answer} */
  let answer;
  try {
    const worker = method === "encode"
      ? (encoder ??= new Encoder({ load: loadFrom(data), backend }))
      : (decoder ??= new Decoder({ load: loadFrom(data), backend, look }));
    answer = { id, result: await (/** @type {any} */ (worker))[method](...args) };
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    answer = { id, error: { name, message } };
  }
  const pixels = answer.result?.data?.buffer;
  postMessage(answer, { transfer: pixels ? [pixels] : [] });
};
