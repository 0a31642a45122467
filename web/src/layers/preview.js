/** Decodes a preview without a network, by a linear approximation of the decoder. */

import { boxDownscale } from "./pixels.js";

/** @typedef {import("../coding/latent_reader.js").LatentReader} LatentReader */
/** @typedef {import("./layer_reader.js").LayerReader} LayerReader */

/**
 * Return RGBA pixels at 1/`scale` of the size, each the mean of a block, all opaque. Sides are rounded up.
 *
 * Only coarse passes and the overlay are decoded, not the residual. The result is null if the profile has no preview,
 * or if `scale` is not a multiple of its downscale.
 * @param {LatentReader} reader
 * @param {LayerReader} layers
 * @param {number} scale
 * @throws {import("../error.js").FormatError} if the decoded part is damaged
 */
export async function linearPreview(reader, layers, scale) {
  const { preview, downscale } = reader.profile, [, height, width] = reader.shape;
  if (!preview || reader.isPalette || scale % downscale) return null;
  const colours = linearColours(reader.readCoarse(preview.channels), height, width, preview);
  const pixels = boxDownscale(colours, height, width, scale / downscale);
  const overlay = await layers.fullOverlay();
  if (overlay) {
    const { width: across, height: down } = reader.file.header;
    compositeOverlay(pixels, boxDownscale(overlay, down, across, scale));
  }
  return pixels;
}

/**
 * Return one pixel for each latent.
 * @param {Float32Array} latents (channels, height, width)
 * @param {number} height
 * @param {number} width
 * @param {import("../format/profile.js").Preview} preview
 */
function linearColours(latents, height, width, { channels, weights, bias }) {
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
 * Blend an overlay over pixels. The colours of the overlay are premultiplied.
 * @param {Uint8ClampedArray} pixels RGBA
 * @param {Uint8ClampedArray} overlay RGBA
 */
function compositeOverlay(pixels, overlay) {
  for (let n = 0; n < pixels.length; n += 4) {
    const bare = 1 - overlay[n + 3] / 255;
    for (let colour = n; colour < n + 3; colour++) pixels[colour] = overlay[colour] + bare * pixels[colour];
  }
}
