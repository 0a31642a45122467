/** Where errors are seen least: activity around them masks them, so bits are dearer there. As `engine/coding/perceptual_masking.py`. */

const RADIUS = 2, FLOOR = 1, USUAL = 6, CHEAPEST = 0.25, DEAREST = 4;
const SHARE = Math.fround(1 / (2 * RADIUS + 1) ** 2);

const { fround, sqrt } = Math;

/**
 * Return by how much dearer than usual bits are at each position, (height, width).
 * @param {Float32Array} scaled latents of low frequencies of brightness, in steps, (channels, height, width)
 * @param {number} step
 * @param {{height: number, width: number}} size
 */
export function maskOf(scaled, step, { height, width }) {
  const size = height * width, activity = new Float32Array(size), latents = scaled.map((latent) => latent * fround(step));
  for (let first = 0; first < latents.length; first += size) {
    const plane = latents.subarray(first, first + size);
    const means = windowed(plane, height, width), squares = windowed(plane.map((latent) => latent ** 2), height, width);
    for (let n = 0; n < size; n++) activity[n] += Math.max(fround(squares[n] - fround(means[n] ** 2)), 0);
  }
  return activity.map((one) => {
    const price = fround(sqrt(fround(sqrt(fround(fround(one + FLOOR) / USUAL)))));
    return Math.min(Math.max(price, CHEAPEST), DEAREST);
  });
}

/**
 * Return the mean around each position of a plane whose edges are repeated.
 * @param {Float32Array} plane
 * @param {number} height
 * @param {number} width
 */
function windowed(plane, height, width) {
  return summed(summed(plane, height, width), width, 1).map((sum) => sum * SHARE);
}

/**
 * Return sums over a window along one direction.
 * @param {Float32Array} plane
 * @param {number} length of that direction
 * @param {number} pitch from one place to the next along it
 */
function summed(plane, length, pitch) {
  return plane.map((_, at) => {
    const place = Math.floor(at / pitch) % length, first = at - place * pitch;
    let sum = 0;
    for (let n = place - RADIUS; n <= place + RADIUS; n++) {
      sum = fround(sum + plane[first + Math.min(Math.max(n, 0), length - 1) * pitch]);
    }
    return sum;
  });
}
