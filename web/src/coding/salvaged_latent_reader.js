/** Decodes the readable part of damaged or truncated files. Missing passes get the values that their prior predicts. */

import { AnsDecoder } from "../entropy/ans.js";
import { FormatError, need } from "../error.js";
import { CHECKSUM_NBYTES } from "../format/container.js";
import { SINGLE } from "../format/layout.js";
import { Grid } from "../priors/passes.js";
import { LatentReader, WORD } from "./latent_reader.js";
import { PassReader } from "./stream_codec.js";

/** @typedef {import("../format/layout.js").InnerEdges} InnerEdges */
/** @typedef {import("./stream_codec.js").DecodedStream} DecodedStream */
/** @typedef {import("./stream_codec.js").Prior} Prior */
/** @typedef {import("./stream_codec.js").Prior["passes"][number]} Pass */

/** The latents of a salvaged file. `missingReport` covers the tiles that have been requested so far. */
export class SalvagedLatentReader extends LatentReader {
  /** @type {Set<number>} */
  _incomplete = new Set();
  /** @type {Set<number>} */
  _missing = new Set();

  /** @override */
  get missingReport() {
    const { size: missing } = this._missing, { size: inPart } = this._incomplete;
    if (!missing && !inPart) return "";
    return `tiles: ${missing} of ${this._tilePlaces.length} missing, ${inPart} incomplete`;
  }

  /**
   * @override
   * @param {number} tile
   * @returns {DecodedStream}
   */
  _decodeTile(tile) {
    const { intactSegments, layout } = this.file, segments = this._segments(tile), tiles = this._tilePlaces.length;
    const sound = segments.map((_, level) => !intactSegments || intactSegments[level * tiles + tile]);
    if (sound.every(Boolean)) {
      const decoded = decodedOrNull(() => this._decodeSegments(tile, segments));
      if (decoded) return decoded;
      this._incomplete.add(tile); // what is there contradicts itself
    } else if (layout === SINGLE) {
      const decoded = this._decodeBeforeChecksum(segments[0]);
      if (decoded) return decoded;
    }
    return this._salvageTile(tile, segments, sound);
  }

  /**
   * Decode the only tile of a file, taking the file's last bytes as its checksum. Return null if that stream is
   * damaged.
   * @param {Uint8Array<ArrayBuffer>} data
   */
  _decodeBeforeChecksum(data) {
    return decodedOrNull(() => this._decodeSegments(0, [data.subarray(0, -CHECKSUM_NBYTES)], undefined, true));
  }

  /**
   * Decode a damaged tile: all levels before the first incomplete one, and the readable part of that one.
   * @param {number} tile
   * @param {Uint8Array<ArrayBuffer>[]} segments
   * @param {boolean[]} sound whether each segment is intact
   * @returns {DecodedStream}
   */
  _salvageTile(tile, segments, sound) {
    const parameters = this._parameterNbytes, { alignment, stepCode } = this.file.header;
    const count = sound.every(Boolean) ? sound.length : sound.indexOf(false);
    const short = count ? (WORD - ((segments[0].length - parameters) % WORD)) % WORD : alignment;
    // Where in a word a stream starts is told of the first alone.
    const isUseless = count === 0 && (tile > 0 || segments[0].length < parameters);
    const found = isUseless ? [new Uint8Array(parameters)] : segments.slice(0, count + 1);
    const { prior, stream } = this._stream(found), { height, width, inner } = this._tileExtent(tile);
    const sure = [0, ...(sound.length > 1 ? prior.cuts : []), prior.passes.length][count];
    const salvaged = new SalvagedStream(stream, short, sure, prior), grid = new Grid(height, width, inner);
    const decoded = salvaged.decoded(grid, height * width, stepCode);
    if (salvaged.missing) (salvaged.there ? this._incomplete : this._missing).add(tile);
    return decoded;
  }
}

/** The start of a damaged stream. A pass is missing if the stream may have ended before it. */
class SalvagedStream {
  /**
   * @param {Uint8Array} data
   * @param {number} alignment bytes by which the first word is shorter than 4
   * @param {number} sure number of the prior's passes that are known to be complete
   * @param {Prior} prior
   */
  constructor(data, alignment, sure, prior) {
    /** Numbers of passes that were read and that are missing. */
    this.there = 0;
    this.missing = 0;
    this._sure = sure;
    this._prior = prior;
    const reader = decodedOrNull(() => new AnsDecoder(data, alignment));
    this._isOver = !reader;
    this._reader = reader ?? new AnsDecoder(data.subarray(0, 0));
  }

  /**
   * Return the symbols of the stream, and predicted symbols for the missing passes.
   * @param {Grid} grid
   * @param {number} size positions of a channel
   * @param {number} stepCode
   * @returns {DecodedStream}
   */
  decoded(grid, size, stepCode) {
    const prior = this._prior, symbols = new Int16Array(prior.order.length * size);
    const reconOffsets = prior.hasReconOffsets ? new Int32Array(symbols.length) : null;
    const nonEmpty = prior.passes.flatMap((codingPass, number) => (grid.count(codingPass) ? [{ codingPass, number }] : []));
    const held = this._count(nonEmpty.length) ?? nonEmpty.length;
    const largest = Math.max(0, ...nonEmpty.map(({ codingPass }) => countOf(codingPass, grid)));
    const contexts = prior.contexts(grid, stepCode), pass = new PassReader(this._reader, prior.tables, largest);
    for (const [n, { codingPass, number }] of nonEmpty.entries()) {
      const count = countOf(codingPass, grid), isInStream = n < held;
      if (!isInStream && !codingPass.predicted) continue;
      contexts.find(number, pass.locations, pass.scales, pass.origins);
      const isThere = isInStream && this._known(number, () => pass.read(count) ?? true) === true;
      if (isThere) this.there++;
      else if (isInStream) this.missing++;
      if (!isThere) for (let k = 0; k < count; k++) pass.symbols[k] = (pass.locations[k] + 4) >> 3;
      contexts.put(number, pass.symbols, pass.origins);
      pass.putInto({ symbols, reconOffsets, size }, prior, codingPass, grid.positions(codingPass).plane, isThere);
    }
    return { symbols, reconOffsets };
  }

  /**
   * Return the number of passes in the stream, null if it is missing.
   * @param {number} nonEmpty number of passes that have positions
   */
  _count(nonEmpty) {
    return this._known(0, () => {
      const count = this._reader.raw(32 - Math.clz32(nonEmpty));
      need(count <= nonEmpty, `damaged stream: it tells of ${count} passes, there are ${nonEmpty}`);
      return count;
    });
  }

  /**
   * Return the result of `read`, null if the pass is missing. All later passes are then missing as well.
   * @template T
   * @param {number} number of the pass
   * @param {() => T} read
   * @returns {T | null}
   */
  _known(number, read) {
    const found = this._isOver ? null : decodedOrNull(read);
    this._isOver ||= found === null || (number >= this._sure && this._reader.isExhausted);
    return this._isOver ? null : found;
  }
}

/**
 * @param {Pass} codingPass
 * @param {Grid} grid
 */
function countOf(codingPass, grid) {
  return (codingPass.channels[1] - codingPass.channels[0]) * grid.count(codingPass);
}

/**
 * Return the result of `decode`, null if it throws a `FormatError`.
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
