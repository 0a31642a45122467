/** The encoder network of the bundle `tiny`: pixels to latents, by ONNX Runtime, in tiles for large images. */

import { BundleError } from "../error.js";
import { bundleFolder, loadManifest } from "./bundle.js";
import { Session } from "./runtime.js";
import { Tiling } from "./tiling.js";

/** @typedef {import("../assets/assets.js").Assets} Assets */
/** @typedef {import("../format/layout.js").Place} Place */
/** @typedef {import("../format/profile.js").LatentSpaceInfo} LatentSpaceInfo */
/** @typedef {import("../layers/pixels.js").RgbaImage} RgbaImage */
/** @typedef {import("./bundle.js").Manifest} Manifest */
/** @typedef {import("./runtime.js").Runtime} Runtime */

const LEVELS = 255;

/** An encoder network. */
export class EncoderNetwork {
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
   * Return the network. It is loaded once.
   * @param {Assets} assets
   * @param {Runtime} runtime
   * @returns {Promise<EncoderNetwork>}
   * @throws {BundleError} if this version cannot run the bundle
   */
  static open(assets, runtime) {
    return assets.cached("network encoder", async () => {
      const folder = bundleFolder("tiny");
      const load = async () => ({ bytes: new Uint8Array(await assets.load(`${folder}/encoder.onnx`)) });
      const [manifest, session] = await Promise.all([loadManifest(folder, assets), Session.open(runtime, load)]);
      return new EncoderNetwork(session, manifest);
    });
  }

  /**
   * Return the latents of an image, (channels, height, width).
   * @param {RgbaImage} image
   * @param {LatentSpaceInfo} space the latent space
   * @returns {Promise<Float32Array>}
   * @throws {BundleError} if the network's output is not finite
   */
  async latents(image, { channels, downscale }) {
    const height = Math.ceil(image.height / downscale), width = Math.ceil(image.width / downscale);
    const latents = new Float32Array(channels * height * width), tiling = new Tiling(downscale, this._manifest.reach);
    /** @type {Place} */
    const area = { rows: [0, downscale * height], columns: [0, downscale * width] };
    for (const { latents: tile, core } of tiling.tiles(area, height, width)) {
      const part = await this._latents(image, tile, downscale);
      if (!part.every(Number.isFinite)) throw new BundleError("the encoder network's output is not finite");
      const [top, bottom] = core.rows.map((edge) => Math.floor(edge / downscale));
      const [left, right] = core.columns.map((edge) => Math.floor(edge / downscale));
      const pitch = tile.columns[1] - tile.columns[0], size = part.length / channels;
      for (let channel = 0; channel < channels; channel++) {
        for (let y = top; y < bottom; y++) {
          const from = channel * size + (y - tile.rows[0]) * pitch - tile.columns[0];
          latents.set(part.subarray(from + left, from + right), (channel * height + y) * width + left);
        }
      }
    }
    return latents;
  }

  /**
   * Return the latents of a tile. The last row and column of the image are repeated to complete blocks.
   * @param {RgbaImage} image
   * @param {Place} tile in latents
   * @param {number} downscale
   */
  async _latents({ width, height, data }, { rows, columns }, downscale) {
    const { fround } = Math, { pixel_range: [low, high] } = this._manifest, factor = fround((high - low) / LEVELS);
    const down = downscale * (rows[1] - rows[0]), across = downscale * (columns[1] - columns[0]), size = down * across;
    const planes = new Float32Array(3 * size);
    for (let y = 0, n = 0; y < down; y++) {
      const row = Math.min(downscale * rows[0] + y, height - 1) * width;
      for (let x = 0; x < across; x++, n++) {
        const at = 4 * (row + Math.min(downscale * columns[0] + x, width - 1));
        for (let colour = 0; colour < 3; colour++) planes[colour * size + n] = fround(data[at + colour] * factor) + low;
      }
    }
    const { latents } = await this._session.run({ pixels: { values: planes, shape: [1, 3, down, across] } });
    return latents;
  }
}
