/** Method palette: 256 colours of 4 channels and a colour index for each position, deflated. */

import { FormatError, need } from "../error.js";
import { adler32 } from "../format/checksum.js";

const CHANNELS = 4, COLOURS = 256, MIDDLE = 127.5, STEP = Math.fround(0.18215 ** 2);

/**
 * Return the latents of a payload, (4, height, width).
 * @param {Uint8Array<ArrayBuffer>} payload
 * @param {number} height
 * @param {number} width
 * @returns {Promise<Float32Array<ArrayBuffer>>}
 * @throws {FormatError} if the payload does not have that size
 */
export async function decodePalette(payload, height, width) {
  const size = height * width;
  const data = await inflated(payload, CHANNELS * COLOURS + size);
  const latents = new Float32Array(CHANNELS * size);
  for (let n = 0; n < size; n++) {
    const colour = CHANNELS * data[CHANNELS * COLOURS + n];
    for (let channel = 0; channel < CHANNELS; channel++) {
      latents[channel * size + n] = (data[colour + channel] - MIDDLE) * STEP;
    }
  }
  return latents;
}

/**
 * Inflate a zlib stream, holding at most `nbytes` bytes in memory.
 * @param {Uint8Array<ArrayBuffer>} packed
 * @param {number} nbytes the required size of the result
 */
async function inflated(packed, nbytes) {
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const data = new Uint8Array(nbytes);
  let at = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      need(at + part.value.length <= nbytes, `damaged payload: it holds more than ${nbytes} bytes`);
      data.set(part.value, at);
      at += part.value.length;
    }
  } catch (error) {
    throw error instanceof FormatError ? error : new FormatError(`damaged payload: ${error}`);
  } finally {
    reader.cancel().catch(() => {}); // the rest of the stream is not needed
  }
  need(at === nbytes, `damaged payload: it holds ${at} bytes, expected ${nbytes}`);
  // Some platforms accept data after the end of a stream. Its checksum must therefore be the last four bytes.
  const end = new DataView(packed.buffer, packed.byteOffset + packed.length - 4, 4).getUint32(0);
  need(end === adler32(data), "damaged payload: data after the end of its stream");
  return data;
}
