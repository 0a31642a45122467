/** A small test framework for the browser: a list of tests, assertions, and files of the server. */

const MAX_MS = 45_000; // for each test; emulated WebGPU starts slowly
const SHARE = 0.999;

/** @typedef {{name: string, error: string | null, skip: string}} Result `skip` is the reason for skipping the test */

/** @type {{name: string, body: () => Promise<unknown>, skip: string}[]} */
const tests = [];

/**
 * @param {string} name
 * @param {() => Promise<unknown>} body
 * @param {string} [skip] the reason why it cannot run here
 */
export function test(name, body, skip = "") {
  tests.push({ name, body, skip });
}

/**
 * Run all tests in turn.
 * @param {(result: Result) => unknown} tell
 */
export async function runAll(tell) {
  for (const { name, body, skip } of tests) {
    const late = new Promise((_, reject) => setTimeout(reject, MAX_MS, `not finished after ${MAX_MS} ms`));
    const done = skip ? Promise.resolve() : Promise.race([body(), late]);
    await tell({ name, skip, error: await done.then(() => null, (thrown) => `${thrown?.stack ?? thrown}`) });
  }
}

/**
 * @param {unknown} actual
 * @param {unknown} expected
 * @param {string} [what]
 */
export function equal(actual, expected, what = "value") {
  const [actualText, expectedText] = [actual, expected].map((value) => JSON.stringify(value) ?? String(value));
  if (actualText !== expectedText) throw new Error(`${what} ${actualText}, expected ${expectedText}`);
}

/**
 * Fail unless the sizes are equal and nearly all samples differ by at most one level.
 * @param {import("../../src/decoder.js").RgbaImage} found
 * @param {import("../../src/assets/npz.js").NumpyArray | undefined} expected
 */
export function alike({ width, height, data }, expected) {
  equal([height, width, 4], expected?.shape);
  const isNear = (/** @type {number} */ level, /** @type {number} */ n) =>
    Math.abs(level - (expected?.values[n] ?? NaN)) <= 1;
  const near = data.filter(isNear).length;
  if (near < SHARE * data.length) throw new Error(`${data.length - near} of ${data.length} samples differ by more than one level`);
}

/**
 * Fail unless a promise rejects with an error of that name.
 * @param {Promise<unknown>} promise
 * @param {string} name
 */
export async function fails(promise, name) {
  equal(await promise.then(() => "no error", (error) => error.name), name);
}

/**
 * @param {string} path of `tests/vectors`
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function vector(path) {
  return new Uint8Array(await (await fetch(`/vectors/${path}`)).arrayBuffer());
}

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function json(path) {
  return (await fetch(path)).json();
}

/**
 * Return the next event of a type.
 * @param {EventTarget} target
 * @param {string} kind
 * @returns {Promise<any>}
 */
export function next(target, kind) {
  return new Promise((resolve) => target.addEventListener(kind, resolve, { once: true }));
}
