/** A picture at an eighth of its size, or less, by the linear part of its latent space alone: no network. */

import { reduced } from "./pixels.js";

/** @typedef {import("../coding/latents.js").StoredLatents} StoredLatents */
/** @typedef {import("./layers.js").Layers} Layers */

/**
 * Return RGBA pixels at 1/`scale` of the size, each the mean of a block, all opaque; sides are rounded up.
 *
 * Only coarse passes are read, and the overlay; residuals are left out. Null if there is no such way: the profile knows
 * none, or `scale` is no multiple of its downscale.
 * @param {StoredLatents} stored
 * @param {Layers} layers
 * @param {number} scale
 * @throws {import("../error.js").FormatError} if what was read is damaged
 */
export async function linearPreview(stored, layers, scale) {
  const { preview, downscale } = stored.profile, [, height, width] = stored.shape;
  if (!preview || stored.isPalette || scale % downscale) return null;
  const colours = coloursOf(stored.coarse(preview.channels), height, width, preview);
  const pixels = reduced(colours, height, width, scale / downscale);
  const overlay = await layers.wholeOverlay();
  if (overlay) {
    const { width: across, height: down } = stored.file.header;
    cover(pixels, reduced(overlay, down, across, scale));
  }
  return pixels;
}

/**
 * Return a pixel for each latent.
 * @param {Float32Array} latents (channels, height, width)
 * @param {number} height
 * @param {number} width
 * @param {import("../format/profile.js").Preview} preview
 */
function coloursOf(latents, height, width, { channels, weights, bias }) {
  const pixels = new Uint8ClampedArray(4 * height * width).fill(255), size = height * width;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      for (let colour = 0, weight = 0; colour < 3; colour++) {
        let sum = bias[colour];
        for (const channel of channels) {
          for (let dy = -1; dy <= 1; dy++) {
            const row = channel * size + Math.min(Math.max(y + dy, 0), height - 1) * width;
            for (let dx = -1; dx <= 1; dx++) {
              sum += weights[weight++] * latents[row + Math.min(Math.max(x + dx, 0), width - 1)];
            }
          }
        }
        pixels[at + colour] = sum;
      }
    }
  }
  return pixels;
}

/**
 * Put an overlay over pixels, as opaque as its alpha says, whose colours are multiplied by it already.
 * @param {Uint8ClampedArray} pixels RGBA
 * @param {Uint8ClampedArray} overlay RGBA
 */
function cover(pixels, overlay) {
  for (let n = 0; n < pixels.length; n += 4) {
    const bare = 1 - overlay[n + 3] / 255;
    for (let colour = n; colour < n + 3; colour++) pixels[colour] = overlay[colour] + bare * pixels[colour];
  }
}
