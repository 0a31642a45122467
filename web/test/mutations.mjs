/**
 * `node test/mutations.mjs [COUNT [FIRST]]` decodes hostile files, from number FIRST on.
 *
 * Each file must decode, or be refused with an error of `src/error.js`, within `MAX_MS` of CPU time and without memory
 * growth. The same holds for salvaging a refused file. The network is not run: a file is parsed completely before it.
 * Files are decoded in a thread that can be terminated.
 */

import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { Assets } from "../src/assets/assets.js";
import { LatentReader } from "../src/coding/latent_reader.js";
import { SalvagedLatentReader } from "../src/coding/salvaged_latent_reader.js";
import { SdtError } from "../src/error.js";
import { DEFAULT_LIMITS, readFile } from "../src/format/container.js";
import { salvageFile } from "../src/format/salvage.js";
import { LayerReader } from "../src/layers/layer_reader.js";
import { linearPreview } from "../src/layers/preview.js";
import { mutated } from "./mutated.js";
import { load } from "./vectors.js";

export const COUNT = 2000;
const SCALE = 8;
const MAX_MS = 5000, MAX_GROWTH = 64e6; // bytes, measured after the first third of the files
const LIMITS = { ...DEFAULT_LIMITS, maxPixels: 1 << 20 };

/** @typedef {{outcomes: Map<string, number>, slowest: number, growth: number}} AttackResult `growth` in bytes */

/**
 * Decode hostile files.
 * @param {number} count
 * @param {number} [first]
 * @returns {Promise<AttackResult>}
 * @throws {Error} with the number of a file that fails the test
 */
export async function attack(count, first = 0) {
  const worker = new Worker(new URL(import.meta.url), { workerData: { count, first } });
  let number = first, last = performance.now();
  /** @type {AttackResult | undefined} */
  let result;
  worker.on("message", (message) => {
    last = performance.now();
    if (typeof message === "number") number = message;
    else result = message;
  });
  const end = once(worker, "exit");
  const watch = setInterval(() => performance.now() - last > 4 * MAX_MS && worker.terminate(), MAX_MS);
  try {
    await end;
  } finally {
    clearInterval(watch);
  }
  if (!result) throw new Error(`file ${number} does not terminate`);
  return result;
}

/**
 * Return the outcome of a file: `image`, or the error that refuses it.
 * @param {number} number
 * @param {Assets} assets
 */
async function outcomeOf(number, assets) {
  const outcome = await outcomeWith(readFile, LatentReader, number, assets);
  if (outcome !== "image") await outcomeWith(salvageFile, SalvagedLatentReader, number, assets);
  return outcome;
}

/**
 * Return the outcome of a file when it is read, or when it is salvaged.
 * @param {typeof readFile} read
 * @param {typeof LatentReader} LatentsClass
 * @param {number} number
 * @param {Assets} assets
 */
async function outcomeWith(read, LatentsClass, number, assets) {
  const { name, data, model } = mutated(number);
  try {
    const file = read(data, LIMITS), { width, height } = file.header;
    const reader = await LatentsClass.open(file, assets, LIMITS, model);
    const layers = new LayerReader(file, reader.profile.downscale, assets);
    const latents = await reader.latents();
    if (!latents.every(Number.isFinite)) throw new Error("latents are not finite");
    await layers.apply(new Uint8ClampedArray(4 * width * height), { rows: [0, height], columns: [0, width] });
    await linearPreview(reader, layers, SCALE);
    return "image";
  } catch (error) {
    if (!(error instanceof SdtError)) throw new Error(`file ${number}, of ${name}`, { cause: error });
    return `${error.name}: ${error.message.replace(/x-[0-9a-f]+|\d+/g, "N").replace(/payload: .*/, "payload")}`;
  }
}

/**
 * @param {number} count
 * @param {number} first
 * @returns {Promise<AttackResult>}
 */
async function decodeAll(count, first) {
  const assets = new Assets(load), outcomes = new Map();
  let slowest = 0, memory = 0;
  for (let n = 0; n < count; n++) {
    parentPort?.postMessage(first + n);
    const started = cpuMs(), outcome = await outcomeOf(first + n, assets), took = cpuMs() - started;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    if (took > MAX_MS) throw new Error(`file ${first + n} took ${Math.round(took)} ms`);
    slowest = Math.max(slowest, took);
    if (n === Math.floor(count / 3)) memory = usedMemory();
  }
  const growth = usedMemory() - memory;
  if (growth > MAX_GROWTH) throw new Error(`memory grew by ${growth} bytes`);
  return { outcomes, slowest, growth };
}

/** Return the CPU time of this process. Wall time would depend on the load of the machine. */
function cpuMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Return the resident memory of this process after a garbage collection. */
function usedMemory() {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  return process.memoryUsage().rss;
}

if (!isMainThread && workerData?.count) {
  parentPort?.postMessage(await decodeAll(workerData.count, workerData.first));
} else if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [count = COUNT, first = 0] = process.argv.slice(2).map(Number);
  const { outcomes, slowest, growth } = await attack(count, first);
  const sorted = [...outcomes].sort(([, one], [, other]) => other - one);
  for (const [outcome, times] of sorted) console.log(String(times).padStart(8), outcome);
  console.log(`the slowest took ${slowest.toFixed(0)} ms; memory grew by ${(growth / 1e6).toFixed(1)} MB`);
}
