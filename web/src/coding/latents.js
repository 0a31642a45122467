/** A file to its symbols and latents: tiles, levels, and the priors that they are coded by. */

import { arrayNamed, readNpz } from "../assets/npz.js";
import { tablesOf } from "../entropy/tables.js";
import { LimitError, need } from "../error.js";
import { joined } from "../format/bytes.js";
import { BUNDLED, segmentOf } from "../format/container.js";
import { common, fits, innerOf, placesOf } from "../format/layout.js";
import { ADAPTIVE, PALETTE, deltasOf, gridOf, profileOf } from "../format/profile.js";
import { AdaptivePrior, CUTS, PARAMETERS } from "../priors/adaptive.js";
import { NetworkPrior } from "../priors/prior.js";
import { decodePalette } from "./palette.js";
import { areaOf, paste } from "./planes.js";
import { decodeStream } from "./stream.js";

/** @typedef {import("../assets/assets.js").Assets} Assets */
/** @typedef {import("../format/container.js").File} File */
/** @typedef {import("../format/layout.js").Place} Place */
/** @typedef {import("../format/profile.js").Profile} Profile */
/** @typedef {import("./stream.js").Decoded} Decoded */
/** @typedef {import("./stream.js").Prior} Prior */
/** @typedef {[channels: number, height: number, width: number]} Shape */

/** Bytes of a word of streams. */
export const WORD = 4;
const PRIOR_NAMES = new Map([[1, "tiny-1"], [2, "sd1-1"]]);

/** The latents of a file, (channels, height, width), of which parts can be had. */
export class StoredLatents {
  /**
   * Use `open`.
   * @param {File} file
   * @param {Profile} profile
   * @param {(parameters: Uint8Array) => Prior} priorOf a stream's prior, given what is before the stream
   * @param {Prior | null} prior that of all streams, null if each brings its own
   */
  constructor(file, profile, priorOf, prior) {
    this.file = file;
    this.profile = profile;
    this.shape = gridOf(profile, file.header);
    this._priorOf = priorOf;
    this._prior = prior;
    this._places = placesOf(file.layout, this.shape[1], this.shape[2]);
    /** @type {Map<number, Decoded>} */
    this._tiles = new Map();
  }

  /**
   * Return a file's latents, none of which is decoded yet.
   * @param {File} file
   * @param {Assets} assets
   * @param {{maxPixels: number}} limits
   * @param {import("../format/profile.js").Model} [model] for files that refer to it
   * @throws {import("../error.js").FormatError} if the file contradicts itself
   * @throws {LimitError} if there are more latents than `limits` has pixels
   * @throws {import("../error.js").BundleError} if it refers to another model
   */
  static async open(file, assets, limits, model) {
    const profile = await profileOf(file, assets, model), { header, layout } = file;
    const [channels, height, width] = gridOf(profile, header), count = channels * height * width;
    if (!(count <= limits.maxPixels)) throw new LimitError(`${count} latents, the limit is ${limits.maxPixels}`);
    need(fits(layout, height, width), `malformed file: ${layout.columns}x${layout.rows} tiles of ${width}x${height}`);
    if (header.prior === PALETTE) {
      const isSingle = layout.levels * layout.columns * layout.rows === 1;
      need(channels === 4 && isSingle, `method palette is for 4 channels in one stream, not ${profile.latentSpace}'s`);
    }
    const prior = await priorOfFile(file, assets, model);
    need(!prior || prior.order.length === channels, `prior ${header.prior} is for another number of channels`);
    const levels = 1 + (prior ? prior.cuts : CUTS).length;
    const fitsPrior = layout.levels === 1 || layout.levels === levels;
    need(fitsPrior, `malformed file: ${layout.levels} levels, its prior has others`);
    const tables = prior ? prior.tables : await adaptiveTables(assets);
    return new this(file, profile, (parameters) => prior ?? new AdaptivePrior(tables, parameters), prior);
  }

  /** Whether the file was made by method palette, which has latents but no symbols. */
  get isPalette() {
    return this.file.header.prior === PALETTE;
  }

  /** In words what is missing of what has been asked for: nothing, or it would have been refused. */
  get missing() {
    return "";
  }

