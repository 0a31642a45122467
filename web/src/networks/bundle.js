/** The bundles of networks that can be loaded: where they lie, and what they say of themselves. */

import { BundleError } from "../error.js";

/** @typedef {import("../assets/assets.js").Assets} Assets */

/**
 * What a bundle's manifest says: `pixel_range` are the values of levels 0 and 255, `reach` is how many latents away the
 * networks look.
 * @typedef {{schema: number, pixel_range: [number, number], decoder_takes_step: boolean, reach: number}} Manifest
 */

const SCHEMA = 1;
const FOLDERS = new Map([["tiny", "bundles/tiny"]]);

/**
 * Return the folder of the bundle of a latent space.
 * @param {string} latentSpace
 * @throws {BundleError} if there is none
 */
export function bundleFolder(latentSpace) {
  const folder = FOLDERS.get(latentSpace);
  if (!folder) throw new BundleError(`there is no model for latent space ${latentSpace}, only for: tiny`);
  return folder;
}

/**
 * Return the manifest of the bundle in a folder.
 * @param {string} folder
 * @param {Assets} assets
 * @throws {BundleError} if it is one that this version cannot run
 */
export async function loadManifest(folder, assets) {
  const manifest = /** @type {Manifest} */ (await assets.json(`${folder}/bundle.json`));
  const isKnown = manifest.schema === SCHEMA && manifest.reach !== undefined;
  if (!isKnown) throw new BundleError(`${folder} is of another schema`);
  return manifest;
}
