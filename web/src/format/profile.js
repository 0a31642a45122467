/** Latent profiles: all that turns symbols into latents. They ship with sdtrt, with a model, or lie in the file. */

import { BundleError, need } from "../error.js";
import { BUNDLED, DIGEST_NBYTES, INLINE, PROFILE_NBYTES } from "./container.js";

/** @typedef {import("../assets/assets.js").Assets} Assets */
/** @typedef {import("./container.js").File} File */

/** Ids of priors that stand for no network: one that streams bring, and method palette. */
export const ADAPTIVE = 0, PALETTE = 255;
const NAMES = new Map([[1, "tiny-1"], [2, "sd1-1"]]);
const LARGEST_STEP_CODE = 4095, LARGEST_STEP = 2 ** 8, LARGEST_SYMBOL = 2 ** 15;

// The quality at which a residual has that step, in 1/16 level, and by how much it rises or falls for half or twice it.
const KNEE = 65, KNEE_STEP = 36 * 16, FINE_OCTAVE = 10.6, COARSE_OCTAVE = 25;

/**
 * What every file tells of its latent space: its name, channels, pixels a latent is wide, and the step codes of
 * qualities 1 and 100.
 * @typedef {{latentSpace: string, channels: number, downscale: number, stepCodes: [number, number]}} Outline
 */

/**
 * How a latent space is quantized: vectors of a number for each channel.
 * @typedef {{mean: Float32Array, spread: Float32Array, weight: Float32Array, offset: Float32Array}} Vectors
 */

/**
 * The linear part of a latent space's way to pictures: `weights` (3, channels, 3, 3) and `bias` (3), in levels.
 * @typedef {{channels: number[], weights: Float32Array, bias: Float32Array}} Preview
 */

/**
 * `masking` is how many channels, the first ones, tell what masks errors.
 * @typedef {Outline & Vectors & {masking: number, preview: Preview | null}} Profile
 */

/**
 * A model of the caller's own, to which files may refer: its profile as files carry one, and its prior's file.
 * @typedef {{profile: Uint8Array<ArrayBuffer>, prior: Uint8Array<ArrayBuffer>}} Model
 */

/**
 * Return what a file tells of its latent space, for which no model is needed.
 * @param {File} file
 * @param {Assets} assets
 * @returns {Promise<Outline>}
 * @throws {import("../error.js").FormatError} if that is unknown or malformed
 */
export async function outlineOf({ header, profile }, assets) {
  const isBundled = header.profile === BUNDLED;
  need(isBundled === (header.prior === BUNDLED), `malformed file: profile ${header.profile}, prior ${header.prior}`);
  if (isBundled) return unpackOutline(profile);
  if (header.profile === INLINE) {
    need(header.prior === ADAPTIVE, `malformed file: prior ${header.prior} with a latent profile of its own`);
    return unpack(profile);
  }
  return shipped(header.profile, assets);
}

/**
 * Return the profile that a file names, carries, or shares with its model.
 * @param {File} file
 * @param {Assets} assets
 * @param {Model} [model]
 * @returns {Promise<Profile>}
 * @throws {import("../error.js").FormatError} if it is unknown or malformed
 * @throws {BundleError} if it is that of a model that is not at hand
 */
export async function profileOf(file, assets, model) {
  const outline = await outlineOf(file, assets);
  if (file.header.profile !== BUNDLED) return /** @type {Profile} */ (outline);
  if (!model || !(await refersTo(file, model))) {
    throw new BundleError(`latents are by the prior of a model of latent space ${outline.latentSpace}, not at hand`);
  }
  return unpack(model.profile);
}

/**
 * Return the channels, rows and columns of a picture's latents.
 * @param {Outline} outline
 * @param {{width: number, height: number}} size in pixels
 * @returns {[channels: number, height: number, width: number]}
 */
export function gridOf({ channels, downscale }, { width, height }) {
  return [channels, Math.ceil(height / downscale), Math.ceil(width / downscale)];
}

/**
 * Return the quality that a file's steps stand for.
 * @param {Outline} outline
 * @param {number} stepCode
 * @param {number} residual the step of the residual in 1/16 level, which alone tells the quality; 0 if there is none
 */
export function qualityOf({ stepCodes: [first, last] }, stepCode, residual) {
  if (!residual) return 1 + (99 * (stepCode - first)) / (last - first);
  const octaves = Math.log2(KNEE_STEP / residual);
  return KNEE + octaves * (octaves > 0 ? FINE_OCTAVE : COARSE_OCTAVE);
}

