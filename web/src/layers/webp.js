/** Lossless WebP files of the simple kind, a single VP8L chunk, which alpha and overlays are stored as. */

import decode, { init } from "@jsquash/webp/decode.js";
import { FormatError, need } from "../error.js";

const HEAD_NBYTES = 25, SIGNATURE = 0x2f, CHUNK_NBYTES = 20;

/**
 * Return a file's pixels, (height, width, RGBA), their colours as they are stored.
 * @param {Uint8Array<ArrayBuffer>} segment
 * @param {number} height that it must have
 * @param {number} width
 * @param {{alpha: boolean, what: string}} options whether the file may have an alpha channel, and what to call it
 * @param {import("../assets/assets.js").Assets} assets
 * @returns {Promise<Uint8ClampedArray>}
 * @throws {FormatError} if the segment holds anything else
 */
export async function decodeWebp(segment, height, width, { alpha, what }, assets) {
  const size = sizeOf(segment, alpha);
  const isOfSize = size?.height === height && size.width === width;
  need(isOfSize, `damaged ${what}: not a lossless WebP file of ${width}x${height}`);
  await assets.made("WebP decoder", async () => init({ wasmBinary: await assets.load("webp_dec.wasm") }));
  try {
    const { data } = await decode(segment.slice().buffer);
    need(data.length === 4 * height * width, `damaged ${what}: another size than it says`);
    return data;
  } catch (error) {
    throw error instanceof FormatError ? error : new FormatError(`damaged ${what}: ${error}`);
  }
}

/**
 * Return the size that a file gives itself, null if it is not one of the simple, lossless kind, or has alpha and must
 * not. "WebP Lossless Bitstream Specification", section 3: 14 bits each of width - 1 and height - 1, one of alpha, and
 * three of the version.
 * @param {Uint8Array<ArrayBuffer>} segment
 * @param {boolean} alpha
 */
function sizeOf(segment, alpha) {
  if (segment.length < HEAD_NBYTES || segment[CHUNK_NBYTES] !== SIGNATURE) return null;
  const view = new DataView(segment.buffer, segment.byteOffset, segment.length);
  const text = String.fromCharCode(...segment.subarray(0, 4), ...segment.subarray(8, 16));
  if (text !== "RIFFWEBPVP8L" || view.getUint32(4, true) + 8 !== segment.length) return null;
  const chunk = view.getUint32(16, true);
  if (CHUNK_NBYTES + chunk + (chunk & 1) !== segment.length) return null;
  const bits = view.getUint32(21, true);
  if (bits >>> (alpha ? 29 : 28)) return null;
  return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
}
