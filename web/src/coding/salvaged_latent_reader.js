/** Decodes the readable part of damaged or truncated files. Missing passes get the values that their prior predicts. */

import { AnsDecoder } from "../entropy/ans.js";
import { FormatError, need } from "../error.js";
import { CHECKSUM_NBYTES } from "../format/container.js";
import { SINGLE } from "../format/layout.js";
import { Grid, countSymbols, nonEmptyPasses } from "../priors/passes.js";
import { LatentReader, WORD } from "./latent_reader.js";
import { PassReader } from "./stream_codec.js";

/** @typedef {import("./stream_codec.js").DecodedStream} DecodedStream */
/** @typedef {import("./stream_codec.js").Prior} Prior */

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
    const intact = segments.map((_, level) => !intactSegments || intactSegments[level * tiles + tile]);
    if (intact.every(Boolean)) {
      const decoded = resultOrNull(() => this._decodeSegments(tile, segments));
      if (decoded) return decoded;
      this._incomplete.add(tile); // the segments are intact, but malformed
    } else if (layout === SINGLE) {
      const decoded = this._decodeBeforeChecksum(segments[0]);
      if (decoded) return decoded;
    }
    return this._salvageTile(tile, segments, intact);
  }

  /**
   * Decode the only tile of a file, taking the file's last bytes as its checksum. Return null if that stream is
   * damaged.
   * @param {Uint8Array<ArrayBuffer>} data
   */
  _decodeBeforeChecksum(data) {
    return resultOrNull(() => this._decodeSegments(0, [data.subarray(0, -CHECKSUM_NBYTES)], undefined, true));
  }

  /**
   * Decode a damaged tile: all levels before the first incomplete one, and the readable part of that one.
   * @param {number} tile
   * @param {Uint8Array<ArrayBuffer>[]} segments
   * @param {boolean[]} intact whether each segment is intact
   * @returns {DecodedStream}
   */
  _salvageTile(tile, segments, intact) {
    const parameters = this._parameterNbytes, { alignment, stepCode } = this.file.header;
    const count = intact.every(Boolean) ? intact.length : intact.indexOf(false);
    const wordAlignment = count ? (WORD - ((segments[0].length - parameters) % WORD)) % WORD : alignment;
    // The header gives the alignment of the first tile's stream only.
    const isUnreadable = count === 0 && (tile > 0 || segments[0].length < parameters);
    const readable = isUnreadable ? [new Uint8Array(parameters)] : segments.slice(0, count + 1);
    const { prior, stream } = this._stream(readable), { height, width, inner } = this._tileExtent(tile);
    const sure = [0, ...(intact.length > 1 ? prior.cuts : []), prior.passes.length][count];
    const salvaged = new SalvagedStream(stream, wordAlignment, sure, prior), grid = new Grid(height, width, inner);
    const decoded = salvaged.decoded(grid, height * width, stepCode);
    if (salvaged.passesMissing) (salvaged.passesRead ? this._incomplete : this._missing).add(tile);
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
    this.passesRead = 0;
    this.passesMissing = 0;
    this._sure = sure;
    this._prior = prior;
    const reader = resultOrNull(() => new AnsDecoder(data, alignment));
    this._isAtEnd = !reader;
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
    const nonEmpty = nonEmptyPasses(prior.passes, grid);
    const passesInStream = this._readPassCount(nonEmpty.length) ?? nonEmpty.length;
    const largest = Math.max(0, ...nonEmpty.map(({ codingPass }) => countSymbols(codingPass, grid)));
    const contexts = prior.contexts(grid, stepCode), pass = new PassReader(this._reader, prior.tables, largest);
    for (const [n, { codingPass, number }] of nonEmpty.entries()) {
      const count = countSymbols(codingPass, grid), isInStream = n < passesInStream;
      if (!isInStream && !codingPass.predicted) continue;
      contexts.find(number, pass.locations, pass.scales, pass.origins);
      const wasRead = isInStream && this._readOrNull(number, () => pass.read(count) ?? true) === true;
      if (wasRead) this.passesRead++;
      else if (isInStream) this.passesMissing++;
      if (!wasRead) for (let k = 0; k < count; k++) pass.symbols[k] = (pass.locations[k] + 4) >> 3;
      contexts.put(number, pass.symbols, pass.origins);
      pass.putInto({ symbols, reconOffsets, size }, prior, codingPass, grid.positions(codingPass).plane, wasRead);
    }
    return { symbols, reconOffsets };
  }

  /**
   * Return the number of passes in the stream, null if it is missing.
   * @param {number} nonEmpty number of passes that have positions
   */
  _readPassCount(nonEmpty) {
    return this._readOrNull(0, () => {
      const count = this._reader.raw(32 - Math.clz32(nonEmpty));
      need(count <= nonEmpty, `damaged stream: ${count} passes, expected at most ${nonEmpty}`);
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
  _readOrNull(number, read) {
    const result = this._isAtEnd ? null : resultOrNull(read);
    this._isAtEnd ||= result === null || (number >= this._sure && this._reader.isExhausted);
    return this._isAtEnd ? null : result;
  }
}

/**
 * Return the result of `decode`, null if it throws a `FormatError`.
 * @template T
 * @param {() => T} decode
 * @returns {T | null}
 */
function resultOrNull(decode) {
  try {
    return decode();
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}
