/** Tables of probabilities, and what entries mean as symbols. `docs/format.md`, section 3.2. */

/** @typedef {import("./ans.js").Reader} Reader */

/** What the weights of a table sum to. */
export const TOTAL = 2 ** 24;
/** Escaped symbols are raw bits, so many, of the symbol and an offset. */
export const ESCAPE_BITS = 16, ESCAPE_OFFSET = 1 << 15;
/** How many low bits symbols have, by scale. */
export const LOW_BITS = Uint8Array.from({ length: 32 }, (_, scale) => scale < 17 ? 0 : 1 + Math.floor((scale - 17) / 3));

/**
 * Tables of so many `entries` each, row by row, as the coder's reader wants them. A table whose largest weight is more
 * than half has a `likely` entry of that weight, else its weight is 0; `bounds` are the sums of weights before each
 * entry, and all, once an entry is known not to be the likely one: `entries` + 1 for each row.
 * @typedef {{entries: number, likely: Uint8Array, weights: Int32Array, bounds: Int32Array}} Tables
 */

/**
 * Return tables from the weights in a prior's file, each row of which sums to 2^24.
 * @param {import("../assets/npz.js").NumpyArray} array shape (rows, entries)
 * @returns {Tables}
 */
export function tablesOf({ shape: [rows, entries], values }) {
  const likely = new Uint8Array(rows), weights = new Int32Array(rows), bounds = new Int32Array(rows * (entries + 1));
  for (let row = 0; row < rows; row++) {
    let others = values.subarray(row * entries, (row + 1) * entries);
    const largest = indexOfLargest(others);
    if (others[largest] > TOTAL / 2) {
      likely[row] = largest;
      weights[row] = others[largest];
      others = othersOf(others, largest);
    }
    for (let n = 0, at = row * (entries + 1); n < entries; n++) bounds[at + n + 1] = bounds[at + n] + others[n];
  }
  return { entries, likely, weights, bounds };
}

/**
 * Read the symbols of a pass: all entries, then the low bits that they leave open, then the raw symbols of those that
 * say so, which are the last of their tables.
 * @param {Reader} reader
 * @param {Tables} tables
 * @param {{count: number, rows: Uint16Array, bases: Int32Array | null, lowBits: Uint8Array}} contexts of so many
 *   symbols the tables' numbers and the low bits, and from where symbols count if that is not 0
 * @param {Uint8Array} entries where to put the entries
 * @param {Int32Array} symbols where to put the symbols
 * @throws {import("../error.js").FormatError} if the stream is damaged
 */
export function readSymbols(reader, tables, { count, rows, bases, lowBits }, entries, symbols) {
  const escape = tables.entries - 1, middle = tables.entries / 2 - 1;
  reader.entries(tables, rows, count, entries);
  let escapes = 0;
  for (let n = 0; n < count; n++) {
    const bits = lowBits[n], entry = entries[n];
    if (entry === escape) {
      escapes++;
      continue;
    }
    symbols[n] = (bases ? bases[n] : 0) + ((entry - middle) << bits) + (bits ? reader.raw(bits) : 0);
  }
  for (let n = 0; escapes > 0; n++) {
    if (entries[n] === escape) {
      symbols[n] = reader.raw(ESCAPE_BITS) - ESCAPE_OFFSET;
      escapes--;
    }
  }
}

/**
 * Return the weights of all entries once an entry is known not to be the likely one.
 * @param {import("../assets/npz.js").Integers} row
 * @param {number} likely
 */
function othersOf(row, likely) {
  const rest = TOTAL - row[likely];
  const others = Int32Array.from(row, (weight) => Math.floor((weight * (TOTAL - 1)) / rest));
  others[likely] = 0;
  const sum = others.reduce((total, weight) => total + weight, 0);
  others[indexOfLargest(others)] += TOTAL - 1 - sum;
  others[likely] = 1;
  return others;
}

/**
 * Return where the largest number is, of equals the first.
 * @param {import("../assets/npz.js").Integers} numbers
 */
function indexOfLargest(numbers) {
  let found = 0;
  for (let n = 1; n < numbers.length; n++) if (numbers[n] > numbers[found]) found = n;
  return found;
}
