/** Copies parts of planes. */

import { intersect } from "../format/layout.js";

/** @typedef {import("../format/layout.js").Place} Place */
/** @typedef {Uint8Array | Uint8ClampedArray | Int16Array | Int32Array | Float32Array} Values */

/**
 * Return the number of positions in a place.
 * @param {Place} place
 */
export function areaOf({ rows, columns }) {
  return (rows[1] - rows[0]) * (columns[1] - columns[0]);
}

/**
 * Copy the intersection of two places from one array of planes to another.
 * @param {Values} into planes (n, height, width)
 * @param {Place} place of `into`
 * @param {Values} from as many planes
 * @param {Place} origin the place of `from`
 */
export function paste(into, place, from, origin) {
  const shared = intersect(place, origin);
  if (!shared) return;
  const { rows: [top, bottom], columns: [left, right] } = shared;
  const planes = into.length / areaOf(place);
  const pitch = place.columns[1] - place.columns[0], originPitch = origin.columns[1] - origin.columns[0];
  for (let plane = 0; plane < planes; plane++) {
    const start = plane * areaOf(place) - place.rows[0] * pitch - place.columns[0];
    const originStart = plane * areaOf(origin) - origin.rows[0] * originPitch - origin.columns[0];
    for (let y = top; y < bottom; y++) {
      const at = originStart + y * originPitch;
      into.set(from.subarray(at + left, at + right), start + y * pitch + left);
    }
  }
}
