/** The main path of the encoder: pixels -> network -> symbols -> bytes of an `.sdt` file with latents only. */

import { Assets } from "./assets/assets.js";
import { arrayNamed } from "./assets/npz.js";
import { WORD } from "./coding/latent_reader.js";
import { maskingWeights } from "./coding/perceptual_masking.js";
import { areaOf, paste } from "./coding/planes.js";
import { TileQuantizer } from "./coding/rdoq.js";
import { encodeStream } from "./coding/stream_encoder.js";
import { LimitError } from "./error.js";
import { concatBytes } from "./format/bytes.js";
import { DEFAULT_LIMITS } from "./format/container.js";
import { writeFile } from "./format/container_writer.js";
import { SINGLE, innerEdges, maxTiles, tilePlaces } from "./format/layout.js";
import { channelSteps, latentGrid, quantStepOf, shippedProfile, stepCodeForQuality } from "./format/profile.js";
import { EncoderNetwork } from "./networks/encoder_network.js";
import { Runtime } from "./networks/runtime.js";
import { NetworkPrior } from "./priors/network_prior.js";
import { Grid } from "./priors/passes.js";

/** @typedef {import("./format/layout.js").Layout} Layout */
/** @typedef {import("./format/layout.js").Place} Place */
/** @typedef {import("./format/profile.js").Profile} Profile */
/** @typedef {import("./layers/pixels.js").RgbaImage} RgbaImage */
/** @typedef {import("./networks/runtime.js").Backend} Backend */

const PROFILE = 1, PRIOR = 1, NAME = "tiny-1"; // of latent space tiny
const TILE = 128; // target side of a tile, in latents; planes of up to 1.5 tiles are not divided
const MAX_SYMBOL = 32766, OPAQUE = 255;

/** Encodes images in latent space `tiny`, like `sdtrt encode --layers 1` with its default effort. */
export class Encoder {
  /** @param {{load: import("./assets/assets.js").Load, backend?: Backend}} options as for `Decoder` */
  constructor({ load, backend }) {
    this._assets = new Assets(load);
    this._runtime = new Runtime(backend);
  }

  /**
   * Encode an image.
   * @param {RgbaImage} image an opaque one
   * @param {{quality?: number, maxPixels?: number}} [options] `quality` is 1 (smallest file) to 100 (best image),
   *   default 50; `maxPixels` is a limit
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   * @throws {RangeError} if the image has alpha, its size is invalid or does not fit `data`, or the quality is out of
   *   range
   * @throws {LimitError} if the image has more than `maxPixels`
   * @throws {import("./error.js").BundleError} if the network's output is not finite
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
   * Encode the latents of an image, (channels, height, width).
   * @param {Float32Array} latents
   * @param {{width: number, height: number}} size of the image, in pixels
   * @param {number} stepCode 0 … 4095
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async encodeLatents(latents, { width, height }, stepCode) {
    const profile = await shippedProfile(PROFILE, this._assets), arrays = await this._assets.arrays(NAME);
    const prior = await this._assets.cached(`prior ${NAME}`, async () => new NetworkPrior(arrays));
    const [channels, down, across] = latentGrid(profile, { width, height });
    const scaled = scaleToSteps(latents, profile, stepCode);
    const layout = chooseLayout(down, across, prior), weights = arrayNamed(arrays, "tables").values;
    /** @type {Place} */
    const fullPlace = { rows: [0, down], columns: [0, across] };
    const streams = tilePlaces(layout, down, across).map((place) => {
      const { rows: [top, bottom], columns: [left, right] } = place, part = new Float32Array(channels * areaOf(place));
      paste(part, place, scaled, fullPlace);
      const grid = new Grid(bottom - top, right - left, innerEdges(place, down, across));
      const lowFrequencies = part.subarray(0, profile.masking * areaOf(place));
      const rateWeights = maskingWeights(lowFrequencies, quantStepOf(stepCode), grid);
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
    if (data[n] !== OPAQUE) throw new RangeError("the image has alpha; this encoder takes opaque images only");
  }
}

/**
 * Return the latents in quantization steps, clamped to the range of symbols.
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
 * Return the division of a plane of latents into tiles and levels.
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
