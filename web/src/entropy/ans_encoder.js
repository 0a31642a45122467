/** The entropy encoder. It writes from the end what `ans.js` reads from the start. */

/** @typedef {import("./tables.js").Tables} Tables */

const TOTAL = 2 ** 24, BYTE = 2 ** 8, WORD = 4; // bytes

/** Encodes a stream. The state is split like that of `AnsDecoder`. */
export class AnsEncoder {
  constructor() {
    /** @type {number[]} */
    this._words = [];
    this._high = 0;
    this._low = 0;
  }

  /** Number of complete words written so far; later writes cannot change them. */
  get words() {
    return this._words.length;
  }

  /**
   * Write one bin of each of some tables.
   * @param {Tables} tables
   * @param {Uint16Array} rows the numbers of the tables
   * @param {Uint8Array} bins
   */
  writeBins({ modes, modeWeights, bounds, numBins }, rows, bins) {
    for (let n = rows.length - 1; n >= 0; n--) {
      const row = rows[n], at = row * (numBins + 1) + bins[n];
      const isMode = modeWeights[row] > 0 && bins[n] === modes[row];
      if (!isMode) this._put(bounds[at], bounds[at + 1] - bounds[at]);
    }
    for (let n = rows.length - 1; n >= 0; n--) {
      const weight = modeWeights[rows[n]];
      if (weight === 0) continue;
      if (bins[n] === modes[rows[n]]) this._put(0, weight);
      else this._put(weight, TOTAL - weight);
    }
  }

  /**
   * Write raw bits.
   * @param {number} number their value
   * @param {number} bits their number, 0 … 16
   */
  raw(number, bits) {
    const size = 1 << (24 - bits);
    this._put(number * size, size);
  }

  /** Return the stream without the zero bytes at its start. */
  stream() {
    const upper = Math.floor(this._high / BYTE), lower = this._lowerWord();
    const state = upper ? [upper, lower] : lower ? [lower] : [];
    const words = [...state, ...this._words.reverse()], data = new Uint8Array(WORD * words.length);
    const view = new DataView(data.buffer);
    words.forEach((word, n) => view.setUint32(WORD * n, word));
    return data.subarray(data.findIndex(Boolean) === -1 ? data.length : data.findIndex(Boolean));
  }

  /**
   * Divide the state by a bin's weight. The remainder, offset by the start of the bin, becomes the lower part.
   * @param {number} start
   * @param {number} weight 1 … 2^24
   */
  _put(start, weight) {
    if (Math.floor(this._high / 65536) >= weight) {
      this._words.push(this._lowerWord());
      const high = Math.floor(this._high / BYTE);
      this._high = Math.floor(high / TOTAL);
      this._low = high % TOTAL;
    }
    // Two divisions of numbers below 2^48 replace one of a number below 2^64.
    const upper = Math.floor(this._high / weight), dividend = (this._high % weight) * TOTAL + this._low;
    this._high = upper * TOTAL + Math.floor(dividend / weight);
    this._low = start + (dividend % weight);
  }

  _lowerWord() {
    return (this._high % BYTE) * TOTAL + this._low;
  }
}
