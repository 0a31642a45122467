/** A module worker for `benchmarks/browser.py`: decodes a file repeatedly and reports the time of each decode. */

import { InferenceSession, env } from "onnxruntime-web";
import { LatentReader } from "../src/coding/latent_reader.js";
import { Decoder } from "../src/decoder.js";

/** @typedef {{whole: number, entropy: number, network: number}} Times milliseconds of one decode */
/**
 * `data` as in `src/worker.js`.
 * @typedef {{threads: number, look: "faithful" | "fast", runs: number, file: string, data: string}} Request
 */

const spent = { entropy: 0, network: 0 };
/** @type {Decoder | undefined} */
let decoder;

const { prefetch } = LatentReader.prototype;
LatentReader.prototype.prefetch = function (/** @type {import("../src/format/layout.js").Place} */ area) {
  const started = performance.now();
  prefetch.call(this, area);
  spent.entropy += performance.now() - started;
};

const session = /** @type {any} */ (InferenceSession).prototype, { run } = session;
session.run = async function (/** @type {unknown[]} */ ...args) {
  const started = performance.now(), outputs = await run.apply(this, args);
  spent.network += performance.now() - started;
  return outputs;
};

/** @param {string} path */
async function bytesOf(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.arrayBuffer();
}

/** @param {MessageEvent<Request>} event */
self.onmessage = async ({ data: { threads, look, runs, file, data } }) => {
  env.wasm.numThreads = threads;
  decoder ??= new Decoder({ load: (path) => bytesOf(data + path), backend: "wasm" });
  const bytes = new Uint8Array(await bytesOf(file)), times = /** @type {Times[]} */ ([]);
  for (let n = 0; n < runs; n++) {
    spent.entropy = spent.network = 0;
    const started = performance.now();
    await decoder.decode(bytes, { look });
    times.push({ whole: performance.now() - started, ...spent });
  }
  postMessage({ threads: env.wasm.numThreads, times });
};
