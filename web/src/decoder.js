/** The main path of the decoder: bytes of an `.sdt` file -> symbols and layers -> network -> pixels. */

import { Assets } from "./assets/assets.js";
import { LatentReader } from "./coding/latent_reader.js";
import { SalvagedLatentReader } from "./coding/salvaged_latent_reader.js";
import { CHUNK_NAMES, DEFAULT_LIMITS, readFile } from "./format/container.js";
import { segmentKinds } from "./format/layout.js";
import { PALETTE, latentGrid, qualityOf, readSpaceInfo } from "./format/profile.js";
import { missingReport, salvageFile } from "./format/salvage.js";
import { LayerReader } from "./layers/layer_reader.js";
import { boxDownscale, makeGrey } from "./layers/pixels.js";
import { linearPreview } from "./layers/preview.js";
import { LOOKS } from "./networks/bundle.js";
import { DecoderNetwork } from "./networks/decoder_network.js";
import { Runtime } from "./networks/runtime.js";

export { BundleError, FormatError, LimitError, SdtError } from "./error.js";

/** @typedef {import("./format/container.js").Limits} Limits */
/** @typedef {import("./format/layout.js").Layout} Layout */
/** @typedef {import("./format/layout.js").Place} Place */
/** @typedef {import("./layers/pixels.js").RgbaImage} RgbaImage */
/** @typedef {import("./networks/runtime.js").Backend} Backend */

/** @typedef {import("./networks/bundle.js").Look} Look */

/**
 * An image, the look that it was decoded in, and the backend that ran the network.
 * @typedef {RgbaImage & {look: Look, backend: Backend}} DecodedImage
 */
/** @typedef {{left: number, top: number, width: number, height: number}} Region in pixels */

/**
 * Properties of a file.
 *
 * - `quality`: the quality that corresponds to the quantization steps, null with method palette
 * - `grid`: channels, rows and columns of latents
 * - `metadata`: names of the metadata chunks, such as EXIF
 * - `bytesBySection`: bytes by part: `latents`, or `level 1` (the coarsest), `level 2` … with several levels, then layers,
 *   `metadata`
 * and `head`
 * @typedef {{width: number, height: number, grey: boolean, alpha: boolean, latentSpace: string, method: "latents" |
 *   "palette", quality: number | null, stepCode: number, grid: [channels: number, height: number, width: number],
 *   layout: Layout, metadata: string[], bytesBySection: Record<string, number>}} Info
 */

const MAX_SCALE = 1024;
const MIN_FAST_RESIDUAL = 36 * 16; // in 1/16 level: beside finer residuals the error of the fast decoder would be seen

/**
 * Decodes `.sdt` files. Loaded files are cached. Networks are run by `onnxruntime-web`; its `env` sets the location of
 * its own files and the number of threads.
 *
 * All methods throw `FormatError` for a damaged or unsupported file, `LimitError` for a file that exceeds `limits`,
 * `BundleError` for a missing model, and the errors of `load`.
 */
export class Decoder {
  /**
   * @param {{load: import("./assets/assets.js").Load, backend?: Backend, look?: Look}} options `load` returns the files
   *   that ship with sdtrt, by their paths in `engine/data`, and `webp_dec.wasm` of `@jsquash/webp`; `backend` as in
   *   `Runtime`; `look` is the default of `decode`
   */
  constructor({ load, backend, look = "faithful" }) {
    this._look = checkedLook(look);
    this._assets = new Assets(load);
    this._runtime = new Runtime(backend);
  }

  /** Return the backend that runs the network. */
  backend() {
    return this._runtime.backend();
  }

