/** Sequential reading of bytes. */

import { need } from "../error.js";

const MAX_VARINT_NBYTES = 5; // bytes

/** Reads numbers from `data`. Every method throws `FormatError` at the end of the data. */
export class Cursor {
  /** @param {Uint8Array<ArrayBuffer>} data */
  constructor(data) {
    this.data = data;
    /** Number of bytes read. */
    this.offset = 0;
  }

  /**
   * Return the next bytes as a view, not a copy.
   * @param {number} nbytes
   */
  take(nbytes) {
    const end = this.offset + nbytes;
    need(end <= this.data.length, `truncated file: ${nbytes} bytes expected at offset ${this.offset}`);
    const bytes = this.data.subarray(this.offset, end);
    this.offset = end;
    return bytes;
  }

  byte() {
    return this.take(1)[0];
  }

  u16() {
    const [low, high] = this.take(2);
    return low + 256 * high;
  }

  u32() {
    return this.u16() + 65536 * this.u16();
  }

  /** Read a number in groups of 7 bits, lowest first, below 2^35. The top bit marks all groups but the last. */
  varint() {
    let value = 0;
    for (let position = 0; position < MAX_VARINT_NBYTES; position++) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** (7 * position);
      if (byte < 0x80) {
        need(position === 0 || byte > 0, "malformed number: it is longer than necessary");
        return value;
      }
    }
    need(false, `malformed number: more than ${MAX_VARINT_NBYTES} bytes`);
    return value;
  }
}
