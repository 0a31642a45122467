/** Comparison with the browser's own encoders at the size of an `.sdt` file. */

const STEPS = 7; // bisection steps: a precision of about 1/100 of the quality range

/**
 * Draw an image over the whole canvas. The canvas takes the size of a bitmap.
 * @param {HTMLCanvasElement} canvas
 * @param {import("../src/decoder.js").RgbaImage | ImageBitmap} image
 * @param {AbortSignal} signal
 */
export async function drawn(canvas, image, signal) {
  const isBitmap = image instanceof ImageBitmap, { width, height } = image;
  const bitmap = isBitmap ? image : await createImageBitmap(new ImageData(image.data, width, height));
  signal.throwIfAborted();
  if (isBitmap) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), { width: across, height: down } = canvas;
  if (!context || context.isContextLost()) throw new Error(`this browser has no canvas of ${across}x${down} pixels`);
  context.clearRect(0, 0, across, down);
  context.drawImage(bitmap, 0, 0, across, down);
  bitmap.close();
}

/**
 * Encode an image with another codec at the highest quality that fits into a number of bytes, or at the lowest quality
 * if none fits.
 * @param {HTMLCanvasElement} canvas
 * @param {string} type a media type
 * @param {number} nbytes
 * @returns {Promise<{bitmap: ImageBitmap, nbytes: number} | null>} null if the browser does not have the encoder
 */
export async function rivalOf(canvas, type, nbytes) {
  let low = 0, high = 1, best = await encoded(canvas, type, low);
  if (!best) return null;
  for (let n = 0; n < STEPS; n++) {
    const middle = (low + high) / 2, blob = await encoded(canvas, type, middle);
    if (blob && blob.size <= nbytes) {
      best = blob;
      low = middle;
    } else {
      high = middle;
    }
  }
  return { bitmap: await createImageBitmap(best), nbytes: best.size };
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {string} type
 * @param {number} quality 0 … 1
 * @returns {Promise<Blob | null>}
 */
async function encoded(canvas, type, quality) {
  const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ resolve) => {
    canvas.toBlob(resolve, type, quality);
  });
  return blob?.type === type ? blob : null; // a browser without the encoder returns PNG
}
