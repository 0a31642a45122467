/** Tests of the backends that run networks in a browser. */

import { readNpz } from "../../src/assets/npz.js";
import { open } from "../../src/client.js";
import { alike, equal, fails, test, vector } from "./check.js";

const SMALL = "tiny_grey/input.sdt";
/** Vectors for WebGPU. They are small because the CPU may emulate it. */
const BY_GPU = ["tiny_1x1", "tiny_alpha", "tiny_grey", "tiny_odd_size", "residual_coarse"];

/** Return the reason why WebGPU cannot run here, "" if it can. */
async function gpuSkipReason() {
  const { gpu } = /** @type {any} */ (navigator);
  return (await gpu?.requestAdapter()) ? "" : "no WebGPU adapter";
}

/**
 * Open a decoder in decoder of the tests' workers. Return it with the list of its warnings.
 * @param {string} name of the worker
 * @param {Parameters<typeof open>[0]} [options]
 */
function openWithWarnings(name, options) {
  const warnings = /** @type {string[]} */ ([]), channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }) => warnings.push(data);
  return { client: open({ ...options, worker: `/test/browser/${name}_worker.js` }), channel, warnings };
}

/**
 * Fail unless a decoder uses WebAssembly and has warned exactly once that WebGPU failed.
 * @param {ReturnType<typeof openWithWarnings>} decoder
 */
async function checkFallback({ client, channel, warnings }) {
  const bytes = await vector(SMALL), images = [await client.decode(bytes), await client.decode(bytes)];
  equal([...images.map(({ backend }) => backend), await client.backend()], ["wasm", "wasm", "wasm"]);
  equal(warnings.filter((text) => text.startsWith("WebGPU failed")).length, 1, "warnings");
  client.close();
  channel.close();
}

export async function addBackendTests() {
  test("backend wasm runs networks by WebAssembly", async () => {
    const client = open({ backend: "wasm" });
    equal([await client.backend(), (await client.decode(await vector(SMALL))).backend], ["wasm", "wasm"]);
    client.close();
  });

  test("an unknown backend raises RangeError", async () => {
    const client = open({ backend: /** @type {any} */ ("webgl") });
    await fails(client.decode(await vector(SMALL)), "RangeError");
    client.close();
  });

  test("a decoder whose WebGPU does not start warns once and uses WebAssembly", async () => {
    const decoder = openWithWarnings("broken_gpu");
    equal(await decoder.client.backend(), "webgpu");
    await checkFallback(decoder);
  });

  test("backend webgpu fails without a fallback", async () => {
    const { client, channel } = openWithWarnings("broken_gpu", { backend: "webgpu" });
    await fails(client.decode(await vector(SMALL)), "Error");
    client.close();
    channel.close();
  });

  const skipReason = await gpuSkipReason(), decoder = skipReason ? null : openWithWarnings("lost_gpu");
  const expected = readNpz(new Uint8Array(await (await fetch("/expected.npz")).arrayBuffer()));
  for (const name of BY_GPU) {
    test(`WebGPU decodes ${name} like Python`, async () => {
      const image = await /** @type {NonNullable<typeof decoder>} */ (decoder).client.decode(await vector(`${name}/input.sdt`));
      equal(image.backend, "webgpu");
      alike(image, (await expected).get(name));
    }, skipReason);
  }

  test("a decoder whose WebGPU device is lost warns once and uses WebAssembly", async () => {
    const lost = /** @type {NonNullable<typeof decoder>} */ (decoder);
    lost.channel.postMessage("lose it");
    await checkFallback(lost);
  }, skipReason);
}
