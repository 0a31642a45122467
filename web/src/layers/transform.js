/** Coefficients to a residual: a cosine transform back, then axes of colour. `docs/format.md`, section 3.7. */

/** Pixels a block is wide and high, coefficients of a block, and axes of colour. */
export const BLOCK = 8, BANDS = 64, AXES = 3;
/** Limit of the magnitude of values and sums, in 1/16 level. */
export const VALUE_LIMIT = 1 << 16;

const COSINES = Int32Array.of(
  1448, 1448, 1448, 1448, 1448, 1448, 1448, 1448,
  2009, 1703, 1138, 400, -400, -1138, -1703, -2009,
  1892, 784, -784, -1892, -1892, -784, 784, 1892,
  1703, -400, -2009, -1138, 1138, 2009, 400, -1703,
  1448, -1448, -1448, 1448, 1448, -1448, -1448, 1448,
  1138, -2009, 400, 1703, -1703, -400, 2009, -1138,
  784, -1892, 1892, -784, -784, 1892, -1892, 784,
  400, -1138, 1703, -2009, 2009, -1703, 1138, -400,
);

/**
 * Return the residual of a tile, (height, width, RGB), in levels.
 * @param {Int32Array} values of each axis and block, row by row, 64 each: vertical frequency times 8 and horizontal
 * @param {number} height
 * @param {number} width
 */
export function residualOf(values, height, width) {
  const residual = new Int16Array(height * width * 3);
  const rows = Math.ceil(height / BLOCK), columns = Math.ceil(width / BLOCK), size = rows * columns * BANDS;
  const turned = Array.from({ length: AXES }, () => new Int32Array(BANDS));
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at += BANDS) {
      let isZero = true;
      for (let axis = 0; axis < AXES; axis++) {
        if (turnBack(values, axis * size + at, turned[axis])) isZero = false;
      }
      if (!isZero) putBlock(turned, residual, row * BLOCK, column * BLOCK, height, width);
    }
  }
  return residual;
}

const halfway = new Int32Array(BANDS);

/**
 * Transform a block back, vertically, then horizontally; return whether there was anything but zeros.
 * @param {Int32Array} values
 * @param {number} at where the block begins
 * @param {Int32Array} pixels where to put the block, row by row
 */
function turnBack(values, at, pixels) {
  let any = false;
  halfway.fill(0);
  pixels.fill(0);
  for (let n = 0; n < BANDS; n++) {
    const value = values[at + n];
    if (value === 0) continue;
    any = true;
    for (let y = 0, u = n & ~7, v = n & 7; y < BLOCK; y++) halfway[8 * y + v] += Math.imul(COSINES[u + y], value);
  }
  if (!any) return false;
  divide(halfway);
  for (let n = 0; n < BANDS; n++) {
    const value = halfway[n];
    if (value === 0) continue;
    for (let x = 0, y = n & ~7, v = 8 * (n & 7); x < BLOCK; x++) pixels[y + x] += Math.imul(COSINES[v + x], value);
  }
  divide(pixels);
  return true;
}

/** @param {Int32Array} sums divided by 4096, rounded half up, and limited */
function divide(sums) {
  for (let n = 0; n < BANDS; n++) {
    sums[n] = Math.min(Math.max((sums[n] + 2048) >> 12, -VALUE_LIMIT), VALUE_LIMIT);
  }
}

/**
 * Put what lies within the tile of a block of the three axes into the residual, as levels of colours.
 * @param {Int32Array[]} axes
 * @param {Int16Array} residual
 * @param {number} top
 * @param {number} left
 * @param {number} height
 * @param {number} width
 */
function putBlock([first, second, third], residual, top, left, height, width) {
  const bottom = Math.min(BLOCK, height - top), right = Math.min(BLOCK, width - left);
  for (let y = 0; y < bottom; y++) {
    for (let x = 0, n = BLOCK * y, at = 3 * ((top + y) * width + left); x < right; x++, n++, at += 3) {
      const common = 2365 * first[n] + 32768;
      residual[at] = (common + 2896 * second[n] - 1672 * third[n]) >> 16;
      residual[at + 1] = (common + 3344 * third[n]) >> 16;
      residual[at + 2] = (common - 2896 * second[n] - 1672 * third[n]) >> 16;
    }
  }
}
