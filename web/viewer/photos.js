/** Photos to encode. */

/**
 * Return whether a browser can show a file without the codec.
 * @param {File} file
 */
export function isPhoto({ type }) {
  return type.startsWith("image/") && type !== "image/x-sdt";
}

/**
 * Draw a photo upright.
 * @param {File} photo
 * @returns {Promise<HTMLCanvasElement>}
 */
export async function canvasOf(photo) {
  const bitmap = await createImageBitmap(photo).catch(() => {
    throw new Error("this browser cannot read it");
  });
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  contextOf(canvas).drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {import("../src/decoder.js").RgbaImage}
 */
export function pixelsOf(canvas) {
  const { width, height } = canvas;
  return { width, height, data: new Uint8ClampedArray(contextOf(canvas).getImageData(0, 0, width, height).data) };
}

/** @param {HTMLCanvasElement} canvas */
function contextOf(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser has no canvas of that size");
  return context;
}
