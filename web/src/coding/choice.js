/** Which symbols are written: those that are worth their bits in squared error. */

import { LOW_BITS, TOTAL } from "../entropy/tables.js";

/** @typedef {import("../priors/passes.js").Grid} Grid */
/** @typedef {import("./stream.js").Prior} Prior */
/** @typedef {import("./stream.js").Prior["passes"][number]} Pass */
/** @typedef {import("./stream_writer.js").Contexts} Contexts */

const LARGEST_SYMBOL = 32766, REACH = 15, ESCAPE = 31, ESCAPE_BITS = 16, FRACTIONS = 8;
const MULTIPLIER = Math.fround(0.1); // what a bit may cost in squared error, in squared steps
const RARE = 9; // bits, at the least, of a symbol other than 0 where nearly all are 0
const SPARE = 1e-5; // squared steps for each symbol: a thousandth, or less, of what quantizing costs

/**
 * Return the entry of a table that tells a symbol.
 * @param {number} residual the symbol less the base of its context
 * @param {number} lowBits
 */
export function entryOf(residual, lowBits) {
  const entry = (residual >> lowBits) + REACH;
  return entry < 0 || entry >= ESCAPE ? ESCAPE : entry;
}

/** @param {number} counted a latent, in symbols */
function saturated(counted) {
  return Math.min(Math.max(counted, -LARGEST_SYMBOL), LARGEST_SYMBOL);
}

/** The latents of a tile in steps, of which symbols are picked pass by pass. */
export class Choice {
  /**
   * @param {Float32Array} scaled latents in steps, (channels, height, width)
   * @param {Grid} grid
   * @param {Prior} prior one without reconstruction points
   * @param {import("../assets/npz.js").Integers} weights of all entries of its tables
   * @param {Float32Array} mask by how much dearer than usual bits are at each position
   */
  constructor(scaled, grid, prior, weights, mask) {
    this._mask = mask;
    this._scaled = scaled;
    this._grid = grid;
    this._prior = prior;
    this._size = grid.height * grid.width;
    /** What all that is sent for a symbol takes, in bits, for each entry. */
    this._bits = Float32Array.from(weights, (weight, n) => {
      const row = Math.floor(n / (ESCAPE + 1)), isEscape = n % (ESCAPE + 1) === ESCAPE;
      return Math.log2(TOTAL) - Math.log2(weight) + (isEscape ? ESCAPE_BITS : LOW_BITS[Math.floor(row / FRACTIONS)]);
    });
  }

  /**
   * Return how many of some passes are worth sending: those after them have next to no symbols that are.
   * @param {Pass[]} present
   */
  passes(present) {
    for (let count = present.length, lost = 0, spare = 0; count > 0; count--) {
      if (present[count - 1].predicted) return count;
      const multipliers = this._multipliersOf(present[count - 1]);
      let n = 0;
      for (const wanted of this._wanted(present[count - 1])) {
        const least = RARE * multipliers[n++ % multipliers.length];
        lost += Math.max(wanted ** 2 - (wanted - Math.round(wanted)) ** 2 - least, 0);
        spare += SPARE;
      }
      if (lost > spare) return count;
    }
    return 0;
  }

  /**
   * Pick a pass's symbols: of the two on either side of each latent the cheaper.
   * @param {Pass} step
   * @param {Contexts} contexts
   * @param {Int32Array} symbols where to put them
   */
  pick(step, { rows, bases, lowBits, origins }, symbols) {
    const { fround } = Math, bits = this._bits, multipliers = this._multipliersOf(step), perStep = fround(64 / step.spacing);
    let n = 0;
    for (const latent of this._wanted(step)) {
      const multiplier = multipliers[n % multipliers.length];
      const wanted = step.predicted ? saturated(fround(fround(latent - fround(origins[n] / 64)) * perStep)) : latent;
      const below = Math.floor(wanted), at = rows[n] * (ESCAPE + 1), residual = below - bases[n];
      const left = fround(wanted - below), right = fround(left - 1);
      const spent = fround(bits[at + entryOf(residual, lowBits[n])] - bits[at + entryOf(residual + 1, lowBits[n])]);
      const gained = fround(fround(left * left) - fround(right * right));
      symbols[n++] = below + Number(fround(gained + fround(multiplier * spent)) > 0);
    }
  }

  /**
   * Return what a bit may cost at each position of a pass.
   * @param {Pass} step
   */
  _multipliersOf(step) {
    const { plane } = this._grid.positions(step);
    return Float32Array.from(plane, (place) => MULTIPLIER * this._mask[place]);
  }

  /**
   * Yield the latents of a pass, in the order in which it is coded.
   * @param {Pass} step
   */
  *_wanted(step) {
    const { plane } = this._grid.positions(step), [first, end] = step.channels;
    for (let channel = first; channel < end; channel++) {
      const at = this._prior.order[channel] * this._size;
      for (let k = 0; k < plane.length; k++) yield this._scaled[at + plane[k]];
    }
  }
}
