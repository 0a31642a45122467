/** Pictures of four channels, RGBA, made smaller or grey. */

/**
 * A picture: `data` are `height` x `width` pixels RGBA, row by row, not premultiplied. `missing` is only there if it was
 * made of what there is of a file, and tells in words what there is not, "" for nothing.
 * @typedef {{width: number, height: number, data: Uint8ClampedArray<ArrayBuffer>, missing?: string}} Picture
 */

/**
 * Return the means of blocks of pixels, rounded half to even; sides are rounded up, blocks at the end may be smaller.
 * @param {Uint8ClampedArray} pixels (height, width, RGBA)
 * @param {number} height
 * @param {number} width
 * @param {number} factor pixels a block is wide and high
 */
export function reduced(pixels, height, width, factor) {
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
 * Give pixels three equal channels, of their brightness: ITU-R BT.601's weights in 1/65536, rounded.
 * @param {Uint8ClampedArray} pixels RGBA, changed in place
 */
export function makeGrey(pixels) {
  for (let n = 0; n < pixels.length; n += 4) {
    const sum = 19595 * pixels[n] + 38470 * pixels[n + 1] + 7471 * pixels[n + 2];
    pixels[n] = pixels[n + 1] = pixels[n + 2] = (sum + 32768) >> 16;
  }
}
