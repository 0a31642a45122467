/** Hostile files, made from the conformance vectors. Each number always gives the same file. */

import { crc16, crc32 } from "../src/format/checksum.js";
import { readFile } from "../src/format/container.js";
import { WHOLE, WRONG, modelOf } from "./vectors.js";

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */
/** @typedef {import("../src/format/profile.js").Model} Model */
/** @typedef {{name: string, data: Bytes, parts: Parts | null, model: Model | undefined}} Source */

const MAX_SOURCE_NBYTES = 30_000; // larger files take long and add no coverage
const CHECKSUM_NBYTES = 4, CHECK_NBYTES = 2;

/** The parts of a file. They can be reassembled with correct checksums, as an attacker would. */
class Parts {
  /** @param {Bytes} data a valid file */
  constructor(data) {
    const { segments, layout } = readFile(data), start = segments[0].byteOffset;
    const end = segments.reduce((sum, { length }) => sum + length, start);
    this.segments = segments;
    this.chunks = data.subarray(end, data.length - CHECKSUM_NBYTES);
    /** @type {Bytes} */
    this.head = data.subarray(0, start);
    this.hasIndex = segments.length > 1 || layout.residual > 0;
    if (this.hasIndex) this.head = data.subarray(0, start - CHECKSUM_NBYTES - this._entries().length);
    else if (this.chunks.length) this.head = data.subarray(0, start - varint(segments[0].length).length);
  }

  /**
   * Assemble a file from these parts and their replacements.
   * @param {{head?: Bytes, segments?: Bytes[], chunks?: Bytes}} [changed]
   */
  assemble({ head = this.head, segments = this.segments, chunks = this.chunks } = {}) {
    const index = this.hasIndex ? withChecksum(concatBytes([head, this._entries(segments)])) : head;
    const size = !this.hasIndex && this.chunks.length ? varint(segments[0].length) : new Uint8Array();
    return withChecksum(concatBytes([index, size, ...segments, chunks]));
  }

  /** @param {Bytes[]} segments */
  _entries(segments = this.segments) {
    return concatBytes(segments.flatMap((segment) => [varint(segment.length), littleEndian(crc16(segment), CHECK_NBYTES)]));
  }
}

/** @type {Source[]} */
const SOURCES = [];
for (const vector of [...WHOLE, ...WRONG]) {
  const data = await vector.input(), isValid = WHOLE.includes(vector);
  if (data.length > MAX_SOURCE_NBYTES) continue;
  const model = isValid ? await modelOf(await vector.expect()) : undefined;
  SOURCES.push({ name: vector.name, data, parts: isValid ? new Parts(data) : null, model });
}

/** A pseudo-random number generator with a seed ("mulberry32"). */
export class Random {
  /** @param {number} seed */
  constructor(seed) {
    this._state = Math.imul(seed + 1, 0x9e3779b1);
  }

  /**
   * Return an integer from 0 on.
   * @param {number} end exclusive
   */
  below(end) {
    this._state = (this._state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this._state ^ (this._state >>> 15), 1 | this._state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end);
  }

  /**
   * @template T
   * @param {T[]} choices at least one
   * @returns {T}
   */
  of(choices) {
    return choices[this.below(choices.length)];
  }
}

/**
 * Return hostile file `number`. Either bytes change anywhere, with or without a correct checksum at the end, or one
 * part changes and all checksums are correct.
 * @param {number} number
 * @returns {{name: string, data: Bytes, model: Model | undefined}}
 */
export function mutated(number) {
  const random = new Random(number), { name, data, parts, model } = random.of(SOURCES), kind = random.below(8);
  if (kind === 0) return { name, model, data: changed(data, random) };
  if (kind === 1 || !parts) {
    const body = data.subarray(0, data.length - CHECKSUM_NBYTES);
    return { name, model, data: withChecksum(changed(body, random)) };
  }
  if (kind === 2) return { name, model, data: parts.assemble({ head: changed(parts.head, random) }) };
  if (kind === 3) return { name, model, data: parts.assemble({ chunks: changed(parts.chunks, random) }) };
  const segments = [...parts.segments], index = random.below(segments.length), segment = segments[index];
  // Usually keep the length: the header contains the length of the first segment modulo 4.
  segments[index] = random.below(4) ? overwritten(segment, random) : changed(segment, random);
  return { name, model, data: parts.assemble({ segments }) };
}

/**
 * Return a copy of the same length with some bytes changed.
 * @param {Bytes} bytes
 * @param {Random} random
 */
function overwritten(bytes, random) {
  const copy = bytes.slice();
  for (let count = 1 + random.below(random.of([1, 8, 64])); count > 0; count--) {
    if (copy.length) copy[random.below(copy.length)] ^= random.of([1 << random.below(8), random.below(256)]);
  }
  return copy;
}

/**
 * Return a copy with one to eight changes.
 * @param {Bytes} bytes
 * @param {Random} random
 */
function changed(bytes, random) {
  let mutatedBytes = bytes.slice();
  for (let count = 1 + random.below(random.of([1, 1, 8])); count > 0; count--) mutatedBytes = changedOnce(mutatedBytes, random);
  return mutatedBytes;
}

/**
 * @param {Bytes} bytes
 * @param {Random} random
 * @returns {Bytes}
 */
function changedOnce(bytes, random) {
  const at = random.below(bytes.length + 1), before = bytes.subarray(0, at);
  const kind = random.below(6);
  if (kind === 0) return before;
  if (kind === 1) return concatBytes([before, bytes.subarray(Math.min(at + 1 + random.below(8), bytes.length))]);
  if (kind === 2) {
    const other = random.of(SOURCES).data, from = random.below(other.length);
    const part = other.subarray(from, from + random.below(64));
    return concatBytes([before, part, bytes.subarray(random.of([at, Math.min(at + part.length, bytes.length)]))]);
  }
  const copy = bytes.slice();
  if (at < copy.length) copy[at] = kind === 3 ? random.of([0, 1, 0x7f, 0x80, 0xff]) : copy[at] ^ (1 << random.below(8));
  return copy;
}

/** @param {Bytes} bytes */
function withChecksum(bytes) {
  return concatBytes([bytes, littleEndian(crc32(bytes), CHECKSUM_NBYTES)]);
}

/** @param {Uint8Array[]} parts */
function concatBytes(parts) {
  return new Uint8Array(Buffer.concat(parts));
}

/**
 * @param {number} value
 * @param {number} nbytes
 */
function littleEndian(value, nbytes) {
  return Uint8Array.from({ length: nbytes }, (_, n) => (value >>> (8 * n)) & 0xff);
}

/** @param {number} value below 2^31 */
function varint(value) {
  const groups = [];
  for (let rest = value; !groups.length || rest > 0; rest >>>= 7) groups.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
  return Uint8Array.from(groups);
}

for (const { name, data, parts } of SOURCES) {
  if (parts && Buffer.compare(parts.assemble(), data)) throw new Error(`${name} is reassembled as a different file`);
}
