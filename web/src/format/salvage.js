/** What there is of files that are cut short or damaged. Normative text: `docs/format.md`, section 4. */

import { FormatError } from "../error.js";
import { crc16 } from "./checksum.js";
import { DEFAULT_LIMITS, RequiredChunkError, readFile, readHead, requireOurs } from "./container.js";
import { Cursor } from "./cursor.js";
import { kindsOf } from "./layout.js";

/** @typedef {import("./container.js").File} File */

/**
 * Return what there is of a file: segments are cut short or empty where they are not whole, and chunks are left out
 * unless all is. The head of a file without an index has no check of its own: what comes of it may be wrong in any way.
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {import("./container.js").Limits} [limits]
 * @returns {File} with `whole` unless it is undamaged
 * @throws {FormatError} if the head is damaged, or if the file is not, but of a later version
 * @throws {import("../error.js").LimitError} if it exceeds `limits`
 */
export function salvageFile(data, limits = DEFAULT_LIMITS) {
  try {
    return readFile(data, limits);
  } catch (error) {
    if (!(error instanceof FormatError) || error instanceof RequiredChunkError) throw error;
    requireOurs(data);
  }
  const { header, layout, profile, index, hasChunks } = readHead(new Cursor(data), limits);
  const isChecked = index.checks.length > 0, segments = [], whole = [];
  for (let number = 0, at = index.start; number < index.nbytes.length; number++) {
    const nbytes = index.nbytes[number], segment = data.subarray(at, (at += nbytes));
    const isComplete = segment.length === nbytes && (isChecked || hasChunks);
    const isSound = !isComplete || !isChecked || index.checks[number] === crc16(segment);
    segments.push(isSound ? segment : data.subarray(0, 0));
    whole.push(isComplete && isSound);
  }
  return { header, layout, profile, segments, chunks: new Map(), whole };
}

/**
 * Return in words what is missing, "" if nothing is.
 * @param {File} file
 * @param {string} latents what is missing of those
 */
export function missingOf({ layout, whole }, latents) {
  if (!whole) return latents;
  const tiles = layout.columns * layout.rows, kinds = kindsOf(layout);
  const layers = kinds.filter((kind) => typeof kind === "string").map((kind) => {
    const first = kinds.indexOf(kind) * tiles, count = whole.slice(first, first + tiles).filter((one) => !one).length;
    return count ? `${kind} of tiles: ${count} of ${tiles} missing` : "";
  });
  const told = [latents, ...layers].filter(Boolean).join("; ");
  return told || "the checksum does not match: metadata is left out, and what is shown may be wrong";
}
