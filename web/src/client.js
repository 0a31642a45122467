/**
 * Runs the decoder in a Web Worker, so that the page stays responsive. Requests wait in a queue; small requests go
 * first.
 */

import { BundleError, FormatError, LimitError } from "./error.js";

/** @typedef {import("./format/container.js").Limits} Limits */
/** @typedef {import("./networks/runtime.js").Backend} Backend */
/** @typedef {import("./networks/bundle.js").Look} Look */
/** @typedef {import("./decoder.js").DecodedImage} DecodedImage */
/** @typedef {import("./decoder.js").Info} Info */
/** @typedef {import("./decoder.js").RgbaImage} RgbaImage */
/** @typedef {import("./decoder.js").Region} Region */
/** @typedef {import("./worker.js").Request} Request */

/** @typedef {{limits?: Partial<Limits>, signal?: AbortSignal}} Options an aborted request is not started */
/** @typedef {{request: Request, resolve: (result: any) => void, reject: (error: unknown) => void}} PendingRequest */

const SMALL = new Set(["preview", "info", "backend"]);
const ERRORS = new Map(/** @type {[string, new (message: string) => Error][]} */ ([
  ["FormatError", FormatError],
  ["LimitError", LimitError],
  ["BundleError", BundleError],
  ["RangeError", RangeError],
  ["TypeError", TypeError],
]));

/**
 * Open a decoder in its own worker. It loads its files on first use.
 *
 * - `data`: folder of the files that `Decoder` loads, ending in a slash (default: `data/` beside this module's folder)
 * - `worker`: another location of `worker.js`
 * - `backend`: the only backend that may run networks (default: WebGPU if it works, else WebAssembly)
 * - `look`: the default look of `decode` (default: `fast` on phones, else `faithful`)
 * @param {{data?: string | URL, worker?: string | URL, backend?: Backend, look?: Look}} [options]
 * @returns {Client}
 */
export function open({ data = new URL("../data/", import.meta.url), worker, backend, look = defaultLook() } = {}) {
  const thread = worker
    ? new Worker(worker, { type: "module" })
    : new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  return new Client(thread, new URL(data, location.href).href, backend, look);
}

/**
 * Return the look for this machine.
 * @returns {Look}
 */
function defaultLook() {
  const { userAgentData, userAgent } = /** @type {Navigator & {userAgentData?: {mobile: boolean}}} */ (navigator);
  return userAgentData?.mobile ?? /\bMobi/.test(userAgent) ? "fast" : "faithful";
}

/**
 * The asynchronous counterpart of `Decoder` and `Encoder`, with the same errors. Arguments are copied, so a file can be
 * used for several requests; pixels are transferred from the worker.
 */
export class Client {
  /**
   * Use `open`.
   * @param {Worker} worker
   * @param {string} data
   * @param {Backend} [backend]
   * @param {Look} [look]
   */
  constructor(worker, data, backend, look) {
    this._worker = worker;
    this._settings = { data, backend, look };
    this._count = 0;
    /** @type {PendingRequest[]} */
    this._queue = [];
    /** @type {PendingRequest | null} */
    this._current = null;
    /** @type {Error | null} */
    this._failure = null;
    worker.onmessage = ({ data: answer }) => this._settle(answer);
    worker.onerror = ({ message }) => this._fail(new Error(`the decoder's worker failed: ${message || "not loaded"}`));
  }

  /**
   * Decode an image, a region of it, or the readable part of a damaged file. `look` of the result names the decoder that
   * was used, `backend` the backend that ran it.
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {Options & {region?: Region, partial?: boolean, look?: Look}} [options]
   * @returns {Promise<DecodedImage>}
   */
  decode(bytes, { signal, ...options } = {}) {
    return this._request("decode", [bytes, options], signal);
  }

  /**
   * Decode an image at 1/`scale` of its size.
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {number} [scale]
   * @param {Options & {ahead?: boolean}} [options] with `ahead`, the network is loaded in the meantime
   * @returns {Promise<RgbaImage>}
   */
  preview(bytes, scale = 8, { signal, ...options } = {}) {
    return this._request("preview", [bytes, scale, options], signal);
  }

  /**
   * Return a file's metadata without decoding pixels.
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {Options} [options]
   * @returns {Promise<Info>}
   */
  info(bytes, { signal, ...options } = {}) {
    return this._request("info", [bytes, options], signal);
  }

  /**
   * Encode an image.
   * @param {RgbaImage} image an opaque one
   * @param {{quality?: number, maxPixels?: number, signal?: AbortSignal}} [options]
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  encode(image, { signal, ...options } = {}) {
    return this._request("encode", [image, options], signal);
  }

  /**
   * Return the backend that runs networks.
   * @returns {Promise<Backend>}
   */
  backend() {
    return this._request("backend", []);
  }

  /** End the worker. Pending and later requests fail. */
  close() {
    this._fail(new Error("the decoder is closed"));
  }

  /**
   * @param {Request["method"]} method
   * @param {any[]} args
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async _request(method, args, signal) {
    signal?.throwIfAborted();
    if (this._failure) throw this._failure;
    const request = { id: ++this._count, ...this._settings, method, args };
    let drop = () => {};
    try {
      return await new Promise((resolve, reject) => {
        const pending = { request, resolve, reject };
        drop = () => {
          this._queue = this._queue.filter((request) => request !== pending);
          reject(signal?.reason);
        };
        signal?.addEventListener("abort", drop);
        this._queue.push(pending);
        this._sendNext();
      });
    } finally {
      signal?.removeEventListener("abort", drop);
    }
  }

  /** Send the next request if none is running. */
  _sendNext() {
    if (this._current || !this._queue.length) return;
    const small = this._queue.findIndex(({ request }) => SMALL.has(request.method));
    [this._current] = this._queue.splice(Math.max(small, 0), 1);
    const { request, reject } = this._current;
    try {
      this._worker.postMessage(request);
    } catch (error) { // the request cannot be copied, so no answer will come
      this._current = null;
      reject(error);
      this._sendNext();
    }
  }

  /** @param {import("./worker.js").Answer} answer */
  _settle({ result, error }) {
    const { resolve, reject } = /** @type {PendingRequest} */ (this._current);
    this._current = null;
    if (error) reject(rebuildError(error));
    else resolve(result);
    this._sendNext();
  }

  /** @param {Error} failure */
  _fail(failure) {
    this._failure ??= failure;
    this._worker.terminate();
    for (const { reject } of [...(this._current ? [this._current] : []), ...this._queue]) reject(this._failure);
    this._queue = [];
    this._current = null;
  }
}

/** @param {{name: string, message: string}} error */
function rebuildError({ name, message }) {
  return new (ERRORS.get(name) ?? Error)(message);
}