  /**
   * Decode an image, or a region of it. A region equals the same crop of the whole image.
   *
   * The look `fast` takes less time and has more error than `faithful`. Beside a fine residual it is decoded as
   * `faithful`.
   *
   * With `partial`, the readable part of a damaged or truncated file is decoded if its header is undamaged. Areas are
   * coarse where fine passes are missing, flat where all passes are missing, and opaque where alpha is missing.
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {{limits?: Partial<Limits>, region?: Region, partial?: boolean, look?: Look}} [options]
   * @returns {Promise<DecodedImage>}
   * @throws {RangeError} if the region is not within the image, or the look is unknown
   * @throws {TypeError} if both `partial` and `region` are set
   */
  async decode(bytes, { limits, region, partial = false, look = this._look } = {}) {
    if (partial && region) throw new TypeError("partial cannot be combined with a region");
    const { file, reader, layers } = await this._open(bytes, limits, { partial, networkLook: checkedLook(look) });
    const area = placeOf(region ?? { left: 0, top: 0, ...sizeOf(file.header) }, file.header);
    const { data, ...how } = await this._pixels(reader, layers, area, look);
    if (file.header.grey) makeGrey(data);
    const width = area.columns[1] - area.columns[0], height = area.rows[1] - area.rows[0];
    return { width, height, data, ...how, ...(partial && { missing: missingReport(file, reader.missingReport) }) };
  }

  /**
   * Decode an image at 1/`scale` of its size, sides rounded up. Each pixel is the mean of a block.
   *
   * If the latent space has a preview and `scale` is a multiple of its downscale, only coarse passes are decoded and no
   * network runs; the result is approximate. Otherwise the whole image is decoded, in the look `fast` unless
   * `scale` is 1.
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {number} [scale] 1 … 1024
   * @param {{limits?: Partial<Limits>, ahead?: boolean}} [options] with `ahead`, the network of a later `decode` is
   *   loaded in the meantime
   * @returns {Promise<RgbaImage>}
   * @throws {RangeError} if the scale is out of range
   */
  async preview(bytes, scale = 8, { limits, ahead = false } = {}) {
    const isScale = Number.isInteger(scale) && scale >= 1 && scale <= MAX_SCALE;
    if (!isScale) throw new RangeError(`scale ${scale}, expected 1 to ${MAX_SCALE}`);
    const { file, reader, layers } = await this._open(bytes, limits), { width, height } = file.header;
    // Not earlier: the preview needs its own prior first.
    if (ahead) {
      DecoderNetwork.begin(reader.profile.latentSpace, lookOf(file, this._look), this._assets, this._runtime);
    }
    const data = await linearPreview(reader, layers, scale);
    const alpha = data && (await layers.fullAlpha());
    if (data && alpha) {
      const smallAlpha = boxDownscale(alpha, height, width, scale);
      for (let n = 0; n < data.length; n += 4) data[n + 3] = smallAlpha[n];
    }
    const fullPlace = placeOf({ left: 0, top: 0, width, height }, file.header);
    const look = scale > 1 ? "fast" : this._look; // the mean over a block has little of the fast decoder's error
    const whole = async () => (await this._pixels(reader, layers, fullPlace, look)).data;
    const small = data ?? boxDownscale(await whole(), height, width, scale);
    if (file.header.grey) makeGrey(small);
    return { width: Math.ceil(width / scale), height: Math.ceil(height / scale), data: small };
  }

  /**
   * Return the properties of a file. No pixels are decoded.
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {{limits?: Partial<Limits>}} [options]
   * @returns {Promise<Info>}
   */
  async info(bytes, { limits } = {}) {
    const file = readFile(bytes, { ...DEFAULT_LIMITS, ...limits }), { header, layout, chunks } = file;
    const space = await readSpaceInfo(file, this._assets), { stepCode, grey } = header;
    const isPalette = header.prior === PALETTE;
    return {
      ...sizeOf(header), grey, stepCode, layout,
      alpha: layout.alpha,
      latentSpace: space.latentSpace,
      method: isPalette ? "palette" : "latents",
      quality: isPalette ? null : qualityOf(space, stepCode, layout.residual),
      grid: latentGrid(space, header),
      metadata: [...chunks.keys()].flatMap((kind) => CHUNK_NAMES.get(kind) ?? []),
      bytesBySection: bytesBySectionOf(file, bytes.length),
    };
  }

