/** The latents that there are in a file that is cut short or damaged; in place of others what their prior expects. */

import { Reader } from "../entropy/ans.js";
import { FormatError, need } from "../error.js";
import { CHECKSUM_NBYTES } from "../format/container.js";
import { SINGLE } from "../format/layout.js";
import { Grid } from "../priors/passes.js";
import { StoredLatents, WORD } from "./latents.js";
import { PassReader } from "./stream.js";

/** @typedef {import("../format/layout.js").Inner} Inner */
/** @typedef {import("./stream.js").Decoded} Decoded */
/** @typedef {import("./stream.js").Prior} Prior */
/** @typedef {import("./stream.js").Prior["passes"][number]} Pass */

/** Latents of a salvaged file, which `missing` tells of once they have been asked for. */
export class SalvagedLatents extends StoredLatents {
  /** @type {Set<number>} */
  _inPart = new Set();
  /** @type {Set<number>} */
  _missing = new Set();

  /** @override */
  get missing() {
    const { size: missing } = this._missing, { size: inPart } = this._inPart;
    if (!missing && !inPart) return "";
    return `tiles: ${missing} of ${this._places.length} missing, ${inPart} incomplete`;
  }

  /**
   * @override
   * @param {number} tile
   * @returns {Decoded}
   */
  _decode(tile) {
    const { whole, layout } = this.file, segments = this._segments(tile), tiles = this._places.length;
    const sound = segments.map((_, level) => !whole || whole[level * tiles + tile]);
    if (sound.every(Boolean)) {
      const decoded = decodedOrNull(() => this._decodeSegments(tile, segments));
      if (decoded) return decoded;
      this._inPart.add(tile); // what is there contradicts itself
    } else if (layout === SINGLE) {
      const decoded = this._beforeChecksum(segments[0]);
      if (decoded) return decoded;
    }
    return this._salvaged(tile, segments, sound);
  }

  /**
   * Return a single tile if the file's checksum is behind its stream, which alone is whole then.
   * @param {Uint8Array<ArrayBuffer>} data
   */
  _beforeChecksum(data) {
    return decodedOrNull(() => this._decodeSegments(0, [data.subarray(0, -CHECKSUM_NBYTES)], undefined, true));
  }

  /**
   * Return what there is of a tile: its levels up to the first that is not whole, and what there is of that.
   * @param {number} tile
   * @param {Uint8Array<ArrayBuffer>[]} segments
   * @param {boolean[]} sound which of them are whole
   * @returns {Decoded}
   */
  _salvaged(tile, segments, sound) {
    const parameters = this._parameters, { alignment, stepCode } = this.file.header;
    const count = sound.every(Boolean) ? sound.length : sound.indexOf(false);
    const short = count ? (WORD - ((segments[0].length - parameters) % WORD)) % WORD : alignment;
    // Where in a word a stream starts is told of the first alone.
    const isUseless = count === 0 && (tile > 0 || segments[0].length < parameters);
    const found = isUseless ? [new Uint8Array(parameters)] : segments.slice(0, count + 1);
    const { prior, stream } = this._stream(found), { height, width, inner } = this._extent(tile);
    const sure = [0, ...(sound.length > 1 ? prior.cuts : []), prior.passes.length][count];
    const salvaged = new SalvagedStream(stream, short, sure, prior), grid = new Grid(height, width, inner);
    const decoded = salvaged.decoded(grid, height * width, stepCode);
    if (salvaged.missing) (salvaged.there ? this._inPart : this._missing).add(tile);
    return decoded;
  }
}

/** The start of a stream. A pass is missing if the stream may have ended before it did. */
class SalvagedStream {
  /**
   * @param {Uint8Array} data
   * @param {number} alignment by how many bytes its first word is short
   * @param {number} sure how many of the prior's passes are known to be there
   * @param {Prior} prior
   */
  constructor(data, alignment, sure, prior) {
    /** How many passes were there, and how many were not. */
    this.there = 0;
    this.missing = 0;
    this._sure = sure;
    this._prior = prior;
    const reader = decodedOrNull(() => new Reader(data, alignment));
    this._isOver = !reader;
    this._reader = reader ?? new Reader(data.subarray(0, 0));
  }

  /**
   * Return what the stream holds, and what the prior expects of the rest.
   * @param {Grid} grid
   * @param {number} size of a channel
   * @param {number} stepCode
   * @returns {Decoded}
   */
  decoded(grid, size, stepCode) {
    const prior = this._prior, symbols = new Int16Array(prior.order.length * size);
    const points = prior.hasPoints ? new Int32Array(symbols.length) : null;
    const present = prior.passes.flatMap((step, number) => (grid.count(step) ? [{ step, number }] : []));
    const held = this._count(present.length) ?? present.length;
    const largest = Math.max(0, ...present.map(({ step }) => countOf(step, grid)));
    const contexts = prior.contexts(grid, stepCode), pass = new PassReader(this._reader, prior.tables, largest);
    for (const [n, { step, number }] of present.entries()) {
      const count = countOf(step, grid), isHeld = n < held;
      if (!isHeld && !step.predicted) continue;
      contexts.find(number, pass.locations, pass.scales, pass.origins);
      const isThere = isHeld && this._known(number, () => pass.read(count) ?? true) === true;
      if (isThere) this.there++;
      else if (isHeld) this.missing++;
      if (!isThere) for (let k = 0; k < count; k++) pass.symbols[k] = (pass.locations[k] + 4) >> 3;
      contexts.put(number, pass.symbols, pass.origins);
      pass.putInto({ symbols, points, size }, prior, step, grid.positions(step).plane, isThere);
    }
    return { symbols, points };
  }

  /**
   * Return how many of so many passes the stream says that it holds, null if that is missing.
   * @param {number} present
   */
  _count(present) {
    return this._known(0, () => {
      const count = this._reader.raw(32 - Math.clz32(present));
      need(count <= present, `damaged stream: it tells of ${count} passes, there are ${present}`);
      return count;
    });
  }

  /**
   * Return what is read of a pass, null if it is missing, as all behind it are.
   * @template T
   * @param {number} number
   * @param {() => T} read
   * @returns {T | null}
   */
  _known(number, read) {
    const found = this._isOver ? null : decodedOrNull(read);
    this._isOver ||= found === null || (number >= this._sure && this._reader.ranDry);
    return this._isOver ? null : found;
  }
}

/**
 * @param {Pass} step
 * @param {Grid} grid
 */
function countOf(step, grid) {
  return (step.channels[1] - step.channels[0]) * grid.count(step);
}

/**
 * Return what is decoded, null if it is damaged.
 * @template T
 * @param {() => T} decode
 * @returns {T | null}
 */
function decodedOrNull(decode) {
  try {
    return decode();
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}
