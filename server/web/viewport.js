/** Viewport: which part of a picture is seen, and how large; numbers only. */

const MOST_SCALE = 16;
/** A tiny picture is not blown up further than this to fill the view. */
const MOST_FIT = 4;

export class Viewport {
  scale = 1;
  /** Where the picture's upper left corner is, in the view. */
  x = 0;
  y = 0;
  width = 0;
  height = 0;
  pictureWidth = 0;
  pictureHeight = 0;

  get fitScale() {
    if (!this.pictureWidth || !this.width) return 1;
    return Math.min(this.width / this.pictureWidth, this.height / this.pictureHeight, MOST_FIT);
  }

  get isFit() {
    return this.scale <= this.fitScale * 1.001;
  }

  /** The view has another size; a picture that filled it still does. @param {number} width @param {number} height */
  resize(width, height) {
    const wasFit = this.isFit;
    [this.width, this.height] = [width, height];
    if (wasFit) this.fit();
    else this.zoomTo(this.scale);
  }

  /** Another picture. @param {number} width @param {number} height */
  take(width, height) {
    [this.pictureWidth, this.pictureHeight] = [width, height];
    this.fit();
  }

  fit() {
    this.zoomTo(this.fitScale);
  }

  /**
   * Zoom while a point of the view stays where it is.
   * @param {number} factor
   * @param {number} [x]
   * @param {number} [y]
   */
  zoomBy(factor, x, y) {
    this.zoomTo(this.scale * factor, x, y);
  }

  /** @param {number} scale @param {number} [x] @param {number} [y] */
  zoomTo(scale, x = this.width / 2, y = this.height / 2) {
    const fit = this.fitScale;
    const next = Math.min(Math.max(scale, fit), Math.max(MOST_SCALE, fit));
    const factor = next / this.scale;
    this.x = x - (x - this.x) * factor;
    this.y = y - (y - this.y) * factor;
    this.scale = next;
    this.#hold();
  }

  /** @param {number} dx @param {number} dy */
  moveBy(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.#hold();
  }

  /** The share of the picture's width that lies left of a place in the view, 0 to 1. @param {number} x */
  shareAt(x) {
    const share = (x - this.x) / (this.pictureWidth * this.scale || 1);
    return Math.min(Math.max(share, 0), 1);
  }

  #hold() {
    this.x = held(this.x, this.width, this.pictureWidth * this.scale);
    this.y = held(this.y, this.height, this.pictureHeight * this.scale);
  }
}

/**
 * In the middle where it is smaller than the view, else without a gap at either end.
 * @param {number} at
 * @param {number} room
 * @param {number} length
 */
function held(at, room, length) {
  if (length <= room) return (room - length) / 2;
  return Math.min(0, Math.max(room - length, at));
}
