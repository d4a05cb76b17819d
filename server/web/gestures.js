/** Gestures: what fingers, mice and wheels do on the stage, as zooms, moves and divisions. */

const WHEEL_ZOOM = 0.0016;
const LINE_PX = 16;

export class Gestures {
  /** @type {(factor: number, x: number, y: number) => void} */
  onZoom = () => {};
  /** @type {(dx: number, dy: number) => void} */
  onMove = () => {};
  /** @type {(x: number) => void} */
  onDivide = () => {};
  isFit = () => true;
  hasDivider = () => false;
  #view;
  #divider;
  /** Where each pointer was last. @type {Map<number, { x: number, y: number }>} */
  #pointers = new Map();
  #divides = false;

  /** @param {HTMLElement} view @param {HTMLElement} divider */
  constructor(view, divider) {
    this.#view = view;
    this.#divider = divider;
    view.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    view.addEventListener("pointerdown", (event) => this.#onDown(event));
    view.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const end of /** @type {const} */ (["pointerup", "pointercancel"])) {
      view.addEventListener(end, (event) => this.#onUp(event));
    }
    view.addEventListener("dblclick", (event) => {
      const { x, y } = this.#at(event);
      this.onZoom(this.isFit() ? 2.5 : 1 / 64, x, y);
    });
  }

  /** @param {MouseEvent} event */
  #at(event) {
    const box = this.#view.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** @param {WheelEvent} event */
  #onWheel(event) {
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_PX : 1);
    if (pixels > 0 && this.isFit() && !event.ctrlKey) return; // the page scrolls on
    event.preventDefault();
    const { x, y } = this.#at(event);
    const eager = event.ctrlKey ? 5 : 1; // a pinch on a touchpad comes as small steps
    this.onZoom(Math.exp(-pixels * WHEEL_ZOOM * eager), x, y);
  }

  /** @param {PointerEvent} event */
  #onDown(event) {
    if (event.button > 0) return;
    this.#view.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    const onDivider = event.target instanceof Node && this.#divider.contains(event.target);
    this.#divides = this.#pointers.size === 1 && this.hasDivider() && (onDivider || this.isFit());
    if (this.#divides) {
      this.#divider.focus({ preventScroll: true });
      this.onDivide(this.#at(event).x);
      event.preventDefault(); // else the focus goes on to the view
    }
    this.#view.dataset.held = this.#divides ? "divider" : "picture";
  }

  /** @param {PointerEvent} event */
  #onMove(event) {
    const last = this.#pointers.get(event.pointerId);
    if (!last) return;
    const now = this.#at(event);
    this.#pointers.set(event.pointerId, now);
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      this.#divides = false;
      const factor = distance(now, other) / (distance(last, other) || 1);
      this.onMove((now.x - last.x) / 2, (now.y - last.y) / 2);
      this.onZoom(factor, (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else if (this.#divides) {
      this.onDivide(now.x);
    } else {
      this.onMove(now.x - last.x, now.y - last.y);
    }
  }

  /** @param {PointerEvent} event */
  #onUp(event) {
    this.#pointers.delete(event.pointerId);
    if (!this.#pointers.size) delete this.#view.dataset.held;
  }
}

/** @param {{ x: number, y: number }} one @param {{ x: number, y: number }} other */
function distance(one, other) {
  return Math.hypot(one.x - other.x, one.y - other.y);
}
