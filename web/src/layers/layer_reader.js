/** Decodes the layers over the network's output: a residual that is added, an overlay, and alpha. */

import { need } from "../error.js";
import { intactLayerSegment } from "../format/container.js";
import { intersect, pixelPlace, tilePlaces } from "../format/layout.js";
import { buildResidualTables, decodeResidual } from "./residual_codec.js";
import { decodeWebp } from "./webp_lossless.js";

/** @typedef {import("../assets/assets.js").Assets} Assets */
/** @typedef {import("../format/container.js").File} File */
/** @typedef {import("../format/layout.js").Place} Place */

const OPAQUE = 255;

/**
 * The layers of a file, decoded tile by tile. Every method throws `FormatError` if a layer that it needs is damaged.
 */
export class LayerReader {
  /**
   * @param {File} file
   * @param {number} downscale width of a latent in pixels
   * @param {Assets} assets
   */
  constructor(file, downscale, assets) {
    const { width, height } = file.header;
    const latents = tilePlaces(file.layout, Math.ceil(height / downscale), Math.ceil(width / downscale));
    this._file = file;
    this._assets = assets;
    /** The tiles, in pixels. */
    this.places = latents.map((place) => pixelPlace(place, downscale, height, width));
  }

  /**
   * Apply all layers to the network's pixels, in place.
   * @param {Uint8ClampedArray} pixels (rows, columns, RGBA) of `area`
   * @param {Place} area in pixels
   */
  async apply(pixels, area) {
    for (const [tile, place] of this.places.entries()) {
      const shared = intersect(area, place);
      if (!shared) continue;
      const residual = await this.residual(tile), overlay = await this.overlay(tile), alpha = await this.alpha(tile);
      const { rows: [top, bottom], columns: [left, right] } = shared;
      for (let y = top; y < bottom; y++) {
        const into = 4 * pixelIndex(area, y, left), from = pixelIndex(place, y, left), count = right - left;
        if (residual) addRow(pixels, into, residual, 3 * from, count);
        if (overlay) coverRow(pixels, into, overlay, 4 * from, count);
        if (alpha) for (let n = 0; n < count; n++) pixels[into + 4 * n + 3] = alpha[4 * (from + n)];
      }
    }
  }

  /**
   * Return a tile's residual, (height, width, RGB), in levels; null if the tile has none.
   * @param {number} tile
   */
  async residual(tile) {
    const { layout } = this._file, [height, width] = this._size(tile);
    const segment = intactLayerSegment(this._file, "residual", tile);
    if (!segment?.length) return null;
    const assets = this._assets;
    const tables = await assets.cached("residual tables", async () => {
      return buildResidualTables(await assets.arrays("residual-1"));
    });
    return decodeResidual(segment, height, width, layout.residual, tables);
  }

  /**
   * Return a tile's overlay, (height, width, RGBA), with alpha 0 or 255; null if the tile has none.
   * @param {number} tile
   */
  async overlay(tile) {
    const segment = intactLayerSegment(this._file, "overlay", tile);
    if (!segment?.length) return null;
    const overlay = await decodeWebp(segment, ...this._size(tile), { alpha: true, what: "overlay" }, this._assets);
    for (let n = 3; n < overlay.length; n += 4) {
      need(overlay[n] === 0 || overlay[n] === OPAQUE, `damaged overlay: alpha ${overlay[n]}, expected 0 or ${OPAQUE}`);
    }
    return overlay;
  }

  /**
   * Return a tile's alpha, stored in the first of four channels (height, width, 4); null if the tile has none.
   * @param {number} tile
   */
  async alpha(tile) {
    const segment = intactLayerSegment(this._file, "alpha", tile);
    return segment && decodeWebp(segment, ...this._size(tile), { alpha: false, what: "alpha" }, this._assets);
  }

  /**
   * Return the overlay of the whole image, (height, width, RGBA), all zeros where it is transparent; null if there is
   * none.
   */
  async fullOverlay() {
    if (!this._file.layout.overlay) return null;
    const overlay = await this._assemble((tile) => this.overlay(tile));
    for (let n = 0; n < overlay.length; n += 4) if (overlay[n + 3] !== OPAQUE) overlay.fill(0, n, n + 4);
    return overlay;
  }

  /**
   * Return the alpha of the whole image, stored in the first of four channels (height, width, 4); null if there is
   * none.
   */
  async fullAlpha() {
    return this._file.layout.alpha ? this._assemble((tile) => this.alpha(tile)) : null;
  }

  /** @param {(tile: number) => Promise<Uint8ClampedArray | null>} decode */
  async _assemble(decode) {
    const { width, height } = this._file.header, image = new Uint8ClampedArray(4 * width * height);
    for (const [tile, { rows, columns: [left, right] }] of this.places.entries()) {
      const pixels = await decode(tile);
      for (let y = rows[0], at = 0; pixels && y < rows[1]; y++) {
        image.set(pixels.subarray(at, (at += 4 * (right - left))), 4 * (y * width + left));
      }
    }
    return image;
  }

  /**
   * @param {number} tile
   * @returns {[height: number, width: number]}
   */
  _size(tile) {
    const { rows, columns } = this.places[tile];
    return [rows[1] - rows[0], columns[1] - columns[0]];
  }
}

/**
 * Return the index of a pixel in a place, row by row.
 * @param {Place} place
 * @param {number} y in the image
 * @param {number} x
 */
function pixelIndex({ rows, columns }, y, x) {
  return (y - rows[0]) * (columns[1] - columns[0]) + x - columns[0];
}

/**
 * Add a row of a residual to pixels. The array clamps the sums.
 * @param {Uint8ClampedArray} pixels
 * @param {number} into
 * @param {Int16Array} residual
 * @param {number} from
 * @param {number} count number of pixels
 */
function addRow(pixels, into, residual, from, count) {
  for (let n = 0; n < count; n++, into += 4, from += 3) {
    pixels[into] += residual[from];
    pixels[into + 1] += residual[from + 1];
    pixels[into + 2] += residual[from + 2];
  }
}

/**
 * Copy the opaque pixels of an overlay's row.
 * @param {Uint8ClampedArray} pixels
 * @param {number} into
 * @param {Uint8ClampedArray} overlay
 * @param {number} from
 * @param {number} count number of pixels
 */
function coverRow(pixels, into, overlay, from, count) {
  for (let n = 0; n < count; n++, into += 4, from += 4) {
    if (overlay[from + 3] !== OPAQUE) continue;
    pixels[into] = overlay[from];
    pixels[into + 1] = overlay[from + 1];
    pixels[into + 2] = overlay[from + 2];
  }
}
