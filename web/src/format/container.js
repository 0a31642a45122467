/**
 * Parses the `.sdt` container, version 1. Normative text: `docs/format.md`, section 1.
 *
 * A file is parsed once. The structure of the result needs no further checks.
 */

import { FormatError, LimitError, need } from "../error.js";
import { crc32 } from "./checksum.js";
import { Cursor } from "./cursor.js";
import { endOf, readIndex, segmentsOf } from "./index.js";
import { SINGLE, segmentKinds } from "./layout.js";

/** @typedef {import("./index.js").Index} Index */
/** @typedef {import("./layout.js").Layout} Layout */

/**
 * Limits on the resources that a file may take. Larger files raise `LimitError`.
 * @typedef {{maxPixels: number, maxPayloadBytes: number, maxChunkBytes: number}} Limits
 */
/** @type {Readonly<Limits>} */
export const DEFAULT_LIMITS = Object.freeze({ maxPixels: 1 << 26, maxPayloadBytes: 1 << 28, maxChunkBytes: 1 << 26 });

/**
 * The file's header. `profile` and `prior` are ids of the format's tables. `alignment` is the number of bytes that the
 * first word of the first stream lacks.
 * @typedef {{width: number, height: number, profile: number, prior: number, stepCode: number, grey: boolean, alignment:
 *   number}} Header
 */

/**
 * A parsed file.
 *
 * - `profile`: bytes of the file's own profile, or of its reference to a model
 * - `chunks`: metadata by chunk type
 * - `intactSegments`: for a salvaged file, whether each segment is complete and undamaged; null otherwise
 * @typedef {{header: Header, layout: Layout, segments: Uint8Array<ArrayBuffer>[], profile: Uint8Array<ArrayBuffer>,
 *   chunks: Map<number, Uint8Array<ArrayBuffer>>, intactSegments: boolean[] | null}} File
 */

/** The file needs a later version of the decoder; it is not damaged. */
export class RequiredChunkError extends FormatError {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "FormatError"; // the name that callers see
  }
}

/**
 * `INLINE` is the profile id of files with a profile of their own. `BUNDLED` is the profile id and prior id of files
 * that refer to a model.
 */
export const INLINE = 0, BUNDLED = 254;
/** Size of the fixed part of a profile, and of the digest that follows it in a reference to a model. */
export const PROFILE_NBYTES = 10, DIGEST_NBYTES = 8;

/** Names of the metadata chunks, by type. */
export const CHUNK_NAMES = new Map([[1, "ICC"], [2, "EXIF"], [3, "XMP"], [4, "text"]]);

const MAGIC = [0x53, 0x44, 0x54], VERSION = 1;
const VERSION_MASK = 0x0f, CHUNKS_FLAG = 0x10, GREY_FLAG = 0x20, INDEX_FLAG = 0x40, UNKNOWN_FLAG = 0x80;
const STEP_BITS = 12, REQUIRED_CHUNK = 0x80;
const MAX_SIDE = 1 << 24, MIN_FILE_NBYTES = 14;
/** Size of the checksum at the end. */
export const CHECKSUM_NBYTES = 4;

/**
 * Parse a file. Its parts are views of `data`, not copies.
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {Limits} [limits]
 * @returns {File}
 * @throws {import("../error.js").FormatError} if `data` is not exactly one undamaged file of this version
 * @throws {LimitError} if the file exceeds `limits`
 */
export function readFile(data, limits = DEFAULT_LIMITS) {
  checkMagicAndVersion(data);
  const body = data.subarray(0, data.length - CHECKSUM_NBYTES);
  const checksum = new Cursor(data.subarray(body.length)).u32();
  need(crc32(body) === checksum, "damaged or truncated file: the checksum does not match");
  const { header, layout, profile, index, hasChunks } = readPrologue(new Cursor(body), limits);
  const end = endOf(index);
  need(end <= body.length, `truncated file: segments end at byte ${end}, the file at ${body.length}`);
  const segments = segmentsOf(body, index);
  const chunks = readChunks(body.subarray(end), hasChunks, limits);
  return { header, layout, profile, segments, chunks, intactSegments: null };
}

/**
 * Return a tile's segment.
 * @param {File} file
 * @param {number | "overlay" | "residual" | "alpha"} kind the number of a level or the name of a layer that the file
 *   has
 * @param {number} tile
 */
export function tileSegment({ layout, segments }, kind, tile) {
  return segments[segmentKinds(layout).indexOf(kind) * layout.columns * layout.rows + tile];
}

