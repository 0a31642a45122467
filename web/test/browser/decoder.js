/** Tests of the conformance vectors in a browser, and of the decoder in its worker. */

import { Assets } from "../../src/assets/assets.js";
import { readNpz } from "../../src/assets/npz.js";
import { open } from "../../src/client.js";
import { LatentReader } from "../../src/coding/latent_reader.js";
import { DEFAULT_LIMITS, readFile } from "../../src/format/container.js";
import { alike, equal, fails, json, test, vector } from "./check.js";

const LARGE = "tiny_tiles", SMALL = "tiny_grey/input.sdt";

/** @param {Int16Array} data */
async function sha256(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data.slice().buffer));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {string[]} names of all vectors */
export function addDecoderTests(names) {
  const assets = new Assets(async (path) => (await fetch(`/engine/data/${path}`)).arrayBuffer());
  const client = open();
  const expected = fetch("/expected.npz").then(async (answer) => readNpz(new Uint8Array(await answer.arrayBuffer())));

  for (const name of names.filter((name) => !name.startsWith("x_"))) {
    test(`LatentReader decodes the symbols of ${name}`, async () => {
      const { symbols_sha256: hash, model } = await json(`/vectors/${name}/expect.json`);
      const file = readFile(await vector(`${name}/input.sdt`));
      const reader = await LatentReader.open(file, assets, DEFAULT_LIMITS, model && await modelOf(model));
      if (!reader.isPalette) equal(await sha256(reader.decoded().symbols), hash);
    });

    test(`Client decodes image and preview of ${name} like Python`, async () => {
      const images = await expected, bytes = await vector(`${name}/input.sdt`);
      if (!images.has(name)) return;
      alike(await client.decode(bytes), images.get(name));
      alike(await client.preview(bytes), images.get(`${name}.preview`));
    });
  }

  for (const name of names.filter((name) => name.startsWith("x_"))) {
    test(`Client refuses ${name}`, async () => {
      const { error } = await json(`/vectors/${name}/expect.json`);
      await fails(client.decode(await vector(`${name}/input.sdt`)), error);
    });
  }

  test("Client raises RangeError for a region outside the image", async () => {
    const region = { left: 0, top: 0, width: 5000, height: 1 };
    await fails(client.decode(await vector(SMALL), { region }), "RangeError");
  });

  test("Client sends small requests first and skips aborted ones", async () => {
    const large = await vector(`${LARGE}/input.sdt`), control = new AbortController();
    const order = /** @type {string[]} */ ([]);
    const requests = [
      client.decode(large).then(() => order.push("first")),
      client.decode(large, { signal: control.signal }).catch((error) => order.push(error.name)),
      client.decode(large).then(() => order.push("last")),
      client.info(large).then(() => order.push("info")),
    ];
    control.abort();
    await Promise.all(requests);
    equal(order, ["AbortError", "first", "info", "last"]);
    await fails(client.info(large, { signal: control.signal }), "AbortError");
  });

  test("the look is that of the request, else that of the client, else faithful and fast on phones", async () => {
    const images = await expected, bytes = await vector(SMALL), fast = open({ look: "fast" });
    const image = await fast.decode(bytes);
    equal(image.look, "fast");
    alike(image, images.get("tiny_grey.fast"));
    equal((await fast.decode(bytes, { look: "faithful" })).look, "faithful");
    fast.close();
    equal((await client.decode(bytes)).look, "faithful");
    for (const mobile of [true, false]) {
      Object.defineProperty(navigator, "userAgentData", { value: { mobile }, configurable: true });
      const phone = open();
      equal((await phone.decode(bytes)).look, mobile ? "fast" : "faithful");
      phone.close();
    }
    delete /** @type {any} */ (navigator).userAgentData;
  });

  test("Client continues after a request that cannot be copied to the worker", async () => {
    const other = open(), bytes = await vector(SMALL), detached = bytes.slice();
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    const requests = [other.info(bytes), other.decode(detached), other.info(bytes)];
    equal(await Promise.all(requests.map((request) => request.then(() => "done", ({ name }) => name))), ["done", "DataCloneError", "done"]);
    other.close();
  });

  test("Client.close fails pending and later requests", async () => {
    const other = open(), bytes = await vector(SMALL), requests = other.decode(bytes);
    other.close();
    await fails(requests, "Error");
    await fails(other.info(bytes), "Error");
  });

  test("Client raises BundleError for missing files of the decoder", async () => {
    const other = open({ data: "/nowhere/" });
    await fails(other.decode(await vector(SMALL)), "BundleError");
    other.close();
  });

  test("Client raises Error for a missing worker", async () => {
    await fails(open({ worker: "/nowhere.js" }).info(await vector(SMALL)), "Error");
  });
}

/**
 * @param {{profile: string, prior: string}} model
 * @returns {Promise<import("../../src/format/profile.js").Model>}
 */
async function modelOf({ profile, prior }) {
  const bytes = (profile.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
  const answer = await fetch(`/${prior}`);
  return { profile: new Uint8Array(bytes), prior: new Uint8Array(await answer.arrayBuffer()) };
}
