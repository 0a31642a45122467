/** The index of a file: how it is divided, where its segments lie, and a check of each. */

import { need } from "../error.js";
import { crc16, crc32 } from "./checksum.js";
import { Cursor } from "./cursor.js";
import { fits, segmentCount } from "./layout.js";

/** @typedef {import("./layout.js").Layout} Layout */

const LEVELS_MASK = 0x07, ALPHA_BIT = 0x08, OVERLAY_BIT = 0x10, RESIDUAL_BIT = 0x20, UNKNOWN_BITS = 0xc0;
const SMALLEST_ENTRY = 3; // bytes of a segment's entry

/**
 * Where segments lie, one behind the other from `start`; `checks` is empty where they have none.
 * @typedef {{start: number, nbytes: number[], checks: number[]}} Index
 */

/**
 * Return what the index of a picture of so many pixels says; it may list no more than `nbytes` bytes could hold.
 * @param {Cursor} cursor at the index, from the start of the file
 * @param {number} nbytes of the file, without its checksum
 * @param {number} height
 * @param {number} width
 * @returns {{layout: Layout, index: Index}}
 * @throws {import("../error.js").FormatError} if it is damaged or malformed
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
  need(count > 1, "malformed file: an index of a single segment");
  need(count * SMALLEST_ENTRY <= nbytes, `index of ${count} segments in a file of ${nbytes} bytes`);
  /** @type {Index} */
  const index = { start: 0, nbytes: [], checks: [] };
  for (let n = 0; n < count; n++) {
    index.nbytes.push(cursor.varint());
    index.checks.push(cursor.u16());
  }
  const found = crc32(cursor.data.subarray(0, cursor.offset));
  need(found === cursor.u32(), "damaged file: the checksum of its index does not match");
  index.start = cursor.offset;
  return { layout, index };
}

/**
 * Return where the last segment ends.
 * @param {Index} index
 */
export function endOf(index) {
  return index.nbytes.reduce((sum, nbytes) => sum + nbytes, index.start);
}

/**
 * Return the segments, which are not copied.
 * @param {Uint8Array<ArrayBuffer>} data the file, long enough
 * @param {Index} index
 * @returns {Uint8Array<ArrayBuffer>[]}
 * @throws {import("../error.js").FormatError} if one is not what was written
 */
export function segmentsOf(data, index) {
  let at = index.start;
  return index.nbytes.map((nbytes, number) => {
    const segment = data.subarray(at, (at += nbytes));
    const sound = !index.checks.length || index.checks[number] === crc16(segment);
    need(sound, `damaged file: segment ${number} before byte ${at} is not what was written`);
    return segment;
  });
}
