/**
 * Latent profiles: the parameters that turn symbols into latents. A profile ships with sdtrt, comes with a model, or is
 * stored in the file.
 */

import { BundleError, need } from "../error.js";
import { BUNDLED, DIGEST_NBYTES, INLINE, PROFILE_NBYTES } from "./container.js";

/** @typedef {import("../assets/assets.js").Assets} Assets */
/** @typedef {import("./container.js").File} File */

/** Prior ids without a network: the adaptive prior, and method palette. */
export const ADAPTIVE = 0, PALETTE = 255;
const NAMES = new Map([[1, "tiny-1"], [2, "sd1-1"]]);
const MAX_STEP_CODE = 4095, MAX_STEP = 2 ** 8, MAX_SYMBOL = 2 ** 15;

// The residual step in 1/16 level at quality KNEE, and the quality points per halving of the step above and below it.
const KNEE = 65, KNEE_STEP = 36 * 16, FINE_OCTAVE = 10.6, COARSE_OCTAVE = 25;

/**
 * A latent space: its name, number of channels, width of a latent in pixels, and the step codes of qualities 1 and 100.
 * @typedef {{latentSpace: string, channels: number, downscale: number, stepCodes: [number, number]}} LatentSpaceInfo
 */

/**
 * Quantization parameters of a latent space, one number a channel.
 * @typedef {{mean: Float32Array, spread: Float32Array, weight: Float32Array, offset: Float32Array}} Vectors
 */

/**
 * A linear approximation of the decoder: `weights` (3, channels, 3, 3) and `bias` (3), in levels.
 * @typedef {{channels: number[], weights: Float32Array, bias: Float32Array}} Preview
 */

/**
 * A complete profile. The first `masking` channels determine the perceptual masking.
 * @typedef {LatentSpaceInfo & Vectors & {masking: number, preview: Preview | null}} Profile
 */

/**
 * A model of the caller: its profile in the file format, and the file of its prior.
 * @typedef {{profile: Uint8Array<ArrayBuffer>, prior: Uint8Array<ArrayBuffer>}} Model
 */

/**
 * Return the latent space of a file. No model is needed.
 * @param {File} file
 * @param {Assets} assets
 * @returns {Promise<LatentSpaceInfo>}
 * @throws {import("../error.js").FormatError} if it is unknown or malformed
 */
export async function readSpaceInfo({ header, profile }, assets) {
  const isBundled = header.profile === BUNDLED;
  need(isBundled === (header.prior === BUNDLED), `malformed file: profile ${header.profile}, prior ${header.prior}`);
  if (isBundled) return unpackSpaceInfo(profile);
  if (header.profile === INLINE) {
    need(header.prior === ADAPTIVE, `malformed file: prior ${header.prior} with an inline latent profile`);
    return parseProfile(profile);
  }
  return shippedProfile(header.profile, assets);
}

/**
 * Return the profile of a file: a shipped one, the file's own, or the one of its model.
 * @param {File} file
 * @param {Assets} assets
 * @param {Model} [model]
 * @returns {Promise<Profile>}
 * @throws {import("../error.js").FormatError} if it is unknown or malformed
 * @throws {BundleError} if the file refers to a model other than `model`
 */
export async function resolveProfile(file, assets, model) {
  const space = await readSpaceInfo(file, assets);
  if (file.header.profile !== BUNDLED) return /** @type {Profile} */ (space);
  if (!model || !(await refersTo(file, model))) {
    throw new BundleError(`the file needs its model, of latent space ${space.latentSpace}`);
  }
  return parseProfile(model.profile);
}

/**
 * Return the channels, rows and columns of an image's latents.
 * @param {LatentSpaceInfo} space
 * @param {{width: number, height: number}} size of the image, in pixels
 * @returns {[channels: number, height: number, width: number]}
 */
export function latentGrid({ channels, downscale }, { width, height }) {
  return [channels, Math.ceil(height / downscale), Math.ceil(width / downscale)];
}

/**
 * Return the quality that corresponds to a file's quantization steps.
 * @param {LatentSpaceInfo} space
 * @param {number} stepCode
 * @param {number} residual quantization step of the residual in 1/16 level, 0 without one. If set, it alone gives the
 *   quality.
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
  const profileAndPrior = new Uint8Array(model.profile.length + model.prior.length);
  profileAndPrior.set(model.profile);
  profileAndPrior.set(model.prior, model.profile.length);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", profileAndPrior)).subarray(0, DIGEST_NBYTES);
  const expected = [...model.profile.subarray(0, PROFILE_NBYTES), ...digest];
  return profile.every((byte, n) => byte === expected[n]);
}

/**
 * Return the quantization step of each channel, in units of its latents.
 * @param {Vectors} profile
 * @param {number} stepCode
 */
