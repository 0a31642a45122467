/** Inverse transform of the residual: a DCT, then a colour transform. `docs/format.md`, section 3.7. */

/** Block size in pixels, coefficients of a block, and colour axes. */
export const BLOCK = 8, BANDS = 64, AXES = 3;
/** Magnitude limit of values and sums, in 1/16 level. */
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
 * @param {Int32Array} values coefficients, (axes, block rows, block columns, 64), where the last index is 8 * vertical
 *   + horizontal frequency
 * @param {number} height
 * @param {number} width
 */
export function inverseDct(values, height, width) {
  const residual = new Int16Array(height * width * 3);
  const rows = Math.ceil(height / BLOCK), columns = Math.ceil(width / BLOCK), size = rows * columns * BANDS;
  const blocks = Array.from({ length: AXES }, () => new Int32Array(BANDS));
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at += BANDS) {
      let isZero = true;
      for (let axis = 0; axis < AXES; axis++) {
        if (inverseDctBlock(values, axis * size + at, blocks[axis])) isZero = false;
      }
      if (!isZero) putBlock(blocks, residual, row * BLOCK, column * BLOCK, height, width);
    }
  }
  return residual;
}

const columnPass = new Int32Array(BANDS);

/**
 * Transform a block, first vertically, then horizontally. Return false if the block is all zeros.
 * @param {Int32Array} values
 * @param {number} at index of the block's first coefficient
 * @param {Int32Array} pixels receives the block, row by row
 */
function inverseDctBlock(values, at, pixels) {
  let any = false;
  columnPass.fill(0);
  pixels.fill(0);
  for (let n = 0; n < BANDS; n++) {
    const value = values[at + n];
    if (value === 0) continue;
    any = true;
    for (let y = 0, u = n & ~7, v = n & 7; y < BLOCK; y++) columnPass[8 * y + v] += Math.imul(COSINES[u + y], value);
  }
  if (!any) return false;
  roundAndClamp(columnPass);
  for (let n = 0; n < BANDS; n++) {
    const value = columnPass[n];
    if (value === 0) continue;
    for (let x = 0, y = n & ~7, v = 8 * (n & 7); x < BLOCK; x++) pixels[y + x] += Math.imul(COSINES[v + x], value);
  }
  roundAndClamp(pixels);
  return true;
}

/**
 * Divide sums by 4096, round half up, and clamp, in place.
 * @param {Int32Array} sums
 */
function roundAndClamp(sums) {
  for (let n = 0; n < BANDS; n++) {
    sums[n] = Math.min(Math.max((sums[n] + 2048) >> 12, -VALUE_LIMIT), VALUE_LIMIT);
  }
}

/**
 * Convert a block from colour axes to RGB levels, and store the part inside the tile.
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
