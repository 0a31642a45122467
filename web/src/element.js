/** The element `<sdt-image>`: shows an `.sdt` file in a page, first its preview, then the image. */

import { open } from "./client.js";
import { FormatError } from "./error.js";

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./decoder.js").RgbaImage} RgbaImage */

const NAME = "sdt-image", SCALE = 8, LAZY_MARGIN = "400px";
const STYLE = `
  :host { display: inline-block }
  :host([hidden]) { display: none }
  canvas { display: block; width: 100%; height: 100%; object-fit: inherit; object-position: inherit }
  [hidden] { display: none }
`;

/** @type {Parameters<typeof open>[0]} */
let settings;
/** @type {Client | undefined} */
let client;

/**
 * Register the element in the page. All elements share one worker, which starts with the first image.
 * @param {Parameters<typeof open>[0]} [options] passed to `open`
 */
export function define(options) {
  settings = options;
  if (!customElements.get(NAME)) customElements.define(NAME, SdtImage);
}

/**
 * The attributes are those of `<img>`: `src`, `alt`, `width`, `height`, `loading`. The events are `load`, and `error`
 * with the decoder's error as its `error`. The image is loaded while the element is in a document. Of a damaged or
 * truncated file the readable part is shown, as browsers do with other formats.
 */
export class SdtImage extends HTMLElement {
  static observedAttributes = ["src", "alt", "width", "height", "loading"];

  constructor() {
    super();
    this._canvas = Object.assign(document.createElement("canvas"), { width: 0, height: 0 });
    this._text = Object.assign(document.createElement("span"), { hidden: true });
    this._hints = new CSSStyleSheet();
    const style = new CSSStyleSheet(), root = this.attachShadow({ mode: "open" });
    style.replaceSync(STYLE);
    root.adoptedStyleSheets = [style, this._hints];
    root.append(this._canvas, this._text);
    /** @type {"none" | "waiting" | "loading" | "loaded" | "failed"} */
    this._state = "none";
    this._missing = "";
    this._control = new AbortController();
    /** @type {Promise<void>} */
    this._done = Promise.resolve();
  }

  get src() {
    return this.currentSrc;
  }

  set src(value) {
    this.setAttribute("src", value);
  }

  /** The absolute address of the file, the attribute itself if it is not a valid address, or "". */
  get currentSrc() {
    const src = this.getAttribute("src");
    return src && URL.canParse(src, document.baseURI) ? new URL(src, document.baseURI).href : src ?? "";
  }

  get alt() {
    return this.getAttribute("alt") ?? "";
  }

  set alt(value) {
    this.setAttribute("alt", value);
  }

  /** The width of the image in pixels. It is known before the pixels are; 0 until then. */
  get naturalWidth() {
    return this._canvas.width;
  }

  get naturalHeight() {
    return this._canvas.height;
  }

  /** A report of the missing parts of the image, "" unless its file is damaged. */
  get missing() {
    return this._missing;
  }

  /** Whether loading has ended or there is nothing to load. */
  get complete() {
    return this._state !== "loading" && this._state !== "waiting";
  }

  /**
   * Load the image now, even with `loading="lazy"`.
   * @returns {Promise<void>} resolves when the image is shown; rejects with the error of the `error` event, or if `src`
   *   changes
   */
  async decode() {
    if (!this.currentSrc) throw new DOMException("src is not set", "EncodingError");
    if (!this.isConnected) throw new DOMException("the element is not in a document", "EncodingError");
    this._begin();
    return this._done;
  }

  connectedCallback() {
    if (this._state === "none") this._restart();
  }

  disconnectedCallback() {
    if (!this.complete) this._reset();
  }

  /**
   * @param {string} name
   * @param {string | null} _old
   * @param {string | null} value
   */
  attributeChangedCallback(name, _old, value) {
    if (name === "src") this._restart();
    else if (name === "alt") this._describe();
    else if (name !== "loading") this._hint();
    else if (value !== "lazy") this._begin();
  }

