/** Decodes a file's symbols and latents: tiles, levels, and the priors of their streams. */

import { arrayNamed, readNpz } from "../assets/npz.js";
import { buildTables } from "../entropy/tables.js";
import { LimitError, need } from "../error.js";
import { concatBytes } from "../format/bytes.js";
import { BUNDLED, tileSegment } from "../format/container.js";
import { fits, innerEdges, intersect, tilePlaces } from "../format/layout.js";
import { ADAPTIVE, PALETTE, latentGrid, resolveProfile } from "../format/profile.js";
import { AdaptivePrior, CUTS, PARAMETERS } from "../priors/adaptive.js";
import { NetworkPrior } from "../priors/network_prior.js";
import { decodePalette } from "./palette.js";
import { areaOf, paste } from "./planes.js";
import { dequantize } from "./quantized_latents.js";
import { decodeStream } from "./stream_codec.js";

/** @typedef {import("../assets/assets.js").Assets} Assets */
/** @typedef {import("../format/container.js").File} File */
/** @typedef {import("../format/layout.js").Place} Place */
/** @typedef {import("../format/profile.js").Profile} Profile */
/** @typedef {import("./stream_codec.js").DecodedStream} DecodedStream */
/** @typedef {import("./stream_codec.js").Prior} Prior */
/** @typedef {[channels: number, height: number, width: number]} Shape */

/** Bytes of a word of the ANS stream. */
export const WORD = 4;
const PRIOR_NAMES = new Map([[1, "tiny-1"], [2, "sd1-1"]]);

/** The latents of a file, (channels, height, width). Tiles are decoded on demand. */
export class LatentReader {
  /**
   * Use `open`.
   * @param {File} file
   * @param {Profile} profile
   * @param {(parameters: Uint8Array) => Prior} priorOf returns the prior of a stream, given the parameters in front of
   *   that stream
   * @param {Prior | null} prior shared by all streams; null if each stream carries its own parameters
   */
  constructor(file, profile, priorOf, prior) {
    this.file = file;
    this.profile = profile;
    this.shape = latentGrid(profile, file.header);
    this._priorOf = priorOf;
    this._prior = prior;
    this._tilePlaces = tilePlaces(file.layout, this.shape[1], this.shape[2]);
    /** @type {Map<number, DecodedStream>} */
    this._tiles = new Map();
  }

  /**
   * Open a file's latents. No tile is decoded yet.
   * @param {File} file
   * @param {Assets} assets
   * @param {{maxPixels: number}} limits
   * @param {import("../format/profile.js").Model} [model] needed by files that refer to an external model
   * @throws {import("../error.js").FormatError} if the file is malformed
   * @throws {LimitError} if there are more latents than `limits.maxPixels`
   * @throws {import("../error.js").BundleError} if the file refers to another model
   */
  static async open(file, assets, limits, model) {
    const profile = await resolveProfile(file, assets, model), { header, layout } = file;
    const [channels, height, width] = latentGrid(profile, header), count = channels * height * width;
    if (!(count <= limits.maxPixels)) throw new LimitError(`${count} latents, the limit is ${limits.maxPixels}`);
    need(fits(layout, height, width), `malformed file: ${layout.columns}x${layout.rows} tiles of ${width}x${height}`);
    if (header.prior === PALETTE) {
      const isSingle = layout.levels * layout.columns * layout.rows === 1;
      need(channels === 4 && isSingle, `method palette is for 4 channels in one stream, not ${profile.latentSpace}'s`);
    }
    const prior = await loadPrior(file, assets, model);
    const isForChannels = !prior || prior.order.length === channels;
    need(isForChannels, `prior ${header.prior} is for ${prior?.order.length} channels, expected ${channels}`);
    const levels = 1 + (prior ? prior.cuts : CUTS).length;
    const fitsPrior = layout.levels === 1 || layout.levels === levels;
    need(fitsPrior, `malformed file: ${layout.levels} levels, expected 1 or ${levels}`);
    const tables = prior ? prior.tables : await adaptiveTables(assets);
    return new this(file, profile, (parameters) => prior ?? new AdaptivePrior(tables, parameters), prior);
  }

  /** Whether the file uses method palette, which stores latents without symbols. */
  get isPalette() {
    return this.file.header.prior === PALETTE;
  }

