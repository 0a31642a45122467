/**
 * The entropy coder: an asymmetric numeral system of 32-bit words and 64-bit state. `docs/format.md`, section 3.1.
 *
 * A state is kept as its upper 40 bits and its lower 24, since probabilities are in 1/2^24: both are exact in doubles,
 * and so is each step of their arithmetic.
 */

import { need } from "../error.js";

/** @typedef {import("./tables.js").Tables} Tables */

const WORD = 4; // bytes
const TOTAL = 2 ** 24, TOTAL_MASK = TOTAL - 1;
const FULL = 2 ** 8; // of the upper part: a state below 2^32 is filled up from the stack, unless that is empty

/** Reads a stream from its start. */
export class Reader {
  /**
   * @param {Uint8Array} stream
   * @param {number} [alignment] by how many bytes its first word is short, if its end may be missing
   * @throws {import("../error.js").FormatError} if it starts with a zero byte, or word, which no stream does
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

  /** Whether all that was written has been read. */
  get isAtEnd() {
    return this._next === this._words.length && this._high === 0 && this._low === 0;
  }

  /** How many words are left. */
  get left() {
    return this._words.length - this._next;
  }

  /** Whether, if the stream is not whole, more may have been read than it holds. */
  get ranDry() {
    return this._next === this._words.length && this._high < FULL;
  }

  /**
   * Read an entry of each of some tables: first of all those that have a likely entry whether it is that.
   * @param {Tables} tables
   * @param {Uint16Array} rows the numbers of the tables
   * @param {number} count how many of `rows` to read
   * @param {Uint8Array} entries where to put what was read
   * @throws {import("../error.js").FormatError} for a likely entry that is told as another
   */
  entries(tables, rows, count, entries) {
    const { likely, weights } = tables;
    let open = 0;
    const waiting = new Uint32Array(count);
    for (let n = 0; n < count; n++) {
      const row = rows[n], weight = weights[row];
      if (weight === 0) {
        waiting[open++] = n;
      } else if (this._low < weight) {
        entries[n] = likely[row];
        this._advance(weight, this._low);
      } else {
        waiting[open++] = n;
        this._advance(TOTAL - weight, this._low - weight);
      }
    }
    for (let n = 0; n < open; n++) {
      const at = waiting[n], row = rows[at];
      const entry = this._other(tables, row);
      need(weights[row] === 0 || entry !== likely[row], "damaged stream: a likely entry told as another");
      entries[at] = entry;
    }
  }

  /**
   * Return so many raw bits.
   * @param {number} bits 0 … 16
   */
  raw(bits) {
    const size = 1 << (24 - bits), low = this._low;
    this._advance(size, low & (size - 1));
    return low >> (24 - bits);
  }

  /**
   * Return an entry of a table, once it is known not to be its likely one if it has that.
   * @param {Tables} tables
   * @param {number} row
   */
  _other({ bounds, entries }, row) {
    const start = row * (entries + 1), low = this._low;
    let first = start, end = start + entries;
    while (end - first > 1) {
      const middle = (first + end) >> 1;
      if (bounds[middle] <= low) first = middle;
      else end = middle;
    }
    this._advance(bounds[first + 1] - bounds[first], low - bounds[first]);
    return first - start;
  }

  /**
   * Multiply the upper part of the state by an entry's weight, and add how far the lower part is within it.
   * @param {number} weight 1 … 2^24
   * @param {number} within below `weight`
   */
  _advance(weight, within) {
    // Two products of less than 2^53 instead of one of 2^64.
    const upper = Math.floor(this._high / 65536), product = upper * weight;
    const top = Math.floor(product / 256);
    const sum = (product - top * 256) * 65536 + (this._high - upper * 65536) * weight + within;
    const carry = Math.floor(sum / TOTAL);
    this._high = top + carry;
    this._low = sum - carry * TOTAL;
    if (this._high < FULL) this._refill();
  }

  /** Take a word into a state below 2^32, if there is one left. */
  _refill() {
    if (this._next === this._words.length || this._high >= FULL) return;
    const word = this._words[this._next++];
    this._high = (this._high * TOTAL + this._low) * 256 + (word >>> 24);
    this._low = word & TOTAL_MASK;
  }
}

/**
 * Return the words of a stream, the first filled up with so many zero bytes; less what there is of another at the end.
 * @param {Uint8Array} stream
 * @param {number} alignment
 */
function wordsOf(stream, alignment) {
  const padded = new Uint8Array(alignment + stream.length);
  padded.set(stream, alignment);
  const view = new DataView(padded.buffer), words = new Uint32Array(Math.floor(padded.length / WORD));
  for (let n = 0; n < words.length; n++) words[n] = view.getUint32(n * WORD);
  return words;
}
