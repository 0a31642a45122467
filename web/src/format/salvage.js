/** Salvages damaged or truncated files. Normative text: `docs/format.md`, section 4. */

import { FormatError } from "../error.js";
import { crc16 } from "./checksum.js";
import { DEFAULT_LIMITS, RequiredChunkError, checkMagicAndVersion, readFile, readPrologue } from "./container.js";
import { Cursor } from "./cursor.js";
import { segmentKinds } from "./layout.js";

/** @typedef {import("./container.js").File} File */

/**
 * Return the readable part of a file. Incomplete segments are cut short; damaged segments are empty. Chunks are kept
 * only for an undamaged file.
 *
 * The header of a file without an index has no checksum of its own, so a damaged one can give any result.
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {import("./container.js").Limits} [limits]
 * @returns {File} with `intactSegments`, which is null for an undamaged file
 * @throws {FormatError} if the header is damaged, or if the file needs a later version
 * @throws {import("../error.js").LimitError} if the file exceeds `limits`
 */
export function salvageFile(data, limits = DEFAULT_LIMITS) {
  try {
    return readFile(data, limits);
  } catch (error) {
    if (!(error instanceof FormatError) || error instanceof RequiredChunkError) throw error;
    checkMagicAndVersion(data);
  }
  const { header, layout, profile, index, hasChunks } = readPrologue(new Cursor(data), limits);
  const isChecked = index.checks.length > 0, segments = [], intactSegments = [];
  for (let number = 0, at = index.start; number < index.nbytes.length; number++) {
    const nbytes = index.nbytes[number], segment = data.subarray(at, (at += nbytes));
    const isComplete = segment.length === nbytes && (isChecked || hasChunks);
    const isIntact = !isComplete || !isChecked || index.checks[number] === crc16(segment);
    segments.push(isIntact ? segment : data.subarray(0, 0));
    intactSegments.push(isComplete && isIntact);
  }
  return { header, layout, profile, segments, chunks: new Map(), intactSegments };
}

/**
 * Return a report of the missing parts, "" for a complete file.
 * @param {File} file
 * @param {string} latents report of the missing latents
 */
export function missingReport({ layout, intactSegments }, latents) {
  if (!intactSegments) return latents;
  const tiles = layout.columns * layout.rows, kinds = segmentKinds(layout);
  const layers = kinds.filter((kind) => typeof kind === "string").map((kind) => {
    const first = kinds.indexOf(kind) * tiles;
    const count = intactSegments.slice(first, first + tiles).filter((isIntact) => !isIntact).length;
    return count ? `${kind} of tiles: ${count} of ${tiles} missing` : "";
  });
  const report = [latents, ...layers].filter(Boolean).join("; ");
  return report || "the checksum does not match: metadata is left out, and the image may be wrong";
}
