/**
 * Concatenate byte arrays.
 * @param {Uint8Array[]} parts
 */
export function concatBytes(parts) {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
