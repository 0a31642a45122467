/** Rate-distortion optimised quantization (RDOQ): picks the symbols and passes that minimise D + lambda R. */

import { LOW_BITS, TOTAL } from "../entropy/tables.js";

/** @typedef {import("../priors/passes.js").Grid} Grid */
/** @typedef {import("./stream_codec.js").Prior} Prior */
/** @typedef {import("./stream_codec.js").Prior["passes"][number]} Pass */
/** @typedef {import("./stream_encoder.js").Contexts} Contexts */

const MAX_SYMBOL = 32766, MAX_BIN = 15, ESCAPE = 31, ESCAPE_BITS = 16, SUBSYMBOL_STEPS = 8;
const RDOQ_LAMBDA = Math.fround(0.1); // lambda of D + lambda R, in squared steps per bit
const MIN_NONZERO_BITS = 9; // lower bound on the rate of a symbol other than 0 in a pass of almost only zeros
const SKIP_TOLERANCE = 1e-5; // squared steps a symbol: at most a thousandth of the quantization error

/**
 * Return the bin of a residual in a table; `ESCAPE` if the table has no bin for it.
 * @param {number} residual the symbol minus the base of its context
 * @param {number} lowBits number of low bits that are sent separately
 */
export function binOf(residual, lowBits) {
  const bin = (residual >> lowBits) + MAX_BIN;
  return bin < 0 || bin >= ESCAPE ? ESCAPE : bin;
}

/** @param {number} latent in symbols */
function clampToSymbolRange(latent) {
  return Math.min(Math.max(latent, -MAX_SYMBOL), MAX_SYMBOL);
}

/** Quantizes the latents of a tile, one pass at a time. */
export class TileQuantizer {
  /**
   * @param {Float32Array} scaled latents in quantization steps, (channels, height, width)
   * @param {Grid} grid
   * @param {Prior} prior one without centroids
   * @param {import("../assets/npz.js").Integers} tableWeights the weights of all bins of all tables
   * @param {Float32Array} rateWeights the factor on lambda at each position, (height, width)
   */
  constructor(scaled, grid, prior, tableWeights, rateWeights) {
    this._rateWeights = rateWeights;
    this._scaled = scaled;
    this._grid = grid;
    this._prior = prior;
    this._size = grid.height * grid.width;
    /** Bits per symbol for each bin, with its low bits or its escape bits. */
    this._bits = Float32Array.from(tableWeights, (weight, n) => {
      const row = Math.floor(n / (ESCAPE + 1)), isEscape = n % (ESCAPE + 1) === ESCAPE;
      return Math.log2(TOTAL) - Math.log2(weight)
        + (isEscape ? ESCAPE_BITS : LOW_BITS[Math.floor(row / SUBSYMBOL_STEPS)]);
    });
  }

  /**
   * Return how many of the non-empty passes are worth sending. Later passes have almost no symbols whose gain exceeds
   * their rate.
   * @param {Pass[]} nonEmpty
   */
  countUsefulPasses(nonEmpty) {
    for (let count = nonEmpty.length, loss = 0, tolerance = 0; count > 0; count--) {
      if (nonEmpty[count - 1].predicted) return count;
      const lambdas = this._lambdasOf(nonEmpty[count - 1]);
      let n = 0;
      for (const target of this._targets(nonEmpty[count - 1])) {
        const minCost = MIN_NONZERO_BITS * lambdas[n++ % lambdas.length];
        loss += Math.max(target ** 2 - (target - Math.round(target)) ** 2 - minCost, 0);
        tolerance += SKIP_TOLERANCE;
      }
      if (loss > tolerance) return count;
    }
    return 0;
  }

  /**
   * Quantize a pass. Each symbol is one of the two integers next to its latent, whichever costs less.
   * @param {Pass} codingPass
   * @param {Contexts} contexts
   * @param {Int32Array} symbols receives the symbols
   */
  quantizeRdo(codingPass, { rows, bases, lowBits, origins }, symbols) {
    const { fround } = Math, { predicted, spacing } = codingPass;
    const bits = this._bits, lambdas = this._lambdasOf(codingPass), symbolsPerStep = fround(64 / spacing);
    let n = 0;
    for (const latent of this._targets(codingPass)) {
      const lmbda = lambdas[n % lambdas.length];
      const offset = fround(latent - fround(origins[n] / 64));
      const target = predicted ? clampToSymbolRange(fround(offset * symbolsPerStep)) : latent;
      const below = Math.floor(target), at = rows[n] * (ESCAPE + 1), residual = below - bases[n];
      const left = fround(target - below), right = fround(left - 1);
      const rateDelta = fround(bits[at + binOf(residual, lowBits[n])] - bits[at + binOf(residual + 1, lowBits[n])]);
      const errorDelta = fround(fround(left * left) - fround(right * right));
      symbols[n++] = below + Number(fround(errorDelta + fround(lmbda * rateDelta)) > 0);
    }
  }

  /**
   * Return lambda at each position of a pass, in squared steps per bit.
   * @param {Pass} codingPass
   */
  _lambdasOf(codingPass) {
    const { plane } = this._grid.positions(codingPass);
    return Float32Array.from(plane, (position) => RDOQ_LAMBDA * this._rateWeights[position]);
  }

  /**
   * Yield the latents of a pass, in coding order.
   * @param {Pass} codingPass
   */
  *_targets(codingPass) {
    const { plane } = this._grid.positions(codingPass), [first, end] = codingPass.channels;
    for (let channel = first; channel < end; channel++) {
      const at = this._prior.order[channel] * this._size;
      for (let k = 0; k < plane.length; k++) yield this._scaled[at + plane[k]];
    }
  }
}
