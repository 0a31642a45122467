/** Main path of the other direction: pixels -> network -> symbols -> the bytes of an `.sdt` file of latents alone. */

import { Assets } from "./assets/assets.js";
import { arrayNamed } from "./assets/npz.js";
import { TileQuantizer } from "./coding/rdoq.js";
import { WORD } from "./coding/latent_reader.js";
import { maskingWeights } from "./coding/perceptual_masking.js";
import { areaOf, paste } from "./coding/planes.js";
import { encodeStream } from "./coding/stream_encoder.js";
import { LimitError } from "./error.js";
import { concatBytes } from "./format/bytes.js";
import { DEFAULT_LIMITS } from "./format/container.js";
import { writeFile } from "./format/container_writer.js";
import { SINGLE, innerEdges, maxTiles, tilePlaces } from "./format/layout.js";
import { channelSteps, latentGrid, shippedProfile, stepCodeForQuality, quantStepOf } from "./format/profile.js";
import { EncoderNetwork } from "./networks/encoder_network.js";
import { Runtime } from "./networks/runtime.js";
import { Grid } from "./priors/passes.js";
import { NetworkPrior } from "./priors/network_prior.js";

/** @typedef {import("./format/layout.js").Layout} Layout */
/** @typedef {import("./format/layout.js").Place} Place */
/** @typedef {import("./format/profile.js").Profile} Profile */
/** @typedef {import("./layers/pixels.js").RgbaImage} RgbaImage */
/** @typedef {import("./networks/runtime.js").Backend} Backend */

const PROFILE = 1, PRIOR = 1, NAME = "tiny-1"; // of latent space tiny
const TILE = 128; // latents: the usual side of a tile; planes of up to one and a half are not divided
const MAX_SYMBOL = 32766, OPAQUE = 255;

/** Encodes images in latent space `tiny`, as `sdtrt encode --layers 1` does with its default effort. */
export class Encoder {
  /** @param {{load: import("./assets/assets.js").Load, backend?: Backend}} options as of `Decoder` */
  constructor({ load, backend }) {
    this._assets = new Assets(load);
    this._runtime = new Runtime(backend);
  }

  /**
   * Return the file of a image.
   * @param {RgbaImage} image an opaque one
   * @param {{quality?: number, maxPixels?: number}} [options] `quality` is 1 (smallest) to 100 (best)
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   * @throws {RangeError} if the image has alpha, no pixels or others than its size, or the quality is out of range
   * @throws {LimitError} if it has more than `maxPixels`
   * @throws {import("./error.js").BundleError} if the network gives values that are not finite
   */
  async encode(image, { quality = 50, maxPixels = DEFAULT_LIMITS.maxPixels } = {}) {
    if (!(quality >= 1 && quality <= 100)) throw new RangeError(`quality ${quality}, expected 1 to 100`);
    requireEncodable(image, maxPixels);
    const profile = await shippedProfile(PROFILE, this._assets);
    const network = await EncoderNetwork.open(this._assets, this._runtime);
    const latents = await network.latents(image, profile);
    return this.encodeLatents(latents, image, stepCodeForQuality(profile, quality));
  }

  /**
   * Return the file of a image's latents, (channels, height, width).
   * @param {Float32Array} latents
   * @param {{width: number, height: number}} size of the image
   * @param {number} stepCode 0 … 4095
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async encodeLatents(latents, { width, height }, stepCode) {
    const profile = await shippedProfile(PROFILE, this._assets), arrays = await this._assets.arrays(NAME);
    const prior = await this._assets.cached(`prior ${NAME}`, async () => new NetworkPrior(arrays));
    const [channels, down, across] = latentGrid(profile, { width, height }), scaled = scaleToSteps(latents, profile, stepCode);
    const layout = chooseLayout(down, across, prior), weights = arrayNamed(arrays, "tables").values;
    /** @type {Place} */
    const whole = { rows: [0, down], columns: [0, across] };
    const streams = tilePlaces(layout, down, across).map((place) => {
      const { rows: [top, bottom], columns: [left, right] } = place, part = new Float32Array(channels * areaOf(place));
      paste(part, place, scaled, whole);
      const grid = new Grid(bottom - top, right - left, innerEdges(place, down, across));
      const rateWeights = maskingWeights(part.subarray(0, profile.masking * areaOf(place)), quantStepOf(stepCode), grid);
      return encodeStream(new TileQuantizer(part, grid, prior, weights, rateWeights), grid, prior, stepCode);
    });
    const segments = Array.from({ length: layout.levels }, (_, n) => n).flatMap((level) => {
      return streams.map((levels) => (layout.levels === 1 ? concatBytes(levels) : levels[level]));
    });
    const alignment = (WORD - (segments[0].length % WORD)) % WORD;
    const header = { width, height, profile: PROFILE, prior: PRIOR, stepCode, grey: false, alignment };
    return writeFile({ header, layout, segments });
  }
}

/**
 * @param {RgbaImage} image
 * @param {number} maxPixels
 */
function requireEncodable({ width, height, data }, maxPixels) {
  const count = width * height;
  const isSize = [width, height].every((side) => Number.isInteger(side) && side > 0);
  if (isSize && !(count <= maxPixels)) throw new LimitError(`${count} pixels, the limit is ${maxPixels}`);
  if (!isSize || data.length !== 4 * count) throw new RangeError(`${data.length} bytes for ${width}x${height} pixels`);
  for (let n = 3; n < data.length; n += 4) {
    if (data[n] !== OPAQUE) throw new RangeError("the image has alpha, which `sdtrt encode` keeps, but not this encoder");
  }
}

/**
 * Return latents in steps.
 * @param {Float32Array} latents
 * @param {Profile} profile
 * @param {number} stepCode
 */
function scaleToSteps(latents, profile, stepCode) {
  const steps = channelSteps(profile, stepCode), size = latents.length / steps.length;
  return latents.map((latent, n) => {
    const channel = Math.floor(n / size), scaled = Math.fround(latent - profile.mean[channel]) / steps[channel];
    return Math.min(Math.max(scaled, -MAX_SYMBOL), MAX_SYMBOL);
  });
}

/**
 * Return how a plane of so many latents is divided.
 * @param {number} height
 * @param {number} width
 * @param {NetworkPrior} prior
 * @returns {Layout}
 */
function chooseLayout(height, width, prior) {
  const [rows, columns] = [height, width].map((length) => {
    return Math.min(Math.max(1, Math.ceil((length - TILE / 2) / TILE)), maxTiles(length));
  });
  return rows * columns === 1 ? SINGLE : { ...SINGLE, columns, rows, levels: prior.cuts.length + 1 };
}
