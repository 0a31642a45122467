/** Serializes files. Normative text: `docs/format.md`, section 1. */

import { concatBytes } from "./bytes.js";
import { crc16, crc32 } from "./checksum.js";
import { SINGLE } from "./layout.js";

const MAGIC = [0x53, 0x44, 0x54], VERSION = 1, INDEX_FLAG = 0x40;

/**
 * Return the bytes of a file with latents only, in a latent space that has an id.
 * @param {Pick<import("./container.js").File, "header" | "layout" | "segments">} file
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function writeFile({ header, layout, segments }) {
  const isSingle = layout === SINGLE, { width, height, profile, prior, stepCode, alignment } = header;
  const head = [...MAGIC, VERSION + (isSingle ? 0 : INDEX_FLAG), profile, prior, ...varint(width - 1)];
  head.push(...varint(height - 1), ...little(stepCode + (alignment << 12), 2));
  if (!isSingle) {
    head.push(...varint(layout.columns - 1), ...varint(layout.rows - 1), layout.levels);
    for (const segment of segments) head.push(...varint(segment.length), ...little(crc16(segment), 2));
    head.push(...little(crc32(Uint8Array.from(head)), 4));
  }
  const body = concatBytes([Uint8Array.from(head), ...segments]);
  return concatBytes([body, Uint8Array.from(little(crc32(body), 4))]);
}

/**
 * Return the bytes of a number in groups of 7 bits, lowest first.
 * @param {number} value
 */
function varint(value) {
  const groups = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) groups.push((value % 0x80) + 0x80);
  return [...groups, value];
}

/**
 * Return the lowest bytes of a number, in little-endian order.
 * @param {number} value
 * @param {number} count
 */
function little(value, count) {
  return Array.from({ length: count }, (_, n) => Math.floor(value / 256 ** n) % 256);
}
