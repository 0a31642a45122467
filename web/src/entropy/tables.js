/** Probability tables, and the symbols that their bins stand for. `docs/format.md`, section 3.2. */

/** @typedef {import("./ans.js").AnsDecoder} AnsDecoder */

/** Sum of the weights of a table. */
export const TOTAL = 2 ** 24;
/** Number of raw bits of an escaped symbol, and the offset that is added to it. */
export const ESCAPE_BITS = 16, ESCAPE_OFFSET = 1 << 15;
/** Number of low bits of a symbol, by scale. */
export const LOW_BITS = Uint8Array.from({ length: 32 }, (_, scale) => {
  return scale < 17 ? 0 : 1 + Math.floor((scale - 17) / 3);
});

/**
 * Probability tables, row by row, in the form that the coder needs.
 *
 * - `modes`: the bin with more than half of the weight, if there is one
 * - `modeWeights`: the weight of that bin, 0 for a table without a mode
 * - `bounds`: cumulative weights of the bins, given that the bin is not the mode; `numBins` + 1 a row
 * @typedef {{numBins: number, modes: Uint8Array, modeWeights: Int32Array, bounds: Int32Array}} Tables
 */

/**
 * Build tables from the weights in a prior's file. Each row sums to 2^24.
 * @param {import("../assets/npz.js").NumpyArray} array shape (rows, bins)
 * @returns {Tables}
 */
export function buildTables({ shape: [rows, numBins], values }) {
  const modes = new Uint8Array(rows), modeWeights = new Int32Array(rows), bounds = new Int32Array(rows * (numBins + 1));
  for (let row = 0; row < rows; row++) {
    let others = values.subarray(row * numBins, (row + 1) * numBins);
    const largest = indexOfLargest(others);
    if (others[largest] > TOTAL / 2) {
      modes[row] = largest;
      modeWeights[row] = others[largest];
      others = weightsWithoutMode(others, largest);
    }
    for (let n = 0, at = row * (numBins + 1); n < numBins; n++) bounds[at + n + 1] = bounds[at + n] + others[n];
  }
  return { numBins, modes, modeWeights, bounds };
}

/**
 * Read the symbols of a pass: all bins, then the low bits, then the escaped symbols. The last bin of each table means
 * "escaped".
 * @param {AnsDecoder} reader
 * @param {Tables} tables
 * @param {{count: number, rows: Uint16Array, bases: Int32Array | null, lowBits: Uint8Array}} contexts `rows` are the
 *   numbers of the tables. `bases` are the symbols of residual 0, null if all are 0.
 * @param {Uint8Array} bins receives the bins
 * @param {Int32Array} symbols receives the symbols
 * @throws {import("../error.js").FormatError} if the stream is damaged
 */
export function readSymbols(reader, tables, { count, rows, bases, lowBits }, bins, symbols) {
  const escape = tables.numBins - 1, middle = tables.numBins / 2 - 1;
  reader.readBins(tables, rows, count, bins);
  let escapes = 0;
  for (let n = 0; n < count; n++) {
    const bits = lowBits[n], bin = bins[n];
    if (bin === escape) {
      escapes++;
      continue;
    }
    symbols[n] = (bases ? bases[n] : 0) + ((bin - middle) << bits) + (bits ? reader.raw(bits) : 0);
  }
  for (let n = 0; escapes > 0; n++) {
    if (bins[n] === escape) {
      symbols[n] = reader.raw(ESCAPE_BITS) - ESCAPE_OFFSET;
      escapes--;
    }
  }
}

/**
 * Return the weights of all bins given that the bin is not the mode.
 * @param {import("../assets/npz.js").Integers} row
 * @param {number} mode
 */
function weightsWithoutMode(row, mode) {
  const otherWeights = TOTAL - row[mode];
  const others = Int32Array.from(row, (weight) => Math.floor((weight * (TOTAL - 1)) / otherWeights));
  others[mode] = 0;
  const sum = others.reduce((total, weight) => total + weight, 0);
  others[indexOfLargest(others)] += TOTAL - 1 - sum;
  others[mode] = 1;
  return others;
}

/**
 * Return the index of the largest number, the first one among equals.
 * @param {import("../assets/npz.js").Integers} numbers
 */
function indexOfLargest(numbers) {
  let index = 0;
  for (let n = 1; n < numbers.length; n++) if (numbers[n] > numbers[index]) index = n;
  return index;
}