/**
 * Return a tile's segment of a layer. It is null if the file lacks the layer or the segment is not intact.
 * @param {File} file
 * @param {"overlay" | "residual" | "alpha"} kind
 * @param {number} tile
 */
export function intactLayerSegment({ layout, segments, intactSegments }, kind, tile) {
  const kinds = segmentKinds(layout), number = kinds.indexOf(kind) * layout.columns * layout.rows + tile;
  return kinds.includes(kind) && (!intactSegments || intactSegments[number]) ? segments[number] : null;
}

/**
 * @param {Uint8Array} data
 * @throws {FormatError} if it is not a file of this version
 */
export function checkMagicAndVersion(data) {
  need(MAGIC.every((byte, n) => data[n] === byte), "not an .sdt file: it does not start with SDT");
  need(data.length >= MIN_FILE_NBYTES, `truncated file: ${data.length} bytes, expected at least ${MIN_FILE_NBYTES}`);
  const version = data[3] & VERSION_MASK;
  need(version === VERSION, `file format version ${version}, this decoder reads version ${VERSION}`);
}

/**
 * Parse the part of a file before its segments.
 * @param {Cursor} cursor at the start of the file
 * @param {Limits} limits
 */
export function readPrologue(cursor, limits) {
  cursor.take(MAGIC.length);
  const [flags, profileId, prior] = cursor.take(3);
  const width = cursor.varint() + 1, height = cursor.varint() + 1;
  need(Math.max(width, height) <= MAX_SIDE, `size ${width}x${height}, the largest side is ${MAX_SIDE}`);
  requireWithin(width * height, limits.maxPixels, "pixels");
  const step = cursor.u16();
  need(!(flags & UNKNOWN_FLAG) && step < 1 << (STEP_BITS + 2), "unknown flags; a later version may read this file");
  const stepCode = step & ((1 << STEP_BITS) - 1), grey = (flags & GREY_FLAG) > 0;
  const header = { width, height, profile: profileId, prior, stepCode, grey, alignment: step >> STEP_BITS };
  const profile = takeProfile(cursor, profileId);
  const { layout, index } = takeIndex(cursor, flags, header);
  requireWithin(endOf(index) - index.start, limits.maxPayloadBytes, "bytes of payload");
  return { header, layout, profile, index, hasChunks: (flags & CHUNKS_FLAG) > 0 };
}

/**
 * Return the bytes of the file's profile, or of its reference to a model.
 * @param {Cursor} cursor
 * @param {number} id
 */
function takeProfile(cursor, id) {
  if (id !== INLINE && id !== BUNDLED) return cursor.take(0);
  const start = cursor.offset, channels = cursor.take(PROFILE_NBYTES)[4];
  cursor.take(id === INLINE ? 16 * channels : DIGEST_NBYTES);
  return cursor.data.subarray(start, cursor.offset);
}

/**
 * @param {Cursor} cursor
 * @param {number} flags
 * @param {Header} header
 * @returns {{layout: Layout, index: Index}}
 */
function takeIndex(cursor, flags, { height, width }) {
  const nbytes = cursor.data.length;
  if (flags & INDEX_FLAG) return readIndex(cursor, nbytes, height, width);
  const size = flags & CHUNKS_FLAG ? cursor.varint() : nbytes - cursor.offset;
  return { layout: SINGLE, index: { start: cursor.offset, nbytes: [size], checks: [] } };
}

/**
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {boolean} hasChunks
 * @param {Limits} limits
 */
function readChunks(data, hasChunks, limits) {
  requireWithin(data.length, limits.maxChunkBytes, "bytes of chunks");
  need(hasChunks === (data.length > 0), "malformed file: the chunk flag contradicts the data after the segments");
  /** @type {Map<number, Uint8Array<ArrayBuffer>>} */
  const chunks = new Map();
  const cursor = new Cursor(data);
  let last = 0;
  while (cursor.offset < data.length) {
    const kind = cursor.byte(), nbytes = cursor.varint();
    need(kind > last, `chunk ${kind} after ${last}: types must be in ascending order`);
    if (kind >= REQUIRED_CHUNK) {
      throw new RequiredChunkError(`unknown required chunk ${kind}; a later version may read this file`);
    }
    chunks.set(kind, cursor.take(nbytes));
    last = kind;
  }
  return chunks;
}

/**
 * @param {number} value
 * @param {number} limit
 * @param {string} unit
 */
function requireWithin(value, limit, unit) {
  if (!(value <= limit)) throw new LimitError(`${value} ${unit}, the limit is ${limit}`);
}
