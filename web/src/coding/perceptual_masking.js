/**
 * Perceptual masking: errors in textured areas are harder to see, so bits there get a larger rate weight. The weights
 * are those of `engine/coding/perceptual_masking.py`.
 */

const RADIUS = 2, ACTIVITY_FLOOR = 1, REFERENCE_ACTIVITY = 6, MIN_WEIGHT = 0.25, MAX_WEIGHT = 4;
const WINDOW_WEIGHT = Math.fround(1 / (2 * RADIUS + 1) ** 2);

const { fround, sqrt } = Math;

/**
 * Return the rate weight of each position, (height, width): the factor on lambda there, 0.25 … 4.
 * @param {Float32Array} scaled latents of low-frequency brightness, in quantization steps, (channels, height, width)
 * @param {number} quantStep
 * @param {{height: number, width: number}} size of the plane, in latents
 */
export function maskingWeights(scaled, quantStep, { height, width }) {
  const size = height * width, activity = new Float32Array(size);
  const latents = scaled.map((latent) => latent * fround(quantStep));
  for (let first = 0; first < latents.length; first += size) {
    const plane = latents.subarray(first, first + size);
    const means = windowMeans(plane, height, width);
    const squares = windowMeans(plane.map((latent) => latent ** 2), height, width);
    for (let n = 0; n < size; n++) activity[n] += Math.max(fround(squares[n] - fround(means[n] ** 2)), 0);
  }
  return activity.map((variance) => {
    const rateWeight = fround(sqrt(fround(sqrt(fround(fround(variance + ACTIVITY_FLOOR) / REFERENCE_ACTIVITY)))));
    return Math.min(Math.max(rateWeight, MIN_WEIGHT), MAX_WEIGHT);
  });
}

/**
 * Return the mean of the window around each position. Edges of the plane are repeated.
 * @param {Float32Array} plane
 * @param {number} height
 * @param {number} width
 */
function windowMeans(plane, height, width) {
  return windowSums(windowSums(plane, height, width), width, 1).map((sum) => sum * WINDOW_WEIGHT);
}

/**
 * Return the sums of a sliding window along one direction.
 * @param {Float32Array} plane
 * @param {number} length number of positions along that direction
 * @param {number} pitch distance of two neighbours along it, in elements
 */
function windowSums(plane, length, pitch) {
  return plane.map((_, at) => {
    const place = Math.floor(at / pitch) % length, first = at - place * pitch;
    let sum = 0;
    for (let n = place - RADIUS; n <= place + RADIUS; n++) {
      sum = fround(sum + plane[first + Math.min(Math.max(n, 0), length - 1) * pitch]);
    }
    return sum;
  });
}
