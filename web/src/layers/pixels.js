/** Downscaling and grey conversion of RGBA images. */

/**
 * An image. `data` are `height` x `width` RGBA pixels, row by row, not premultiplied. `missing` exists only for a
 * partial decode: a report of the missing parts, "" if nothing is missing.
 * @typedef {{width: number, height: number, data: Uint8ClampedArray<ArrayBuffer>, missing?: string}} RgbaImage
 */

/**
 * Return the means of blocks of pixels, rounded half to even. Blocks at the end may be smaller.
 * @param {Uint8ClampedArray} pixels (height, width, RGBA)
 * @param {number} height
 * @param {number} width
 * @param {number} factor block size in pixels
 */
export function boxDownscale(pixels, height, width, factor) {
  const rows = Math.ceil(height / factor), columns = Math.ceil(width / factor);
  const small = new Uint8ClampedArray(4 * rows * columns), sums = new Float64Array(4 * columns);
  for (let row = 0; row < rows; row++) {
    const top = row * factor, bottom = Math.min(top + factor, height);
    sums.fill(0);
    for (let y = top; y < bottom; y++) {
      for (let x = 0, at = 4 * y * width; x < width; x++) {
        const into = 4 * Math.floor(x / factor);
        for (let channel = 0; channel < 4; channel++) sums[into + channel] += pixels[at++];
      }
    }
    for (let column = 0; column < columns; column++) {
      const count = (bottom - top) * (Math.min((column + 1) * factor, width) - column * factor);
      for (let n = 4 * column; n < 4 * column + 4; n++) small[4 * row * columns + n] = sums[n] / count;
    }
  }
  return small;
}

/**
 * Set all three colours to the luma: the weights of ITU-R BT.601 in 1/65536, rounded.
 * @param {Uint8ClampedArray} pixels RGBA, changed in place
 */
export function makeGrey(pixels) {
  for (let n = 0; n < pixels.length; n += 4) {
    const sum = 19595 * pixels[n] + 38470 * pixels[n + 1] + 7471 * pixels[n + 2];
    pixels[n] = pixels[n + 1] = pixels[n + 2] = (sum + 32768) >> 16;
  }
}