  /** A report of the missing tiles among the requested ones. It is empty here: damaged tiles raise errors. */
  get missingReport() {
    return "";
  }

  /**
   * Return the symbols of an area, with their reconstruction offsets if the prior defines them.
   * @param {Place} [area] in latents (default: all)
   * @returns {DecodedStream}
   * @throws {import("../error.js").FormatError} if a tile's stream is damaged
   */
  decoded(area = this.fullPlace) {
    return this._assemble(area, (tile) => this._decodedTile(tile));
  }

  /**
   * Return the latents of an area, (channels, rows, columns).
   * @param {Place} [area] in latents (default: all)
   * @returns {Promise<Float32Array<ArrayBuffer>>}
   * @throws {import("../error.js").FormatError} if a tile's stream is damaged
   */
  async latents(area = this.fullPlace) {
    if (!this.isPalette) return dequantize(this.decoded(area), this.profile, this.file.header.stepCode);
    const [channels, height, width] = this.shape, [segment] = this.file.segments;
    this._requireAlignment(segment.length);
    const latents = await decodePalette(segment, height, width);
    const part = new Float32Array(channels * areaOf(area));
    paste(part, area, latents, this.fullPlace);
    return part;
  }

  /**
   * Decode the tiles of an area and keep them for later calls.
   * @param {Place} area in latents
   * @throws {import("../error.js").FormatError} if a tile's stream is damaged
   */
  prefetch(area) {
    if (this.isPalette) return;
    this._tilePlaces.forEach((place, tile) => {
      if (intersect(area, place)) this._decodedTile(tile);
    });
  }

  /**
   * Return the latents of all channels, decoded as far as some channels need. Only the coarsest levels that hold these
   * channels are read; latents of later passes are then dequantized from symbol 0.
   * @param {number[]} channels by number
   * @returns {Float32Array<ArrayBuffer>}
   * @throws {import("../error.js").FormatError} if a level that was read is damaged
   */
  readCoarse(channels) {
    const prior = this._prior, { stepCode } = this.file.header;
    const levels = prior && !prior.centroids ? levelsHolding(channels, prior) : Infinity;
    const isCoarse = prior && levels <= prior.cuts.length;
    const decodeCoarse = (/** @type {number} */ tile) => this._decodeTile(tile, levels);
    const decoded = isCoarse ? this._assemble(this.fullPlace, decodeCoarse) : this.decoded();
    return dequantize(decoded, this.profile, stepCode);
  }

  /**
   * All rows and columns.
   * @returns {Place}
   */
  get fullPlace() {
    return { rows: [0, this.shape[1]], columns: [0, this.shape[2]] };
  }

  /**
   * @param {Place} area
   * @param {(tile: number) => DecodedStream} decode
   * @returns {DecodedStream}
   */
  _assemble(area, decode) {
    const symbols = new Int16Array(this.shape[0] * areaOf(area));
    let reconOffsets = /** @type {Int32Array | null} */ (null);
    this._tilePlaces.forEach((place, tile) => {
      if (!intersect(area, place)) return;
      const decoded = decode(tile);
      paste(symbols, area, decoded.symbols, place);
      if (!decoded.reconOffsets) return;
      reconOffsets ??= new Int32Array(symbols.length);
      paste(reconOffsets, area, decoded.reconOffsets, place);
    });
    return { symbols, reconOffsets };
  }

  /** @param {number} tile */
  _decodedTile(tile) {
    const decoded = this._tiles.get(tile) ?? this._decodeTile(tile);
    this._tiles.set(tile, decoded);
    return decoded;
  }

  /**
   * Decode a tile's stream, or its first levels.
   * @param {number} tile
   * @param {number} [levels] fewer than the prior has (default: all)
   * @returns {DecodedStream}
   */
  _decodeTile(tile, levels) {
    const end = levels === undefined ? undefined : this._prior?.cuts[levels - 1];
    return this._decodeSegments(tile, this._segments(tile).slice(0, levels), end);
  }

