/** Decodes lossless WebP files with a single VP8L chunk, the format of alpha and overlays. */

import decode, { init } from "@jsquash/webp/decode.js";
import { FormatError, need } from "../error.js";

const HEAD_NBYTES = 25, SIGNATURE = 0x2f, CHUNK_NBYTES = 20;

/**
 * Return the pixels of a file, (height, width, RGBA), with the stored colour values.
 * @param {Uint8Array<ArrayBuffer>} segment
 * @param {number} height the required height
 * @param {number} width
 * @param {{alpha: boolean, what: string}} options whether the file may have an alpha channel, and its name in error
 *   messages
 * @param {import("../assets/assets.js").Assets} assets
 * @returns {Promise<Uint8ClampedArray>}
 * @throws {FormatError} if the segment is anything else
 */
export async function decodeWebp(segment, height, width, { alpha, what }, assets) {
  const size = sizeOf(segment, alpha);
  const isOfSize = size?.height === height && size.width === width;
  need(isOfSize, `damaged ${what}: not a lossless WebP file of ${width}x${height}`);
  await assets.cached("WebP decoder", async () => init({ wasmBinary: await assets.load("webp_dec.wasm") }));
  try {
    const { data } = await decode(segment.slice().buffer);
    const nbytes = 4 * height * width;
    need(data.length === nbytes, `damaged ${what}: ${data.length} bytes of pixels, expected ${nbytes}`);
    return data;
  } catch (error) {
    throw error instanceof FormatError ? error : new FormatError(`damaged ${what}: ${error}`);
  }
}

/**
 * Return the size in a file's header. It is null for another kind of file, or for an alpha channel that is not allowed.
 * "WebP Lossless Bitstream Specification", section 3: 14 bits each of width - 1 and height - 1, one of alpha, and three
 * of the version.
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