  /**
   * Return the symbols in some rows and columns, and their points if the prior tells them.
   * @param {Place} [wanted] in latents; all by default
   * @returns {Decoded}
   * @throws {import("../error.js").FormatError} if a tile's stream is damaged
   */
  decoded(wanted = this.whole) {
    return this._together(wanted, (tile) => this._tile(tile));
  }

  /**
   * Return the latents in some rows and columns.
   * @param {Place} [wanted] in latents; all by default
   * @returns {Promise<Float32Array<ArrayBuffer>>}
   * @throws {import("../error.js").FormatError} if a tile's stream is damaged
   */
  async latents(wanted = this.whole) {
    if (!this.isPalette) return dequantized(this.decoded(wanted), this.profile, this.file.header.stepCode);
    const [channels, height, width] = this.shape, [segment] = this.file.segments;
    this._requireAlignment(segment.length);
    const latents = await decodePalette(segment, height, width);
    const part = new Float32Array(channels * areaOf(wanted));
    paste(part, wanted, latents, this.whole);
    return part;
  }

  /**
   * Decode the tiles that some rows and columns lie in, which are kept.
   * @param {Place} wanted in latents
   * @throws {import("../error.js").FormatError} if a tile's stream is damaged
   */
  keep(wanted) {
    if (this.isPalette) return;
    this._places.forEach((place, tile) => {
      if (common(wanted, place)) this._tile(tile);
    });
  }

  /**
   * Return the latents of all channels as far as some of them need: of levels only the coarsest are read.
   * @param {number[]} channels
   * @returns {Float32Array<ArrayBuffer>}
   * @throws {import("../error.js").FormatError} if what was read is damaged
   */
  coarse(channels) {
    const prior = this._prior, { stepCode } = this.file.header;
    const levels = prior && !prior.centroids ? levelsWith(channels, prior) : Infinity;
    const isCoarse = prior && levels <= prior.cuts.length;
    const decoded = isCoarse ? this._together(this.whole, (tile) => this._decode(tile, levels)) : this.decoded();
    return dequantized(decoded, this.profile, stepCode);
  }

  /** All rows and columns. @returns {Place} */
  get whole() {
    return { rows: [0, this.shape[1]], columns: [0, this.shape[2]] };
  }

  /**
   * @param {Place} wanted
   * @param {(tile: number) => Decoded} decode
   * @returns {Decoded}
   */
  _together(wanted, decode) {
    const symbols = new Int16Array(this.shape[0] * areaOf(wanted));
    let points = /** @type {Int32Array | null} */ (null);
    this._places.forEach((place, tile) => {
      if (!common(wanted, place)) return;
      const decoded = decode(tile);
      paste(symbols, wanted, decoded.symbols, place);
      if (decoded.points) paste((points ??= new Int32Array(symbols.length)), wanted, decoded.points, place);
    });
    return { symbols, points };
  }

  /** @param {number} tile */
  _tile(tile) {
    const decoded = this._tiles.get(tile) ?? this._decode(tile);
    this._tiles.set(tile, decoded);
    return decoded;
  }

  /**
   * Return what a tile's stream holds, or the first levels of it.
   * @param {number} tile
   * @param {number} [levels] not all that its prior has
   * @returns {Decoded}
   */
  _decode(tile, levels) {
    const end = levels === undefined ? undefined : this._prior?.cuts[levels - 1];
    return this._decodeSegments(tile, this._segments(tile).slice(0, levels), end);
  }

  /**
   * @param {number} tile
   * @param {Uint8Array<ArrayBuffer>[]} segments
   * @param {number} [end] how many passes to decode
   * @param {boolean} [isDoubted] whether they may be cut short
   * @returns {Decoded}
   */
  _decodeSegments(tile, segments, end, isDoubted = false) {
    if (tile === 0) this._requireAlignment(segments[0].length - this._parameters);
    const isAligned = segments.slice(1).every(({ length }) => length % WORD === 0);
    need(isAligned, "malformed file: a level that ends between words");
    const { prior, stream } = this._stream(segments), { height, width, inner } = this._extent(tile);
    const levels = { ...this._levels(tile, segments, prior), isDoubted };
    return decodeStream(stream, height, width, prior, this.file.header.stepCode, inner, levels, end);
  }