  /**
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {Partial<Limits>} [limits]
   * @param {{partial?: boolean, networkLook?: Look}} [options] whether to accept a damaged file, and the look whose
   *   network is loaded meanwhile, if any
   */
  async _open(bytes, limits, { partial = false, networkLook } = {}) {
    const allowed = { ...DEFAULT_LIMITS, ...limits };
    const file = partial ? salvageFile(bytes, allowed) : readFile(bytes, allowed);
    if (networkLook) {
      const { latentSpace } = await readSpaceInfo(file, this._assets);
      DecoderNetwork.begin(latentSpace, lookOf(file, networkLook), this._assets, this._runtime);
    }
    const reader = await (partial ? SalvagedLatentReader : LatentReader).open(file, this._assets, allowed);
    return { file, reader, layers: new LayerReader(file, reader.profile.downscale, this._assets) };
  }

  /**
   * Return the pixels of an area with all layers, (rows, columns, RGBA), their look, and the backend that ran the
   * network.
   * @param {LatentReader} reader
   * @param {LayerReader} layers
   * @param {Place} area in pixels
   * @param {Look} wanted
   */
  async _pixels(reader, layers, area, wanted) {
    reader.prefetch(inLatents(area, reader.profile.downscale)); // while the network is loading
    const look = lookOf(reader.file, wanted);
    const network = await DecoderNetwork.open(reader.profile.latentSpace, look, this._assets, this._runtime);
    const data = await network.pixels(reader, area);
    await layers.apply(data, area);
    return { data, look, backend: network.backend };
  }
}

/**
 * Return a look.
 * @param {Look} look
 * @throws {RangeError} if it is unknown
 */
function checkedLook(look) {
  if (!LOOKS.includes(look)) throw new RangeError(`look ${look}, expected ${LOOKS.join(" or ")}`);
  return look;
}

/**
 * Return the look in which a file is decoded if `wanted` is asked for. A residual corrects the faithful image.
 * @param {import("./format/container.js").File} file
 * @param {Look} wanted
 * @returns {Look}
 */
function lookOf({ layout: { residual } }, wanted) {
  return residual && residual < MIN_FAST_RESIDUAL ? "faithful" : wanted;
}

/**
 * Return the bytes of each part of a file: levels of latents, layers, metadata, and the rest as `head`.
 * @param {import("./format/container.js").File} file an undamaged one
 * @param {number} nbytes
 */
function bytesBySectionOf({ layout, segments, chunks }, nbytes) {
  const tiles = layout.columns * layout.rows, sum = (/** @type {Uint8Array[]} */ parts) =>
    parts.reduce((total, { length }) => total + length, 0);
  const bytesBySection = segmentKinds(layout).map((kind, n) => [
    typeof kind === "string" ? kind : layout.levels === 1 ? "latents" : `level ${kind + 1}`,
    sum(segments.slice(n * tiles, (n + 1) * tiles)),
  ]);
  bytesBySection.push(["metadata", sum([...chunks.values()])]);
  return Object.fromEntries([...bytesBySection, ["head", nbytes - sum([...segments, ...chunks.values()])]]);
}

/** @param {{width: number, height: number}} header */
function sizeOf({ width, height }) {
  return { width, height };
}

/**
 * Return the rows and columns of the latents that cover some pixels.
 * @param {Place} pixels
 * @param {number} downscale
 * @returns {Place}
 */
function inLatents({ rows, columns }, downscale) {
  const along = (/** @type {import("./format/layout.js").Span} */ [start, end]) =>
    /** @type {import("./format/layout.js").Span} */ ([Math.floor(start / downscale), Math.ceil(end / downscale)]);
  return { rows: along(rows), columns: along(columns) };
}

/**
 * @param {Region} region
 * @param {{width: number, height: number}} image
 * @returns {Place}
 */
function placeOf({ left, top, width, height }, image) {
  const isWithin = [left, top, width, height].every(Number.isInteger) && left >= 0 && top >= 0 && width >= 1
    && height >= 1 && left + width <= image.width && top + height <= image.height;
  if (!isWithin) {
    const { width: across, height: down } = image;
    const text = `${width}x${height}+${left}+${top}`;
    throw new RangeError(`region ${text} is not within the image of ${across}x${down}`);
  }
  return { rows: [top, top + height], columns: [left, left + width] };
}
