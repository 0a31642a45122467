/** The index of a file: its layout, and the position and checksum of each segment. */

import { need } from "../error.js";
import { crc16, crc32 } from "./checksum.js";
import { Cursor } from "./cursor.js";
import { fits, segmentCount } from "./layout.js";

/** @typedef {import("./layout.js").Layout} Layout */

const LEVELS_MASK = 0x07, ALPHA_BIT = 0x08, OVERLAY_BIT = 0x10, RESIDUAL_BIT = 0x20, UNKNOWN_BITS = 0xc0;
const MIN_ENTRY_NBYTES = 3; // bytes of the entry of a segment

/**
 * Positions of the segments, which follow each other from `start`. `checks` are their CRC-16s; it is empty for files
 * without an index.
 * @typedef {{start: number, nbytes: number[], checks: number[]}} Index
 */

/**
 * Read the index of an image.
 * @param {Cursor} cursor at the index; offset 0 is the start of the file
 * @param {number} nbytes of the file, without its checksum. An index with more segments than fit there is refused.
 * @param {number} height
 * @param {number} width
 * @returns {{layout: Layout, index: Index}}
 * @throws {import("../error.js").FormatError} if the index is damaged or malformed
 */
export function readIndex(cursor, nbytes, height, width) {
  const columns = cursor.varint() + 1, rows = cursor.varint() + 1, kinds = cursor.byte();
  const isKnown = !(kinds & UNKNOWN_BITS) && (kinds & LEVELS_MASK) > 0;
  need(isKnown, `unknown kinds of segments ${kinds}; a later version may read this file`);
  const residual = kinds & RESIDUAL_BIT ? cursor.u16() : 0;
  need(!(kinds & RESIDUAL_BIT) || residual, "malformed file: a residual layer of step 0");
  const alpha = (kinds & ALPHA_BIT) > 0, overlay = (kinds & OVERLAY_BIT) > 0;
  const layout = { columns, rows, levels: kinds & LEVELS_MASK, alpha, overlay, residual };
  need(fits(layout, height, width), `malformed file: ${columns}x${rows} tiles of ${width}x${height} pixels`);
  const count = segmentCount(layout);
  need(count > 1, "malformed file: an index with a single segment");
  need(count * MIN_ENTRY_NBYTES <= nbytes, `malformed file: ${count} segments in ${nbytes} bytes`);
  /** @type {Index} */
  const index = { start: 0, nbytes: [], checks: [] };
  for (let n = 0; n < count; n++) {
    index.nbytes.push(cursor.varint());
    index.checks.push(cursor.u16());
  }
  const checksum = crc32(cursor.data.subarray(0, cursor.offset));
  need(checksum === cursor.u32(), "damaged file: the checksum of the index does not match");
  index.start = cursor.offset;
  return { layout, index };
}

/**
 * Return the end of the last segment.
 * @param {Index} index
 */
export function endOf(index) {
  return index.nbytes.reduce((sum, nbytes) => sum + nbytes, index.start);
}

/**
 * Return the segments as views, not copies.
 * @param {Uint8Array<ArrayBuffer>} data the file; it must hold all segments
 * @param {Index} index
 * @returns {Uint8Array<ArrayBuffer>[]}
 * @throws {import("../error.js").FormatError} if the checksum of a segment does not match
 */
export function segmentsOf(data, index) {
  let at = index.start;
  return index.nbytes.map((nbytes, number) => {
    const segment = data.subarray(at, (at += nbytes));
    const isIntact = !index.checks.length || index.checks[number] === crc16(segment);
    need(isIntact, `damaged file: the checksum of segment ${number} does not match`);
    return segment;
  });
}
