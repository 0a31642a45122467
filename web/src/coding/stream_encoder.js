/** Encodes the symbols of a tile as a stream, with the contexts that the decoder will compute. */

import { AnsEncoder } from "../entropy/ans_encoder.js";
import { ESCAPE_BITS, ESCAPE_OFFSET, LOW_BITS } from "../entropy/tables.js";
import { countSymbols, nonEmptyPasses } from "../priors/passes.js";
import { WORD } from "./latent_reader.js";
import { binOf } from "./rdoq.js";

/** @typedef {import("../priors/passes.js").Grid} Grid */
/** @typedef {import("./stream_codec.js").Prior} Prior */
/** @typedef {import("./stream_codec.js").Prior["passes"][number]} Pass */

/**
 * Contexts of the symbols of a pass:
 *
 * - `rows`: the table of each symbol
 * - `bases`: the symbol of residual 0
 * - `lowBits`: the number of low bits
 * - `origins`: the predicted latent that the symbol is relative to, in 1/64 step
 * @typedef {{rows: Uint16Array, bases: Int32Array, lowBits: Uint8Array, origins: Int32Array}} Contexts
 */

/**
 * Gives the symbols of passes: how many of the non-empty passes to send, then the symbols of each pass in turn.
 * @typedef {{countUsefulPasses(nonEmpty: Pass[]): number, quantizeRdo(codingPass: Pass, contexts: Contexts, symbols:
 *   Int32Array): void}} SymbolSource
 */

/**
 * Return the stream of the symbols of a source, split into the levels of the prior.
 * @param {SymbolSource} source
 * @param {Grid} grid of the tile
 * @param {Prior} prior
 * @param {number} stepCode
 * @returns {Uint8Array<ArrayBuffer>[]}
 */
export function encodeStream(source, grid, prior, stepCode) {
  const nonEmpty = nonEmptyPasses(prior.passes, grid);
  const contextFinder = prior.contexts(grid, stepCode), passesToWrite = [];
  let passesInStream = 0;
  const usefulPasses = source.countUsefulPasses(nonEmpty.map(({ codingPass }) => codingPass));
  for (const { codingPass, number } of nonEmpty.slice(0, usefulPasses)) {
    const count = countSymbols(codingPass, grid), symbols = new Int32Array(count);
    const locations = new Int16Array(count), scales = new Uint8Array(count), origins = new Int32Array(count);
    contextFinder.find(number, locations, scales, origins);
    const contexts = { ...contextsOf(locations, scales), origins };
    source.quantizeRdo(codingPass, contexts, symbols);
    contextFinder.put(number, symbols, origins);
    passesToWrite.push({ number, contexts, symbols });
    if (symbols.some(Boolean)) passesInStream = passesToWrite.length;
  }
  const writer = new AnsEncoder(), wordsAfterCut = prior.cuts.map(() => 0); // words of all later passes
  for (const { number, contexts, symbols } of passesToWrite.slice(0, passesInStream).reverse()) {
    writePass(writer, prior, contexts, symbols);
    prior.cuts.forEach((cut, n) => {
      if (cut <= number) wordsAfterCut[n] = writer.words;
    });
  }
  writer.raw(passesInStream, 32 - Math.clz32(nonEmpty.length));
  const data = writer.stream(), ends = [...wordsAfterCut, 0].map((words) => data.length - WORD * words);
  return ends.map((end, n) => data.subarray(n ? ends[n - 1] : 0, end));
}

/**
 * @param {Int16Array} locations in 1/8 symbol
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
 * Write a pass in reverse order: the decoder reads last what is written first.
 * @param {AnsEncoder} writer
 * @param {Prior} prior
 * @param {Contexts} contexts
 * @param {Int32Array} symbols
 */
function writePass(writer, { tables }, { rows, bases, lowBits }, symbols) {
  const bins = Uint8Array.from(symbols, (symbol, n) => binOf(symbol - bases[n], lowBits[n]));
  const escape = tables.numBins - 1;
  for (let n = symbols.length - 1; n >= 0; n--) {
    if (bins[n] === escape) writer.raw(symbols[n] + ESCAPE_OFFSET, ESCAPE_BITS);
  }
  for (let n = symbols.length - 1; n >= 0; n--) {
    const bits = lowBits[n];
    if (bits && bins[n] !== escape) writer.raw((symbols[n] - bases[n]) & ((1 << bits) - 1), bits);
  }
  writer.writeBins(tables, rows, bins);
}
