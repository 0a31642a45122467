/** Reading bytes one after the other. */

import { need } from "../error.js";

const LONGEST_VARINT = 5; // bytes

/** Takes numbers from the start of `data`; every method throws `FormatError` where it ends too early. */
export class Cursor {
  /** @param {Uint8Array<ArrayBuffer>} data */
  constructor(data) {
    this.data = data;
    /** How many bytes have been taken. */
    this.offset = 0;
  }

  /**
   * Return the next bytes, which are not copied.
   * @param {number} nbytes
   */
  take(nbytes) {
    const end = this.offset + nbytes;
    need(end <= this.data.length, `truncated file: ${nbytes} bytes expected at offset ${this.offset}`);
    const taken = this.data.subarray(this.offset, end);
    this.offset = end;
    return taken;
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

  /** Return a number in groups of 7 bits, lowest first, the top bit set on all but the last; below 2^35. */
  varint() {
    let value = 0;
    for (let position = 0; position < LONGEST_VARINT; position++) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** (7 * position);
      if (byte < 0x80) {
        need(position === 0 || byte > 0, "malformed number: it is longer than it needs to be");
        return value;
      }
    }
    need(false, `malformed number: more than ${LONGEST_VARINT} bytes`);
    return value;
  }
}
