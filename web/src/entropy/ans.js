/**
 * The entropy decoder: an asymmetric numeral system (rANS) with 32-bit words and a 64-bit state. `docs/format.md`,
 * section 3.1.
 *
 * Probabilities are multiples of 1/2^24. The state is therefore kept as its upper 40 and its lower 24 bits: both fit a
 * double exactly, and so does each intermediate result.
 */

import { need } from "../error.js";

/** @typedef {import("./tables.js").Tables} Tables */

const WORD = 4; // bytes
const TOTAL = 2 ** 24, TOTAL_MASK = TOTAL - 1;
const STATE_MIN = 2 ** 8; // of the upper part: a state below 2^32 takes the next word, if there is one

/** Decodes a stream from its start. */
export class AnsDecoder {
  /**
   * @param {Uint8Array} stream
   * @param {number} [alignment] bytes by which the first word is shorter than 4. Set it if the end of the stream may be
   *   missing.
   * @throws {import("../error.js").FormatError} if the stream starts with a zero byte or word, which no valid stream
   *   does
   */
  constructor(stream, alignment) {
    need(alignment !== undefined || stream[0] !== 0, "damaged stream: it starts with a zero byte");
    this._words = wordsOf(stream, alignment ?? (WORD - (stream.length % WORD)) % WORD);
    need(this._words[0] !== 0, "damaged stream: it starts with a zero word");
    this._next = 0;
    this._high = 0;
    this._low = 0;
    this._refill();
    this._refill();
  }

  /** Whether the whole stream has been read. */
  get isAtEnd() {
    return this._next === this._words.length && this._high === 0 && this._low === 0;
  }

  /** Number of unread words. */
  get wordsRemaining() {
    return this._words.length - this._next;
  }

  /** Whether the reads may have gone past the end of a truncated stream. */
  get isExhausted() {
    return this._next === this._words.length && this._high < STATE_MIN;
  }

  /**
   * Read one bin from each of some tables. First come the flags "is the mode" of all tables that have a mode, then the
   * other bins.
   * @param {Tables} tables
   * @param {Uint16Array} rows the numbers of the tables
   * @param {number} count how many of `rows` to read
   * @param {Uint8Array} bins receives the bins
   * @throws {import("../error.js").FormatError} if a bin that is flagged as another one is the mode
   */
  readBins(tables, rows, count, bins) {
    const { modes, modeWeights } = tables;
    let pendingCount = 0;
    const pending = new Uint32Array(count);
    for (let n = 0; n < count; n++) {
      const row = rows[n], weight = modeWeights[row];
      if (weight === 0) {
        pending[pendingCount++] = n;
      } else if (this._low < weight) {
        bins[n] = modes[row];
        this._advance(weight, this._low);
      } else {
        pending[pendingCount++] = n;
        this._advance(TOTAL - weight, this._low - weight);
      }
    }
    for (let n = 0; n < pendingCount; n++) {
      const at = pending[n], row = rows[at];
      const bin = this._readOtherBin(tables, row);
      const isValid = modeWeights[row] === 0 || bin !== modes[row];
      need(isValid, "damaged stream: the mode of a table is coded as one of the other bins");
      bins[at] = bin;
    }
  }

  /**
   * Read raw bits.
   * @param {number} bits their number, 0 … 16
   */
  raw(bits) {
    const size = 1 << (24 - bits), low = this._low;
    this._advance(size, low & (size - 1));
    return low >> (24 - bits);
  }

  /**
   * Read a bin that is known not to be the mode of its table.
   * @param {Tables} tables
   * @param {number} row
   */
  _readOtherBin({ bounds, numBins }, row) {
    const start = row * (numBins + 1), low = this._low;
    let first = start, end = start + numBins;
    while (end - first > 1) {
      const middle = (first + end) >> 1;
      if (bounds[middle] <= low) first = middle;
      else end = middle;
    }
    this._advance(bounds[first + 1] - bounds[first], low - bounds[first]);
    return first - start;
  }

  /**
   * Multiply the upper part of the state by a bin's weight, and add the offset of the lower part within the bin.
   * @param {number} weight 1 … 2^24
   * @param {number} within the offset, below `weight`
   */
  _advance(weight, within) {
    // Two products below 2^53 replace one product below 2^64.
    const upper = Math.floor(this._high / 65536), product = upper * weight;
    const top = Math.floor(product / 256);
    const sum = (product - top * 256) * 65536 + (this._high - upper * 65536) * weight + within;
    const carry = Math.floor(sum / TOTAL);
    this._high = top + carry;
    this._low = sum - carry * TOTAL;
    if (this._high < STATE_MIN) this._refill();
  }

  /** Append a word to a state below 2^32, if any word is left. */
  _refill() {
    if (this._next === this._words.length || this._high >= STATE_MIN) return;
    const word = this._words[this._next++];
    this._high = (this._high * TOTAL + this._low) * 256 + (word >>> 24);
    this._low = word & TOTAL_MASK;
  }
}

/**
 * Return the words of a stream. Zero bytes complete the first word; an incomplete last word is dropped.
 * @param {Uint8Array} stream
 * @param {number} alignment number of the zero bytes
 */
function wordsOf(stream, alignment) {
  const padded = new Uint8Array(alignment + stream.length);
  padded.set(stream, alignment);
  const view = new DataView(padded.buffer), words = new Uint32Array(Math.floor(padded.length / WORD));
  for (let n = 0; n < words.length; n++) words[n] = view.getUint32(n * WORD);
  return words;
}
