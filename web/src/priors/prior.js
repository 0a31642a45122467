/** Priors 1, 2 and 254: small networks of integers that see the latents known so far. `docs/format.md`, section 3.5. */

import { arrayNamed } from "../assets/npz.js";
import { tablesOf } from "../entropy/tables.js";
import { BundleError } from "../error.js";
import { MAGNITUDE, PriorContexts } from "./prior_contexts.js";
import { LIMIT, networkOf } from "./prior_network.js";

/** @typedef {import("../assets/npz.js").Arrays} Arrays */
/** @typedef {import("./passes.js").Phase} Phase */
/** @typedef {[first: number, end: number, dy: number, dx: number]} Window channels in coding order, at an offset */

/**
 * Channels [first, end) in coding order at the positions of a phase, and what their network looks at.
 * Where latents are `predicted`, symbols count from what the network expects, not from 0, and lie `spacing` / 64 steps
 * apart.
 * @typedef {Phase & {channels: [first: number, end: number], values: Window[], magnitudes: Window[],
 *   predicted: boolean, spacing: number}} LatentPass
 */

const STEP = 64, LARGEST_SPACING = 255; // in 1/64 step

/** A trained prior, for latent spaces of as many channels as `order` has. */
export class NetworkPrior {
  /**
   * @param {Arrays} arrays of a prior's file
   * @throws {BundleError} if there is not what a prior needs
   */
  constructor(arrays) {
    const text = new TextDecoder().decode(arrayNamed(arrays, "architecture").values);
    /** @type {{order: number[], cuts: number[], passes: LatentPass[]}} */
    const { order, cuts, passes } = JSON.parse(text);
    const tables = arrayNamed(arrays, "tables"), centroids = arrays.get("centroids")?.values;
    if (centroids && !(centroids instanceof Int8Array)) throw new BundleError("centroids are not int8");
    /** Which channel comes n-th. */
    this.order = order;
    /** After which passes levels end. */
    this.cuts = cuts;
    this.passes = passes.map((one) => ({ ...one, ...predictionOf(one) }));
    this.tables = tablesOf(tables);
    /** Where in a symbol's interval its latent is, in 1/64 step, for each entry of the tables; null if not told. */
    this.centroids = centroids ?? null;
    /** Whether it tells where latents are beside their symbols. */
    this.hasPoints = !!centroids || this.passes.some(({ predicted }) => predicted);
    this.networks = passes.map(({ values, magnitudes }, n) => {
      const limits = [...values.flatMap(limitsOf(LIMIT)), ...magnitudes.flatMap(limitsOf(MAGNITUDE[LIMIT]))];
      return networkOf(arrays, n, limits);
    });
  }

  /**
   * Return what finds the contexts of a plane's symbols.
   * @param {import("./passes.js").Grid} grid
   * @param {number} stepCode 0 … 4095
   */
  contexts(grid, stepCode) {
    return new PriorContexts(this, grid, stepCode);
  }
}

/**
 * Return whether latents of a pass are predicted, and how far apart symbols lie.
 * @param {{predicted?: unknown, spacing?: unknown}} pass
 * @throws {BundleError} if that cannot be
 */
function predictionOf({ predicted = false, spacing = STEP }) {
  const isSpacing = typeof spacing === "number" && Number.isInteger(spacing) && spacing > 0 && spacing <= LARGEST_SPACING;
  if (typeof predicted !== "boolean" || !isSpacing || (spacing !== STEP && !predicted)) {
    throw new BundleError(`a pass is predicted ${predicted}, with a spacing of ${spacing}`);
  }
  return { predicted, spacing };
}

/**
 * Return what gives a limit for each channel that a window sees.
 * @param {number} limit
 * @returns {(window: Window) => number[]}
 */
function limitsOf(limit) {
  return ([first, end]) => Array(end - first).fill(limit);
}