export function channelSteps({ spread, weight }, stepCode) {
  const step = quantStepOf(stepCode);
  return spread.map((std, channel) => Math.fround(Math.fround(std * weight[channel]) * step));
}

/**
 * Return the quantization step of a step code.
 * @param {number} stepCode
 */
export function quantStepOf(stepCode) {
  return Math.fround(2 ** ((stepCode - 2048) / 256));
}

/**
 * Return the step code of a quality, rounded half to even.
 * @param {LatentSpaceInfo} space
 * @param {number} quality 1 … 100
 */
export function stepCodeForQuality({ stepCodes: [first, last] }, quality) {
  const exact = first + ((last - first) * (quality - 1)) / 99, below = Math.floor(exact);
  return below + Number(exact - below > 0.5 || (exact - below === 0.5 && below % 2 === 1));
}

/**
 * Load a profile that ships with sdtrt.
 * @param {number} id
 * @param {Assets} assets
 * @returns {Promise<Profile>}
 * @throws {import("../error.js").FormatError} if the id is unknown
 */
export async function shippedProfile(id, assets) {
  const name = NAMES.get(id);
  need(name, `latent profile ${id} is unknown; a later version may read this file`);
  const fields = await assets.json(`profiles/${name}.json`);
  const { latent_space: latentSpace, channels, downscale, step_codes: stepCodes } = fields;
  const vector = (/** @type {string} */ key) => Float32Array.from(fields[key]);
  const [mean, spread, weight, offset] = ["mean", "spread", "weight", "offset"].map(vector);
  const preview = fields.preview ? previewOf(fields.preview) : null;
  const { masking = 0 } = fields;
  return { latentSpace, channels, downscale, stepCodes, mean, spread, weight, offset, masking, preview };
}

/**
 * @param {{channels: number[], weights: number[], bias: number[]}} fields
 * @returns {Preview}
 */
function previewOf({ channels, weights, bias }) {
  return { channels, weights: Float32Array.from(weights), bias: Float32Array.from(bias) };
}

/**
 * Parse the fixed part of a stored profile.
 * @param {Uint8Array<ArrayBuffer>} data
 * @returns {LatentSpaceInfo}
 */
function unpackSpaceInfo(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const name = Array.from(data.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const first = view.getUint16(6, true), last = view.getUint16(8, true);
  need(data[4] && data[5], "malformed file: a latent profile with no channels or downscale 0");
  const areValid = Math.max(first, last) <= MAX_STEP_CODE && first !== last;
  need(areValid, `malformed file: a latent profile with step codes ${first}, ${last}`);
  return { latentSpace: `x-${name}`, channels: data[4], downscale: data[5], stepCodes: [first, last] };
}

/**
 * Parse a complete stored profile.
 * @param {Uint8Array<ArrayBuffer>} data
 * @returns {Profile}
 */
function parseProfile(data) {
  const space = unpackSpaceInfo(data), { channels } = space;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  need(data.length === PROFILE_NBYTES + 16 * channels, `malformed file: a latent profile of ${data.length} bytes`);
  const [mean, spread, weight, offset] = [0, 1, 2, 3].map((vector) => Float32Array.from(
    { length: channels }, (_, n) => view.getFloat32(PROFILE_NBYTES + 4 * (vector * channels + n), true)));
  for (let n = 0; n < channels; n++) {
    const isValid = [mean[n], spread[n], weight[n], offset[n]].every(Number.isFinite) && spread[n] > 0 && weight[n] > 0;
    need(isValid, "malformed file: a latent profile with values out of range");
    const maxMagnitude = Math.fround(MAX_SYMBOL + Math.abs(offset[n]));
    const largest = Math.fround(Math.fround(Math.fround(spread[n] * weight[n]) * MAX_STEP) * maxMagnitude);
    const isBounded = Number.isFinite(Math.fround(Math.abs(mean[n]) + largest));
    need(isBounded, "malformed file: a latent profile with values that are too large");
  }
  return { ...space, mean, spread, weight, offset, masking: 0, preview: null };
}
