/** What networks run by in a browser. */

import { readNpz } from "../../src/assets/npz.js";
import { open } from "../../src/client.js";
import { alike, equal, fails, test, vector } from "./check.js";

const SMALL = "tiny_grey/input.sdt";
/** Vectors for WebGPU: small ones, since the processor may emulate it. */
const BY_GPU = ["tiny_1x1", "tiny_alpha", "tiny_grey", "tiny_odd_size", "residual_coarse"];

/** Return why networks cannot run by WebGPU here, "" if they can. */
async function lackingGpu() {
  const { gpu } = /** @type {any} */ (navigator);
  return (await gpu?.requestAdapter()) ? "" : "no adapter of WebGPU";
}

/**
 * Return a decoder in a worker of the tests, and what is warned of there.
 * @param {string} name of the worker
 * @param {Parameters<typeof open>[0]} [options]
 */
function opened(name, options) {
  const warnings = /** @type {string[]} */ ([]), channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }) => warnings.push(data);
  return { client: open({ ...options, worker: `/test/browser/${name}_worker.js` }), channel, warnings };
}

/**
 * Fail unless a decoder runs by WebAssembly now, and has said once that WebGPU failed.
 * @param {ReturnType<typeof opened>} one
 */
async function fellBack({ client, channel, warnings }) {
  const bytes = await vector(SMALL), found = [await client.decode(bytes), await client.decode(bytes)];
  equal([...found.map(({ backend }) => backend), await client.backend()], ["wasm", "wasm", "wasm"]);
  equal(warnings.filter((text) => text.startsWith("WebGPU failed")).length, 1, "warnings");
  client.close();
  channel.close();
}

export async function addBackendTests() {
  test("networks run by WebAssembly where that is asked for", async () => {
    const client = open({ backend: "wasm" });
    equal([await client.backend(), (await client.decode(await vector(SMALL))).backend], ["wasm", "wasm"]);
    client.close();
  });

  test("a backend that is not known is a RangeError", async () => {
    const client = open({ backend: /** @type {any} */ ("webgl") });
    await fails(client.decode(await vector(SMALL)), "RangeError");
    client.close();
  });

  test("where WebGPU cannot begin WebAssembly is taken, which is said once", async () => {
    const one = opened("broken_gpu");
    equal(await one.client.backend(), "webgpu");
    await fellBack(one);
  });

  test("where WebGPU fails that must be taken, so does what is asked for", async () => {
    const { client, channel } = opened("broken_gpu", { backend: "webgpu" });
    await fails(client.decode(await vector(SMALL)), "Error");
    client.close();
    channel.close();
  });

  const lacking = await lackingGpu(), one = lacking ? null : opened("lost_gpu");
  const expected = readNpz(new Uint8Array(await (await fetch("/expected.npz")).arrayBuffer()));
  for (const name of BY_GPU) {
    test(`image of ${name} by WebGPU`, async () => {
      const found = await /** @type {NonNullable<typeof one>} */ (one).client.decode(await vector(`${name}/input.sdt`));
      equal(found.backend, "webgpu");
      alike(found, (await expected).get(name));
    }, lacking);
  }

  test("where WebGPU is lost WebAssembly is taken, which is said once", async () => {
    const lost = /** @type {NonNullable<typeof one>} */ (one);
    lost.channel.postMessage("lose it");
    await fellBack(lost);
  }, lacking);
}