  /**
   * @param {number} tile
   * @param {Uint8Array<ArrayBuffer>[]} segments
   * @param {number} [end] the number of passes to decode (default: all)
   * @param {boolean} [maybeTruncated] whether the segments may be cut short
   * @returns {DecodedStream}
   */
  _decodeSegments(tile, segments, end, maybeTruncated = false) {
    if (tile === 0) this._requireAlignment(segments[0].length - this._parameterNbytes);
    const isAligned = segments.slice(1).every(({ length }) => length % WORD === 0);
    need(isAligned, "malformed file: the length of a level is no multiple of 4 bytes");
    const { prior, stream } = this._stream(segments), { height, width, inner } = this._tileExtent(tile);
    const levels = { ...this._levels(tile, segments, prior), maybeTruncated };
    return decodeStream(stream, height, width, prior, this.file.header.stepCode, inner, levels, end);
  }

  /**
   * Return the sizes of the levels of a tile's stream.
   * @param {number} tile
   * @param {Uint8Array<ArrayBuffer>[]} segments those of the levels to decode, from the first
   * @param {Prior} prior
   * @returns {Pick<import("./stream_codec.js").Levels, "wordsRemaining" | "hasMore">}
   */
  _levels(tile, segments, prior) {
    if (this.file.layout.levels === 1) return { wordsRemaining: [], hasMore: false };
    const words = segments.map(({ length }) => length / WORD);
    const wordsRemaining = prior.cuts.slice(0, segments.length)
      .map((_, n) => words.slice(n + 1).reduce((sum, count) => sum + count, 0));
    return { wordsRemaining, hasMore: this._segments(tile).slice(segments.length).some(({ length }) => length > 0) };
  }

  /**
   * Return the segments of a tile's stream, one a level.
   * @param {number} tile
   */
  _segments(tile) {
    return Array.from({ length: this.file.layout.levels }, (_, level) => tileSegment(this.file, level, tile));
  }

  /** Bytes of prior parameters in front of each stream. */
  get _parameterNbytes() {
    return this._prior ? 0 : PARAMETERS * this.shape[0];
  }

  /**
   * Return the prior of the stream in some segments, and the stream without its parameters.
   * @param {Uint8Array<ArrayBuffer>[]} segments
   */
  _stream(segments) {
    const data = concatBytes(segments), parameters = this._parameterNbytes;
    need(data.length >= parameters, "damaged stream: it is shorter than the prior's parameters");
    return { prior: this._priorOf(data.subarray(0, parameters)), stream: data.subarray(parameters) };
  }

  /**
   * Return a tile's size in latents, and its edges inside the image.
   * @param {number} tile
   */
  _tileExtent(tile) {
    const place = this._tilePlaces[tile], [, height, width] = this.shape, { rows, columns } = place;
    return { height: rows[1] - rows[0], width: columns[1] - columns[0], inner: innerEdges(place, height, width) };
  }

  /** @param {number} nbytes of the first stream */
  _requireAlignment(nbytes) {
    const { alignment } = this.file.header;
    const expected = (WORD - (nbytes % WORD)) % WORD;
    need(alignment === expected, `malformed file: alignment ${alignment}, expected ${expected}`);
  }
}

/**
 * Return the prior that a file names. It is null if each stream carries its own parameters, or with method palette.
 * @param {File} file
 * @param {Assets} assets
 * @param {import("../format/profile.js").Model} [model]
 * @returns {Promise<NetworkPrior | null>}
 */
async function loadPrior({ header: { prior } }, assets, model) {
  if (prior === ADAPTIVE || prior === PALETTE) return null;
  if (prior === BUNDLED && model) return new NetworkPrior(await readNpz(model.prior));
  const name = PRIOR_NAMES.get(prior);
  need(name, `prior ${prior} is unknown; a later version may read this file`);
  return assets.cached(`prior ${name}`, async () => new NetworkPrior(await assets.arrays(name)));
}

/** @param {Assets} assets */
function adaptiveTables(assets) {
  const make = async () => buildTables(arrayNamed(await assets.arrays("adaptive-1"), "tables"));
  return assets.cached("tables adaptive-1", make);
}

/**
 * Return the number of levels that hold all of some channels, counted from the coarsest.
 * @param {number[]} channels
 * @param {Prior} prior
 */
function levelsHolding(channels, { passes, order, cuts }) {
  const last = passes.findLastIndex(({ channels: [first, end] }) => {
    return order.slice(first, end).some((channel) => channels.includes(channel));
  });
  return 1 + cuts.filter((cut) => cut <= last).length;
}