  /**
   * Return what is known of the levels of a tile's stream, of which the first may be all.
   * @param {number} tile
   * @param {Uint8Array<ArrayBuffer>[]} segments
   * @param {Prior} prior
   * @returns {Pick<import("./stream.js").Levels, "left" | "isMore">}
   */
  _levels(tile, segments, prior) {
    if (this.file.layout.levels === 1) return { left: [], isMore: false };
    const words = segments.map(({ length }) => length / WORD);
    const left = prior.cuts.slice(0, segments.length).map((_, n) => words.slice(n + 1).reduce((a, b) => a + b, 0));
    return { left, isMore: this._segments(tile).slice(segments.length).some(({ length }) => length > 0) };
  }

  /**
   * Return the segments of a tile's stream.
   * @param {number} tile
   */
  _segments(tile) {
    return Array.from({ length: this.file.layout.levels }, (_, level) => segmentOf(this.file, level, tile));
  }

  /** How many bytes of parameters there are before each stream. */
  get _parameters() {
    return this._prior ? 0 : PARAMETERS * this.shape[0];
  }

  /**
   * Return the prior of the stream in some segments, and the stream without its parameters.
   * @param {Uint8Array<ArrayBuffer>[]} segments
   */
  _stream(segments) {
    const data = joined(segments), parameters = this._parameters;
    need(data.length >= parameters, "damaged stream: it lacks the prior's parameters");
    return { prior: this._priorOf(data.subarray(0, parameters)), stream: data.subarray(parameters) };
  }

  /**
   * Return how many latents a tile has, and which of its edges lie within the picture.
   * @param {number} tile
   */
  _extent(tile) {
    const place = this._places[tile], [, height, width] = this.shape, { rows, columns } = place;
    return { height: rows[1] - rows[0], width: columns[1] - columns[0], inner: innerOf(place, height, width) };
  }

  /** @param {number} nbytes of the first stream */
  _requireAlignment(nbytes) {
    const { alignment } = this.file.header;
    const found = (WORD - (nbytes % WORD)) % WORD;
    need(alignment === found, `malformed file: alignment ${alignment} of a stream that has ${found}`);
  }
}

/**
 * Return the prior that a file names, null if each stream brings its own or there are no streams.
 * @param {File} file
 * @param {Assets} assets
 * @param {import("../format/profile.js").Model} [model]
 * @returns {Promise<NetworkPrior | null>}
 */
async function priorOfFile({ header: { prior } }, assets, model) {
  if (prior === ADAPTIVE || prior === PALETTE) return null;
  if (prior === BUNDLED && model) return new NetworkPrior(await readNpz(model.prior));
  const name = PRIOR_NAMES.get(prior);
  need(name, `prior ${prior} is unknown; a later version may read this file`);
  return assets.made(`prior ${name}`, async () => new NetworkPrior(await assets.arrays(name)));
}

/** @param {Assets} assets */
function adaptiveTables(assets) {
  const make = async () => tablesOf(arrayNamed(await assets.arrays("adaptive-1"), "tables"));
  return assets.made("tables adaptive-1", make);
}

/**
 * Return how many levels of a prior, the coarsest, hold all of some channels.
 * @param {number[]} channels
 * @param {Prior} prior
 */
function levelsWith(channels, { passes, order, cuts }) {
  const last = passes.findLastIndex(({ channels: [first, end] }) => {
    return order.slice(first, end).some((channel) => channels.includes(channel));
  });
  return 1 + cuts.filter((cut) => cut <= last).length;
}

/**
 * Return latents, each operation rounded to float32 by itself.
 * @param {Decoded} decoded
 * @param {Profile} profile
 * @param {number} stepCode
 */
export function dequantized({ symbols, points }, profile, stepCode) {
  const { mean, offset } = profile, deltas = deltasOf(profile, stepCode), size = symbols.length / mean.length;
  const latents = new Float32Array(symbols.length);
  for (let channel = 0, n = 0; channel < mean.length; channel++) {
    const delta = deltas[channel], centre = mean[channel];
    for (const end = n + size; n < end; n++) {
      const within = points ? points[n] / 64 : -Math.sign(symbols[n]) * offset[channel];
      latents[n] = Math.fround(Math.fround(symbols[n] + within) * delta) + centre;
    }
  }
  return latents;
}
