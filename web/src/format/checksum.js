/** Checksums of the container and of zlib streams. */

const CRC32 = Uint32Array.from({ length: 256 }, (_, byte) => {
  let register = byte;
  for (let bit = 0; bit < 8; bit++) register = register & 1 ? (register >>> 1) ^ 0xedb88320 : register >>> 1;
  return register;
});

const CRC16 = Uint16Array.from({ length: 256 }, (_, byte) => {
  let register = byte << 8;
  for (let bit = 0; bit < 8; bit++) register = register & 0x8000 ? (register << 1) ^ 0x1021 : register << 1;
  return register;
});

/**
 * Return the CRC-32 of PNG and zlib.
 * @param {Uint8Array} data
 * @returns {number} 0 … 2^32 - 1
 */
export function crc32(data) {
  let register = 0xffffffff;
  for (let n = 0; n < data.length; n++) register = (register >>> 8) ^ CRC32[(register ^ data[n]) & 0xff];
  return ~register >>> 0;
}

/**
 * Return the CRC-16/XMODEM.
 * @param {Uint8Array} data
 * @returns {number} 0 … 2^16 - 1
 */
export function crc16(data) {
  let register = 0;
  for (let n = 0; n < data.length; n++) register = ((register << 8) & 0xffff) ^ CRC16[(register >> 8) ^ data[n]];
  return register;
}

/**
 * Return the Adler-32, which ends zlib streams.
 * @param {Uint8Array} data
 * @returns {number} 0 … 2^32 - 1
 */
export function adler32(data) {
  let low = 1, high = 0;
  for (let n = 0; n < data.length; n++) {
    low = (low + data[n]) % 65521;
    high = (high + low) % 65521;
  }
  return high * 65536 + low;
}
