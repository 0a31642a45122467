/** The decoder network of a bundle: latents to pixels, by ONNX Runtime, in tiles for large images. */

import { areaOf } from "../coding/planes.js";
import { BundleError } from "../error.js";
import { bundleFolder, decoderPath, loadManifest } from "./bundle.js";
import { Session } from "./runtime.js";
import { Tiling } from "./tiling.js";
import { withWinograd } from "./winograd.js";

/** @typedef {import("./bundle.js").Look} Look */
/** @typedef {import("./bundle.js").Manifest} Manifest */
/** @typedef {import("./runtime.js").Runtime} Runtime */
/** @typedef {import("../assets/assets.js").Assets} Assets */
/** @typedef {import("../coding/latent_reader.js").LatentReader} LatentReader */
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
   * Return the network of a latent space for a look. It is loaded once.
   * @param {string} latentSpace
   * @param {Look} look
   * @param {Assets} assets
   * @param {Runtime} runtime
   * @returns {Promise<DecoderNetwork>}
   * @throws {BundleError} if there is no bundle, or this version cannot run it
   */
  static async open(latentSpace, look, assets, runtime) {
    const folder = bundleFolder(latentSpace);
    return assets.cached(`network ${latentSpace} ${look}`, async () => {
      const load = async (/** @type {import("./runtime.js").Backend} */ backend) => {
        return modelFor(backend, new Uint8Array(await assets.load(decoderPath(folder, look))));
      };
      const [manifest, session] = await Promise.all([loadManifest(folder, assets), Session.open(runtime, load)]);
      return new DecoderNetwork(session, manifest);
    });
  }

  /**
   * Start loading a network for a later `open`, which also reports any error.
   * @param {string} latentSpace
   * @param {Look} look
   * @param {Assets} assets
   * @param {Runtime} runtime
   */
  static begin(latentSpace, look, assets, runtime) {
    DecoderNetwork.open(latentSpace, look, assets, runtime).catch(() => {});
  }

  /** The backend that ran the network last, or that will run it. */
  get backend() {
    return this._session.backend;
  }

  /**
   * Return the pixels of an area, (rows, columns, RGBA), all opaque.
   * @param {LatentReader} reader
   * @param {Place} area in pixels
   * @returns {Promise<Uint8ClampedArray<ArrayBuffer>>}
   * @throws {import("../error.js").FormatError} if latents in the area are damaged
   * @throws {BundleError} if the network's output is not finite
   */
  async pixels(reader, area) {
    const pixels = new Uint8ClampedArray(4 * areaOf(area)).fill(LEVELS);
    const [, height, width] = reader.shape, tiling = new Tiling(reader.profile.downscale, this._manifest.reach);
    for (const { latents, core } of tiling.tiles(area, height, width)) {
      this._put(await this._planes(reader, latents), latents, core, reader.profile.downscale, pixels, area);
    }
    return pixels;
  }

  /**
   * Run the network on a tile. Return its planes, (3, height, width).
   * @param {LatentReader} reader
   * @param {Place} tile in latents
   */
  async _planes(reader, tile) {
    const { rows, columns } = tile, shape = [1, reader.shape[0], rows[1] - rows[0], columns[1] - columns[0]];
    const latents = { values: await reader.latents(tile), shape };
    const step = { values: Float32Array.of(2 ** ((reader.file.header.stepCode - 2048) / 256)), shape: [1] };
    const { pixels } = await this._session.run(this._manifest.decoder_takes_step ? { latents, step } : { latents });
    return pixels;
  }

  /**
   * Convert the core of a tile's planes to levels, rounded half to even, and store it.
   * @param {Float32Array} planes (3, height, width) of the tile's pixels
   * @param {Place} tile in latents
   * @param {Place} core in pixels
   * @param {number} scale
   * @param {Uint8ClampedArray} pixels
   * @param {Place} area of `pixels`
   */
  _put(planes, tile, core, scale, pixels, area) {
    const [low, high] = this._manifest.pixel_range, factor = Math.fround(LEVELS / (high - low));
    const size = scale * scale * areaOf(tile), pitch = scale * (tile.columns[1] - tile.columns[0]);
    const pixelPitch = area.columns[1] - area.columns[0];
    let isFinite = true;
    for (let y = core.rows[0]; y < core.rows[1]; y++) {
      const from = (y - scale * tile.rows[0]) * pitch - scale * tile.columns[0];
      const into = (y - area.rows[0]) * pixelPitch - area.columns[0];
      for (let x = core.columns[0]; x < core.columns[1]; x++) {
        for (let channel = 0; channel < 3; channel++) {
          const value = planes[channel * size + from + x];
          isFinite &&= Math.abs(value) < Infinity;
          pixels[4 * (into + x) + channel] = Math.fround(Math.fround(value - low) * factor);
        }
      }
    }
    if (!isFinite) throw new BundleError("the decoder network's output is not finite");
  }
}

/**
 * Return the form of a model that is fastest in a backend.
 * @param {import("./runtime.js").Backend} backend
 * @param {Uint8Array} bytes
 * @returns {import("./runtime.js").Model}
 */
function modelFor(backend, bytes) {
  // The optimizations beyond "basic" are for other processors; some fuse operations that are faster separately.
  return backend === "wasm" ? { bytes: withWinograd(bytes), graphOptimizationLevel: "basic" } : { bytes };
}
