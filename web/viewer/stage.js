/** A frame for an image: zoomed by wheel, pinch and keys, moved by pointers and arrow keys, divided by a line. */

const STEP = 1.25, LARGEST = 32, PAN = 60, NEAR = 3; // PAN in pixels; scales from NEAR on show single pixels
const WHEEL = 0.002; // log of the zoom factor per pixel of the wheel

/** @typedef {{x: number, y: number}} Point in pixels of the frame */

/** A frame. Its `.sheet` holds the images; the `.rival` is visible to the right of the `.line`. */
export class Stage {
  /**
   * @param {HTMLElement} frame
   * @param {(scale: number) => void} tell called when the scale changes
   */
  constructor(frame, tell) {
    this._frame = frame;
    this._tell = tell;
    const part = (/** @type {string} */ name) => /** @type {HTMLElement} */ (frame.querySelector(`.${name}`));
    this._sheet = part("sheet");
    this._rival = part("rival");
    this._line = part("line");
    this._width = this._height = this._scale = 1;
    this._left = this._top = 0;
    this._split = 0.5;
    this._isFitted = true;
    /** @type {Map<number, Point>} */
    this._pointers = new Map();
    new ResizeObserver(() => (this._isFitted ? this.fit() : this._put())).observe(frame);
    this._listen();
  }

  /**
   * Set the size of the image, and fit it into the frame.
   * @param {number} width
   * @param {number} height
   */
  setSize(width, height) {
    this._width = width;
    this._height = height;
    this.fit();
  }

  /** @param {number} share position of the line, as a fraction of the frame's width */
  setSplit(share) {
    this._split = share;
    this._put();
  }

  /** Fit the image into the frame. A small image is not enlarged. */
  fit() {
    this._scale = this._fitting();
    this._put();
    this._isFitted = true;
  }

  /** Show one image pixel per screen pixel. */
  full() {
    this._zoomTo(1 / devicePixelRatio, this._middle());
  }

  /** @param {number} steps positive to zoom in, negative to zoom out */
  zoom(steps) {
    this._zoomTo(this._scale * STEP ** steps, this._middle());
  }

  _fitting() {
    const { clientWidth, clientHeight } = this._frame;
    return Math.min(clientWidth / this._width, clientHeight / this._height, 1) || 1;
  }

  /** @returns {Point} */
  _middle() {
    return { x: this._frame.clientWidth / 2, y: this._frame.clientHeight / 2 };
  }

  /**
   * @param {number} scale
   * @param {Point} fixed point that keeps its position
   */
  _zoomTo(scale, { x, y }) {
    const least = Math.min(this._fitting(), 1 / devicePixelRatio) / 2;
    const factor = Math.min(Math.max(scale, least), LARGEST) / this._scale;
    this._left = x - factor * (x - this._left);
    this._top = y - factor * (y - this._top);
    this._scale *= factor;
    this._put();
  }

  /**
   * @param {number} right
   * @param {number} down
   */
  _move(right, down) {
    this._left += right;
    this._top += down;
    this._put();
  }

  /** Centre the sheet where it is smaller than the frame; otherwise leave no gap. */
  _put() {
    const { clientWidth, clientHeight } = this._frame, width = this._scale * this._width;
    this._isFitted = false;
    this._left = within(this._left, clientWidth - width);
    this._top = within(this._top, clientHeight - this._scale * this._height);
    Object.assign(this._sheet.style, {
      width: `${this._width}px`,
      height: `${this._height}px`,
      transform: `translate(${this._left}px, ${this._top}px) scale(${this._scale})`,
    });
    this._sheet.classList.toggle("near", this._scale * devicePixelRatio >= NEAR);
    const cut = Math.min(Math.max((this._split * clientWidth - this._left) / width, 0), 1);
    this._rival.style.clipPath = `inset(0 0 0 ${100 * cut}%)`;
    this._line.style.left = `${100 * this._split}%`;
    this._tell(this._scale * devicePixelRatio);
  }

  _listen() {
    const frame = this._frame;
    frame.addEventListener("wheel", (event) => {
      event.preventDefault();
      this._zoomTo(this._scale * Math.exp(-WHEEL * event.deltaY), this._pointOf(event));
    }, { passive: false });
    frame.addEventListener("pointerdown", (event) => {
      frame.setPointerCapture(event.pointerId);
      this._pointers.set(event.pointerId, this._pointOf(event));
    });
    frame.addEventListener("pointermove", (event) => this._drag(event));
    for (const kind of /** @type {const} */ (["pointerup", "pointercancel"])) {
      frame.addEventListener(kind, ({ pointerId }) => this._pointers.delete(pointerId));
    }
    frame.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && this._press(event.key)) event.preventDefault();
    });
  }

  /** @param {PointerEvent} event moves the image with one pointer, and zooms it with two */
  _drag(event) {
    const before = this._pointers.get(event.pointerId), now = this._pointOf(event);
    if (!before) return;
    const other = [...this._pointers].find(([id]) => id !== event.pointerId)?.[1];
    this._pointers.set(event.pointerId, now);
    if (other) this._zoomTo(this._scale * distance(now, other) / Math.max(distance(before, other), 1), other);
    else this._move(now.x - before.x, now.y - before.y);
  }

  /**
   * @param {string} key
   * @returns {boolean} whether the key has a function
   */
  _press(key) {
    const act = /** @type {Record<string, () => void>} */ ({
      "+": () => this.zoom(1),
      "=": () => this.zoom(1),
      "-": () => this.zoom(-1),
      0: () => this.fit(),
      1: () => this.full(),
      ArrowLeft: () => this._move(PAN, 0),
      ArrowRight: () => this._move(-PAN, 0),
      ArrowUp: () => this._move(0, PAN),
      ArrowDown: () => this._move(0, -PAN),
    })[key];
    act?.();
    return Boolean(act);
  }

  /**
   * @param {MouseEvent} event
   * @returns {Point}
   */
  _pointOf({ clientX, clientY }) {
    const { left, top } = this._frame.getBoundingClientRect();
    return { x: clientX - left, y: clientY - top };
  }
}

/**
 * Return the start of a sheet in its frame.
 * @param {number} start
 * @param {number} room size of the frame minus size of the sheet
 */
function within(start, room) {
  return room >= 0 ? room / 2 : Math.min(Math.max(start, room), 0);
}

/**
 * @param {Point} one
 * @param {Point} other
 */
function distance(one, other) {
  return Math.hypot(one.x - other.x, one.y - other.y);
}
