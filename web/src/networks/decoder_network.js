/** Latents to pixels: the decoder network of a bundle, run by ONNX Runtime, over large pictures in tiles. */

import { areaOf } from "../coding/planes.js";
import { BundleError } from "../error.js";
import { folderOf, manifestOf } from "./bundle.js";
import { Session } from "./runtime.js";
import { Tiling } from "./tiling.js";
import { withWinograd } from "./winograd.js";

/** @typedef {import("./bundle.js").Manifest} Manifest */
/** @typedef {import("./runtime.js").Runtime} Runtime */
/** @typedef {import("../assets/assets.js").Assets} Assets */
/** @typedef {import("../coding/latents.js").StoredLatents} StoredLatents */
/** @typedef {import("../format/layout.js").Place} Place */

const LEVELS = 255;

/** A decoder network. */
export class DecoderNetwork {
  /**
   * Use `open`.
   * @param {Session} session
   * @param {Manifest} manifest
   */
  constructor(session, manifest) {
    this._session = session;
    this._manifest = manifest;
  }

  /**
   * Return the network of a latent space, which is loaded once.
   * @param {string} latentSpace
   * @param {Assets} assets
   * @param {Runtime} runtime
   * @returns {Promise<DecoderNetwork>}
   * @throws {BundleError} if there is none, or one that this version cannot run
   */
  static async open(latentSpace, assets, runtime) {
    const folder = folderOf(latentSpace);
    return assets.made(`network ${latentSpace}`, async () => {
      const load = async (/** @type {import("./runtime.js").Backend} */ backend) => {
        return modelFor(backend, new Uint8Array(await assets.load(`${folder}/decoder.onnx`)));
      };
      const [manifest, session] = await Promise.all([manifestOf(folder, assets), Session.open(runtime, load)]);
      return new DecoderNetwork(session, manifest);
    });
  }

  /**
   * Begin to load the network of a latent space, for an `open` to come, which also tells whether that failed.
   * @param {string} latentSpace
   * @param {Assets} assets
   * @param {Runtime} runtime
   */
  static begin(latentSpace, assets, runtime) {
    DecoderNetwork.open(latentSpace, assets, runtime).catch(() => {});
  }

  /** By what the network ran last, or will run. */
  get backend() {
    return this._session.backend;
  }

  /**
   * Return the pixels of some rows and columns, (height, width, RGBA), all opaque.
   * @param {StoredLatents} stored
   * @param {Place} wanted in pixels
   * @returns {Promise<Uint8ClampedArray<ArrayBuffer>>}
   * @throws {import("../error.js").FormatError} if the latents that it takes are damaged
   * @throws {BundleError} if the network gives values that are not finite
   */
  async pixels(stored, wanted) {
    const pixels = new Uint8ClampedArray(4 * areaOf(wanted)).fill(LEVELS);
    const [, height, width] = stored.shape, tiling = new Tiling(stored.profile.downscale, this._manifest.reach);
    for (const { latents, kept } of tiling.tiles(wanted, height, width)) {
      this._put(await this._planes(stored, latents), latents, kept, stored.profile.downscale, pixels, wanted);
    }
    return pixels;
  }

  /**
   * Return the planes that the network makes of a tile.
   * @param {StoredLatents} stored
   * @param {Place} tile in latents
   */
  async _planes(stored, tile) {
    const { rows, columns } = tile, shape = [1, stored.shape[0], rows[1] - rows[0], columns[1] - columns[0]];
    const latents = { values: await stored.latents(tile), shape };
    const step = { values: Float32Array.of(2 ** ((stored.file.header.stepCode - 2048) / 256)), shape: [1] };
    const { pixels } = await this._session.run(this._manifest.decoder_takes_step ? { latents, step } : { latents });
    return pixels;
  }

  /**
   * Put what is kept of a tile's planes among pixels, as levels, rounded half to even.
   * @param {Float32Array} planes (3, height, width) of the tile's pixels
   * @param {Place} tile in latents
   * @param {Place} kept in pixels
   * @param {number} scale
   * @param {Uint8ClampedArray} pixels
   * @param {Place} wanted of `pixels`
   */
  _put(planes, tile, kept, scale, pixels, wanted) {
    const [low, high] = this._manifest.pixel_range, factor = Math.fround(LEVELS / (high - low));
    const size = scale * scale * areaOf(tile), pitch = scale * (tile.columns[1] - tile.columns[0]);
    const pixelPitch = wanted.columns[1] - wanted.columns[0];
    let isFinite = true;
    for (let y = kept.rows[0]; y < kept.rows[1]; y++) {
      const from = (y - scale * tile.rows[0]) * pitch - scale * tile.columns[0];
      const into = (y - wanted.rows[0]) * pixelPitch - wanted.columns[0];
      for (let x = kept.columns[0]; x < kept.columns[1]; x++) {
        for (let channel = 0; channel < 3; channel++) {
          const value = planes[channel * size + from + x];
          isFinite &&= Math.abs(value) < Infinity;
          pixels[4 * (into + x) + channel] = Math.fround(Math.fround(value - low) * factor);
        }
      }
    }
    if (!isFinite) throw new BundleError("the decoder network gave values that are not finite");
  }
}

/**
 * Return a model as a backend runs it best.
 * @param {import("./runtime.js").Backend} backend
 * @param {Uint8Array} bytes
 * @returns {import("./runtime.js").Model}
 */
function modelFor(backend, bytes) {
  // "basic": what "all" does beyond is for other processors, and fuses products that are faster by themselves.
  return backend === "wasm" ? { bytes: withWinograd(bytes), graphOptimizationLevel: "basic" } : { bytes };
}
