/** The available bundles of networks, and their manifests. */

import { BundleError } from "../error.js";

/** @typedef {import("../assets/assets.js").Assets} Assets */

/** @typedef {"faithful" | "fast"} Look which decoder of a bundle is used: the one of least error, or of least time */

/**
 * The manifest of a bundle. `pixel_range` are the network's values of levels 0 and 255. `reach` is the radius of the
 * networks' receptive field, in latents.
 * @typedef {{schema: number, pixel_range: [number, number], decoder_takes_step: boolean, reach: number}} Manifest
 */

const SCHEMA = 1;
/** @type {Record<Look, string>} */
const DECODERS = { faithful: "decoder.onnx", fast: "fast.onnx" };
/** @type {readonly string[]} */
export const LOOKS = Object.keys(DECODERS);
const FOLDERS = new Map([["tiny", "bundles/tiny"]]);

/**
 * Return the folder of a latent space's bundle.
 * @param {string} latentSpace
 * @throws {BundleError} if there is no bundle
 */
export function bundleFolder(latentSpace) {
  const folder = FOLDERS.get(latentSpace);
  if (!folder) throw new BundleError(`no model for latent space ${latentSpace}; this decoder has: tiny`);
  return folder;
}

/**
 * Return the path of the decoder network of a look.
 * @param {string} folder
 * @param {Look} look
 */
export function decoderPath(folder, look) {
  return `${folder}/${DECODERS[look]}`;
}

/**
 * Load the manifest of a bundle.
 * @param {string} folder
 * @param {Assets} assets
 * @throws {BundleError} if this version cannot run the bundle
 */
export async function loadManifest(folder, assets) {
  const manifest = /** @type {Manifest} */ (await assets.json(`${folder}/bundle.json`));
  const isKnown = manifest.schema === SCHEMA && manifest.reach !== undefined;
  if (!isKnown) throw new BundleError(`${folder}: schema ${manifest.schema}, expected ${SCHEMA}`);
  return manifest;
}
