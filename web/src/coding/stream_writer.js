/** Symbols of a tile to its stream, by the contexts that a decoder finds. */

import { Writer } from "../entropy/ans_writer.js";
import { ESCAPE_BITS, ESCAPE_OFFSET, LOW_BITS } from "../entropy/tables.js";
import { entryOf } from "./choice.js";
import { WORD } from "./latents.js";

/** @typedef {import("../priors/passes.js").Grid} Grid */
/** @typedef {import("./stream.js").Prior} Prior */
/** @typedef {import("./stream.js").Prior["passes"][number]} Pass */

/**
 * Of each symbol of a pass the number of its table, from where its entries count, and how many low bits it has; and from
 * where symbols count, in 1/64 step.
 * @typedef {{rows: Uint16Array, bases: Int32Array, lowBits: Uint8Array, origins: Int32Array}} Contexts
 */

/**
 * What picks symbols: of how many of the passes that have positions, and which, once contexts are known.
 * @typedef {{passes(present: Pass[]): number, pick(step: Pass, contexts: Contexts, symbols: Int32Array): void}} Picker
 */

/**
 * Return the stream of what is picked, in as many levels as the prior has.
 * @param {Picker} picker
 * @param {Grid} grid of the tile
 * @param {Prior} prior
 * @param {number} stepCode
 * @returns {Uint8Array<ArrayBuffer>[]}
 */
export function encodeStream(picker, grid, prior, stepCode) {
  const present = prior.passes.flatMap((step, number) => (grid.count(step) ? [{ step, number }] : []));
  const known = prior.contexts(grid, stepCode), coded = [];
  let held = 0;
  for (const { step, number } of present.slice(0, picker.passes(present.map(({ step }) => step)))) {
    const count = (step.channels[1] - step.channels[0]) * grid.count(step), symbols = new Int32Array(count);
    const locations = new Int16Array(count), scales = new Uint8Array(count), origins = new Int32Array(count);
    known.find(number, locations, scales, origins);
    const contexts = { ...contextsOf(locations, scales), origins };
    picker.pick(step, contexts, symbols);
    known.put(number, symbols, origins);
    coded.push({ number, contexts, symbols });
    if (symbols.some(Boolean)) held = coded.length;
  }
  const writer = new Writer(), behind = prior.cuts.map(() => 0); // words of what follows each cut
  for (const { number, contexts, symbols } of coded.slice(0, held).reverse()) {
    writePass(writer, prior, contexts, symbols);
    prior.cuts.forEach((cut, n) => {
      if (cut <= number) behind[n] = writer.words;
    });
  }
  writer.raw(held, 32 - Math.clz32(present.length));
  const data = writer.stream(), ends = [...behind, 0].map((words) => data.length - WORD * words);
  return ends.map((end, n) => data.subarray(n ? ends[n - 1] : 0, end));
}

/**
 * @param {Int16Array} locations in eighths of a symbol
 * @param {Uint8Array} scales
 */
function contextsOf(locations, scales) {
  return {
    rows: Uint16Array.from(scales, (scale, n) => scale * 8 + (locations[n] & 7)),
    bases: Int32Array.from(locations, (location) => location >> 3),
    lowBits: Uint8Array.from(scales, (scale) => LOW_BITS[scale]),
  };
}

/**
 * Write a pass: what is to be read first is written last.
 * @param {Writer} writer
 * @param {Prior} prior
 * @param {Contexts} contexts
 * @param {Int32Array} symbols
 */
function writePass(writer, { tables }, { rows, bases, lowBits }, symbols) {
  const entries = Uint8Array.from(symbols, (symbol, n) => entryOf(symbol - bases[n], lowBits[n]));
  const escape = tables.entries - 1;
  for (let n = symbols.length - 1; n >= 0; n--) {
    if (entries[n] === escape) writer.raw(symbols[n] + ESCAPE_OFFSET, ESCAPE_BITS);
  }
  for (let n = symbols.length - 1; n >= 0; n--) {
    const bits = lowBits[n];
    if (bits && entries[n] !== escape) writer.raw((symbols[n] - bases[n]) & ((1 << bits) - 1), bits);
  }
  writer.entries(tables, rows, entries);
}
