/**
 * Priors 1, 2 and 254: small integer networks that predict symbols from the known latents. `docs/format.md`, section
 * 3.5.
 */

import { arrayNamed } from "../assets/npz.js";
import { buildTables } from "../entropy/tables.js";
import { BundleError } from "../error.js";
import { LatentPlanes, MAGNITUDE } from "./latent_planes.js";
import { LIMIT, parsePassNetwork } from "./pass_network.js";

/** @typedef {import("../assets/npz.js").Arrays} Arrays */
/** @typedef {import("./passes.js").Phase} Phase */
/** @typedef {[first: number, end: number, dy: number, dx: number]} Window channels in coding order, at an offset */

/**
 * A pass: channels [first, end) in coding order at the positions of a phase, and the context windows of its network.
 *
 * With `predicted`, symbols are coded relative to the network's prediction instead of 0, and lie `spacing` / 64 steps
 * apart.
 * @typedef {Phase & {channels: [first: number, end: number], values: Window[], magnitudes: Window[], predicted:
 *   boolean, spacing: number}} LatentPass
 */

const OFFSET_UNITS = 64, MAX_SPACING = 255; // of spacings, in 1/64 step

/** A trained prior. It fits latent spaces with as many channels as `order` has. */
export class NetworkPrior {
  /**
   * @param {Arrays} arrays of a prior's file
   * @throws {BundleError} if an array is missing or malformed
   */
  constructor(arrays) {
    const text = new TextDecoder().decode(arrayNamed(arrays, "architecture").values);
    /** @type {{order: number[], cuts: number[], passes: LatentPass[]}} */
    const { order, cuts, passes } = JSON.parse(text);
    const tables = arrayNamed(arrays, "tables"), centroids = arrays.get("centroids")?.values;
    const isInt8 = !centroids || centroids instanceof Int8Array;
    if (!isInt8) throw new BundleError("malformed prior: centroids are not int8");
    /** Channels in coding order. */
    this.order = order;
    /** The numbers of passes after which a level ends. */
    this.cuts = cuts;
    this.passes = passes.map((fields) => ({ ...fields, ...parsePrediction(fields) }));
    this.tables = buildTables(tables);
    /**
     * Offset of the latent within a symbol's interval, in 1/64 symbol, for each bin of each table; null if there are
     * none.
     */
    this.centroids = centroids ?? null;
    /** Whether the prior gives reconstruction offsets. */
    this.hasReconOffsets = !!centroids || this.passes.some(({ predicted }) => predicted);
    this.networks = passes.map(({ values, magnitudes }, n) => {
      const limits = [...values.flatMap(limitsOf(LIMIT)), ...magnitudes.flatMap(limitsOf(MAGNITUDE[LIMIT]))];
      return parsePassNetwork(arrays, n, limits);
    });
  }

  /**
   * Return an object that computes the contexts of a plane's symbols.
   * @param {import("./passes.js").Grid} grid
   * @param {number} stepCode 0 … 4095
   */
  contexts(grid, stepCode) {
    return new LatentPlanes(this, grid, stepCode);
  }
}

/**
 * Return whether a pass is predicted, and the spacing of its symbols.
 * @param {{predicted?: unknown, spacing?: unknown}} pass
 * @throws {BundleError} if the values are invalid
 */
function parsePrediction({ predicted = false, spacing = OFFSET_UNITS }) {
  const isSpacing = typeof spacing === "number" && Number.isInteger(spacing) && spacing > 0 && spacing <= MAX_SPACING;
  if (typeof predicted !== "boolean" || !isSpacing || (spacing !== OFFSET_UNITS && !predicted)) {
    throw new BundleError(`malformed prior: a pass with predicted ${predicted}, spacing ${spacing}`);
  }
  return { predicted, spacing };
}

/**
 * Return a function from a window to the magnitude limit of each of its channels.
 * @param {number} limit
 * @returns {(window: Window) => number[]}
 */
function limitsOf(limit) {
  return ([first, end]) => Array(end - first).fill(limit);
}