/**
 * @param {File} file
 * @param {Model} model
 */
async function refersTo({ profile }, model) {
  const both = new Uint8Array(model.profile.length + model.prior.length);
  both.set(model.profile);
  both.set(model.prior, model.profile.length);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", both)).subarray(0, DIGEST_NBYTES);
  const expected = [...model.profile.subarray(0, PROFILE_NBYTES), ...digest];
  return profile.every((byte, n) => byte === expected[n]);
}

/**
 * Return the quantizer's step of each channel in units of its latents.
 * @param {Vectors} profile
 * @param {number} stepCode
 */
export function deltasOf({ spread, weight }, stepCode) {
  const step = stepOf(stepCode);
  return spread.map((one, channel) => Math.fround(Math.fround(one * weight[channel]) * step));
}

/**
 * Return the quantizer's step that a code stands for.
 * @param {number} stepCode
 */
export function stepOf(stepCode) {
  return Math.fround(2 ** ((stepCode - 2048) / 256));
}

/**
 * Return the step code of a quality, halves rounded to even.
 * @param {Outline} outline
 * @param {number} quality 1 … 100
 */
export function stepCodeOf({ stepCodes: [first, last] }, quality) {
  const exact = first + ((last - first) * (quality - 1)) / 99, below = Math.floor(exact);
  return below + Number(exact - below > 0.5 || (exact - below === 0.5 && below % 2 === 1));
}

/**
 * Return a profile that ships with sdtrt.
 * @param {number} id
 * @param {Assets} assets
 * @returns {Promise<Profile>}
 * @throws {import("../error.js").FormatError} if there is none of that id
 */
export async function shipped(id, assets) {
  const name = NAMES.get(id);
  need(name, `latent profile ${id} is unknown; a later version may read this file`);
  const fields = await assets.json(`profiles/${name}.json`);
  const { latent_space: latentSpace, channels, downscale, step_codes: stepCodes } = fields;
  const vector = (/** @type {string} */ key) => Float32Array.from(fields[key]);
  const [mean, spread, weight, offset] = ["mean", "spread", "weight", "offset"].map(vector);
  const preview = fields.preview ? previewOf(fields.preview) : null;
  return { latentSpace, channels, downscale, stepCodes, mean, spread, weight, offset, masking: fields.masking ?? 0, preview };
}

/**
 * @param {{channels: number[], weights: number[], bias: number[]}} fields
 * @returns {Preview}
 */
function previewOf({ channels, weights, bias }) {
  return { channels, weights: Float32Array.from(weights), bias: Float32Array.from(bias) };
}

/**
 * Return what is at the start of a profile in a file.
 * @param {Uint8Array<ArrayBuffer>} data
 * @returns {Outline}
 */
function unpackOutline(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const name = Array.from(data.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const first = view.getUint16(6, true), last = view.getUint16(8, true);
  need(data[4] && data[5], "malformed file: a latent profile without channels, or of no size");
  need(Math.max(first, last) <= LARGEST_STEP_CODE && first !== last, `latent profile has step codes ${first}, ${last}`);
  return { latentSpace: `x-${name}`, channels: data[4], downscale: data[5], stepCodes: [first, last] };
}

/**
 * Return the profile that a file carries.
 * @param {Uint8Array<ArrayBuffer>} data
 * @returns {Profile}
 */
function unpack(data) {
  const outline = unpackOutline(data), { channels } = outline;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  need(data.length === PROFILE_NBYTES + 16 * channels, `latent profile of ${data.length} bytes`);
  const [mean, spread, weight, offset] = [0, 1, 2, 3].map((vector) => Float32Array.from(
    { length: channels }, (_, n) => view.getFloat32(PROFILE_NBYTES + 4 * (vector * channels + n), true)));
  for (let n = 0; n < channels; n++) {
    const isValid = [mean[n], spread[n], weight[n], offset[n]].every(Number.isFinite) && spread[n] > 0 && weight[n] > 0;
    need(isValid, "latent profile has values that are not finite, or spreads or weights that are not positive");
    const reach = Math.fround(LARGEST_SYMBOL + Math.abs(offset[n]));
    const largest = Math.fround(Math.fround(Math.fround(spread[n] * weight[n]) * LARGEST_STEP) * reach);
    need(Number.isFinite(Math.fround(Math.abs(mean[n]) + largest)), "latent profile has values that are too large");
  }
  return { ...outline, mean, spread, weight, offset, masking: 0, preview: null };
}
