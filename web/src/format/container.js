/**
 * Bytes to a parsed file: the `.sdt` container, version 1. Normative text: `docs/format.md`, section 1.
 *
 * A file is parsed once; what comes out needs no further check of its structure.
 */

import { FormatError, LimitError, need } from "../error.js";
import { crc32 } from "./checksum.js";
import { Cursor } from "./cursor.js";
import { endOf, readIndex, segmentsOf } from "./index.js";
import { SINGLE, kindsOf } from "./layout.js";

/** @typedef {import("./index.js").Index} Index */
/** @typedef {import("./layout.js").Layout} Layout */

/**
 * What a file may ask for before it is refused with `LimitError`.
 * @typedef {{maxPixels: number, maxPayloadBytes: number, maxChunkBytes: number}} Limits
 */
/** @type {Readonly<Limits>} */
export const DEFAULT_LIMITS = Object.freeze({ maxPixels: 1 << 26, maxPayloadBytes: 1 << 28, maxChunkBytes: 1 << 26 });

/**
 * What a file says before its payload. `profile` and `prior` are ids of the format's tables; `alignment` is by how many
 * bytes the first stream's first word is short of 4.
 * @typedef {{width: number, height: number, profile: number, prior: number, stepCode: number, grey: boolean,
 *   alignment: number}} Header
 */

/**
 * A file. `profile` are the bytes that it has of its own, or of its model's; `chunks` are by type. `whole` tells which
 * segments are not cut short or damaged, null if none is.
 * @typedef {{header: Header, layout: Layout, segments: Uint8Array<ArrayBuffer>[], profile: Uint8Array<ArrayBuffer>,
 *   chunks: Map<number, Uint8Array<ArrayBuffer>>, whole: boolean[] | null}} File
 */

/** A file that is not damaged, but of a later version. */
export class RequiredChunkError extends FormatError {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "FormatError"; // to all others it is that
  }
}

/** Profile id of files that carry their own, and profile and prior id of those that refer to their model's. */
export const INLINE = 0, BUNDLED = 254;
/** Bytes that both have of a profile, and those of a digest behind them. */
export const PROFILE_NBYTES = 10, DIGEST_NBYTES = 8;

/** Types of chunks of metadata, by name. */
export const CHUNK_NAMES = new Map([[1, "ICC"], [2, "EXIF"], [3, "XMP"], [4, "text"]]);

const MAGIC = [0x53, 0x44, 0x54], VERSION = 1;
const VERSION_MASK = 0x0f, CHUNKS_FLAG = 0x10, GREY_FLAG = 0x20, INDEX_FLAG = 0x40, UNKNOWN_FLAG = 0x80;
const STEP_BITS = 12, REQUIRED_CHUNK = 0x80;
const LARGEST_SIDE = 1 << 24, SHORTEST_FILE = 14;
/** Bytes of the checksum at the end. */
export const CHECKSUM_NBYTES = 4;

/**
 * Return the file in `data`, whose parts are not copied.
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {Limits} [limits]
 * @returns {File}
 * @throws {import("../error.js").FormatError} if it is not exactly one undamaged file that this version can read
 * @throws {LimitError} if it exceeds `limits`
 */
export function readFile(data, limits = DEFAULT_LIMITS) {
  requireOurs(data);
  const body = data.subarray(0, data.length - CHECKSUM_NBYTES);
  const checksum = new Cursor(data.subarray(body.length)).u32();
  need(crc32(body) === checksum, "damaged or truncated file: the checksum does not match");
  const { header, layout, profile, index, hasChunks } = readHead(new Cursor(body), limits);
  const end = endOf(index);
  need(end <= body.length, `truncated file: segments to byte ${end} of ${body.length}`);
  const segments = segmentsOf(body, index);
  return { header, layout, profile, segments, chunks: readChunks(body.subarray(end), hasChunks, limits), whole: null };
}

/**
 * Return a tile's segment of a kind, which is the number of a level or a name.
 * @param {File} file
 * @param {number | "overlay" | "residual" | "alpha"} kind one that the file has
 * @param {number} tile
 */
export function segmentOf({ layout, segments }, kind, tile) {
  return segments[kindsOf(layout).indexOf(kind) * layout.columns * layout.rows + tile];
}

/**
 * Return a tile's segment of a kind, null if the file has none, or not a whole one.
 * @param {File} file
 * @param {"overlay" | "residual" | "alpha"} kind
 * @param {number} tile
 */
export function layerOf({ layout, segments, whole }, kind, tile) {
  const kinds = kindsOf(layout), number = kinds.indexOf(kind) * layout.columns * layout.rows + tile;
  return kinds.includes(kind) && (!whole || whole[number]) ? segments[number] : null;
}

/**
 * @param {Uint8Array} data
 * @throws {FormatError} if it is no file of this version
 */
export function requireOurs(data) {
  need(MAGIC.every((byte, n) => data[n] === byte), "not an .sdt file: it does not start with SDT");
  need(data.length >= SHORTEST_FILE, `truncated file: ${data.length} bytes, expected at least ${SHORTEST_FILE}`);
  const version = data[3] & VERSION_MASK;
  need(version === VERSION, `file format version ${version}, this decoder reads version ${VERSION}`);
}

/**
 * Return what comes before the segments.
 * @param {Cursor} cursor at the start of the file
 * @param {Limits} limits
 */
export function readHead(cursor, limits) {
  cursor.take(MAGIC.length);
  const [flags, profileId, prior] = cursor.take(3);
  const width = cursor.varint() + 1, height = cursor.varint() + 1;
  need(Math.max(width, height) <= LARGEST_SIDE, `size ${width}x${height}, sides go to ${LARGEST_SIDE}`);
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
 * Return the bytes that a file has of its profile.
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
 * @param {boolean} announced
 * @param {Limits} limits
 */
function readChunks(data, announced, limits) {
  requireWithin(data.length, limits.maxChunkBytes, "bytes of chunks");
  need(announced === data.length > 0, "malformed file: chunks are announced and none follows, or the reverse");
  /** @type {Map<number, Uint8Array<ArrayBuffer>>} */
  const chunks = new Map();
  const cursor = new Cursor(data);
  let last = 0;
  while (cursor.offset < data.length) {
    const kind = cursor.byte(), nbytes = cursor.varint();
    need(kind > last, `chunk ${kind} after ${last}: types must rise`);
    if (kind >= REQUIRED_CHUNK) {
      throw new RequiredChunkError(`unknown required chunk ${kind}; a later version may read this file`);
    }
    chunks.set(kind, cursor.take(nbytes));
    last = kind;
  }
  return chunks;
}

/**
 * @param {number} found
 * @param {number} limit
 * @param {string} what
 */
function requireWithin(found, limit, what) {
  if (!(found <= limit)) throw new LimitError(`${found} ${what}, the limit is ${limit}`);
}
