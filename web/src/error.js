/**
 * The errors of this package, by the party that can act on them. Their names are those of sdtrt's Python errors. A
 * wrong argument is a plain `RangeError` or `TypeError`.
 */

/** Base class of all errors of this package. */
export class SdtError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** The file is damaged, or needs a later version. */
export class FormatError extends SdtError {}

/** The file exceeds a limit. Limits are arguments; the caller can raise them. */
export class LimitError extends SdtError {}

/** A model is missing, damaged, or does not fit the file. */
export class BundleError extends SdtError {}

/**
 * Throw a `FormatError` unless a condition holds.
 * @param {unknown} condition
 * @param {string} message the value found and the value expected
 * @returns {asserts condition}
 */
export function need(condition, message) {
  if (!condition) throw new FormatError(message);
}