  /** Discard the image, and abort loading. */
  _reset() {
    this._control.abort(new DOMException("the image has changed", "AbortError"));
    this._control = new AbortController();
    this._state = "none";
    this._missing = "";
    this._canvas.width = this._canvas.height = 0;
    this._describe();
  }

  _restart() {
    this._reset();
    if (!this.isConnected || !this.currentSrc) return;
    this._state = "waiting";
    if (this.getAttribute("loading") === "lazy") this._loadNearView();
    else this._begin();
  }

  /** Start loading when the element comes near the viewport, or when the page is printed. */
  _loadNearView() {
    const observer = new IntersectionObserver((entries) => {
      if (entries.some(({ isIntersecting }) => isIntersecting)) this._begin();
    }, { rootMargin: LAZY_MARGIN });
    observer.observe(this);
    this._control.signal.addEventListener("abort", () => observer.disconnect());
    addEventListener("beforeprint", () => this._begin(), { signal: this._control.signal });
  }

  _begin() {
    if (this._state !== "waiting") return;
    this._state = "loading";
    this._done = this._load(this._control.signal);
    this._done.catch(() => {}); // the event reports the error as well
  }

  /** @param {AbortSignal} signal */
  async _load(signal) {
    try {
      await this._show(signal);
      this._state = "loaded";
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      this._state = "failed";
      this._describe();
      this.dispatchEvent(new ErrorEvent("error", { error, message: String(error) }));
      throw error;
    }
    this.dispatchEvent(new Event("load"));
  }

  /** @param {AbortSignal} signal */
  async _show(signal) {
    const answer = await fetch(this.currentSrc, { signal });
    if (!answer.ok) throw new Error(`${this.currentSrc}: ${answer.status} ${answer.statusText}`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    client ??= open(settings);
    try {
      await this._showWhole(client, bytes, signal);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      const { missing = "", ...image } = await client.decode(bytes, { signal, partial: true });
      Object.assign(this._canvas, { width: image.width, height: image.height });
      await this._draw(image, signal);
      this._missing = missing;
    }
  }

  /**
   * @param {Client} client
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {AbortSignal} signal
   */
  async _showWhole(client, bytes, signal) {
    const { width, height } = await client.info(bytes, { signal });
    Object.assign(this._canvas, { width, height });
    await this._draw(await client.preview(bytes, SCALE, { signal, ahead: true }), signal);
    await this._draw(await client.decode(bytes, { signal }), signal);
  }

  /**
   * @param {RgbaImage} image
   * @param {AbortSignal} signal
   */
  async _draw({ data, width, height }, signal) {
    const bitmap = await createImageBitmap(new ImageData(data, width, height));
    signal.throwIfAborted();
    const context = this._canvas.getContext("2d"), { width: across, height: down } = this._canvas;
    if (!context || context.isContextLost()) throw new Error(`this browser has no canvas of ${across}x${down} pixels`);
    context.clearRect(0, 0, across, down);
    context.drawImage(bitmap, 0, 0, across, down);
    bitmap.close();
  }

  /** Set the accessible description, and show the alt text if the image cannot be shown. */
  _describe() {
    const isFailed = this._state === "failed";
    this._canvas.setAttribute("role", this.getAttribute("alt") === "" ? "presentation" : "img");
    this._canvas.setAttribute("aria-label", this.alt);
    this._canvas.hidden = isFailed;
    this._text.hidden = !isFailed;
    this._text.textContent = this.alt;
  }

  /** Apply the size in the attributes. The page's style sheets override it. */
  _hint() {
    const [width, height] = ["width", "height"].map((name) => Number.parseInt(this.getAttribute(name) ?? "", 10));
    const rules = [
      width >= 0 ? `width: ${width}px` : "",
      height >= 0 ? `height: ${height}px` : "",
      width > 0 && height > 0 ? `aspect-ratio: auto ${width} / ${height}` : "",
    ];
    this._hints.replaceSync(`:host { ${rules.filter(Boolean).join("; ")} }`);
  }
}
