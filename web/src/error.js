/**
 * Everything that the decoder throws on purpose, split by who can act: the names are those of sdtrt's Python errors.
 * A wrong argument is a plain `RangeError` or `TypeError`.
 */

/** Base of all errors of this package. */
export class SdtError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** The file: it is not a whole, undamaged `.sdt` file that this version can read. */
export class FormatError extends SdtError {}

/** Policy: the file exceeds a limit; limits are arguments and can be raised. */
export class LimitError extends SdtError {}

/** The models: one is missing, damaged, or does not fit the file. */
export class BundleError extends SdtError {}

/**
 * Throw a `FormatError` unless a condition holds.
 * @param {unknown} condition
 * @param {string} message what was found and what was expected
 * @returns {asserts condition}
 */
export function need(condition, message) {
  if (!condition) throw new FormatError(message);
}
