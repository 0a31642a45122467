/** What tests in a browser need: a list of them, assertions, files of the server. */

const MOST_MS = 15_000; // for a test

/** @type {{name: string, body: () => Promise<unknown>}[]} */
const tests = [];

/**
 * @param {string} name
 * @param {() => Promise<unknown>} body
 */
export function test(name, body) {
  tests.push({ name, body });
}

/**
 * Run all tests, one after the other.
 * @param {(result: {name: string, error: string | null}) => unknown} tell
 */
export async function runAll(tell) {
  for (const { name, body } of tests) {
    const late = new Promise((_, reject) => setTimeout(reject, MOST_MS, `not done after ${MOST_MS} ms`));
    const error = await Promise.race([body(), late]).then(() => null, (thrown) => `${thrown?.stack ?? thrown}`);
    await tell({ name, error });
  }
}

/**
 * @param {unknown} found
 * @param {unknown} expected
 * @param {string} [what]
 */
export function equal(found, expected, what = "found") {
  const [told, wanted] = [found, expected].map((value) => JSON.stringify(value) ?? String(value));
  if (told !== wanted) throw new Error(`${what} ${told}, expected ${wanted}`);
}

/**
 * Fail unless a promise fails with an error of a name.
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
 * Return the next event of a kind.
 * @param {EventTarget} target
 * @param {string} kind
 * @returns {Promise<any>}
 */
export function next(target, kind) {
  return new Promise((resolve) => target.addEventListener(kind, resolve, { once: true }));
}
