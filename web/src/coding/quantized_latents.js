/** Turns symbols into latents. */

import { channelSteps } from "../format/profile.js";

/** @typedef {import("../format/profile.js").Profile} Profile */
/** @typedef {import("./stream_codec.js").DecodedStream} DecodedStream */

/**
 * Return the latents of some symbols. Each operation is rounded to float32 separately, as the format requires.
 * @param {DecodedStream} decoded
 * @param {Profile} profile
 * @param {number} stepCode
 */
export function dequantize({ symbols, reconOffsets }, profile, stepCode) {
  const { mean, offset } = profile, steps = channelSteps(profile, stepCode), size = symbols.length / mean.length;
  const latents = new Float32Array(symbols.length);
  for (let channel = 0, n = 0; channel < mean.length; channel++) {
    const step = steps[channel], centre = mean[channel];
    for (const end = n + size; n < end; n++) {
      const reconOffset = reconOffsets ? reconOffsets[n] / 64 : -Math.sign(symbols[n]) * offset[channel];
      latents[n] = Math.fround(Math.fround(symbols[n] + reconOffset) * step) + centre;
    }
  }
  return latents;
}
