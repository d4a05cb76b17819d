/** Stage: the chosen picture, before and after under one divider, at the same scale. */

import { element } from "./elements.js";
import { Gestures } from "./gestures.js";
import { Viewport } from "./viewport.js";

/** What is shown: two addresses, of which the second is empty until it is there, and the words for what no browser shows.
 * @typedef {{ id: string, before: string, after: string, name: string, blank: string }} Subject */

const ZOOM_STEP = 1.5;
const PAN_PX = 60;
const PIXELS_SHOW_FROM = 4;
const REVEAL_MS = 1100;
const RESTING_PLACE = 0.5;
/** Share of the view below which a side is too narrow for its name. */
const TAG_ROOM = 0.14;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Stage {
  #view = element("view", HTMLElement);
  #picture = element("picture", HTMLElement);
  #before = element("before", HTMLImageElement);
  #after = element("after", HTMLImageElement);
  #divider = element("divider", HTMLElement);
  #blank = element("blank", HTMLElement);
  #zoomText = element("zoom-text", HTMLElement);
  #viewport = new Viewport();
  /** Share of the view that lies left of the divider. */
  #place = RESTING_PLACE;
  /** @type {Subject | null} */
  #subject = null;
  /**
   * The pictures of the subject by their addresses: a large one is not decoded at each piece of news.
   * @type {Map<string, Promise<HTMLImageElement | null>>}
   */
  #pictures = new Map();
  #turn = 0;
  #revealed = 0;

  constructor() {
    const gestures = new Gestures(this.#view, this.#divider);
    gestures.onZoom = (factor, x, y) => this.#moved(() => this.#viewport.zoomBy(factor, x, y));
    gestures.onMove = (dx, dy) => this.#moved(() => this.#viewport.moveBy(dx, dy));
    gestures.onDivide = (x) => this.divide(x / (this.#viewport.width || 1));
    gestures.isFit = () => this.#viewport.isFit;
    gestures.hasDivider = () => !this.#divider.hidden;
    new ResizeObserver(() => this.#measured()).observe(this.#view);
    this.#view.addEventListener("keydown", (event) => this.#onKey(event));
    const buttons = {
      "zoom-in": () => this.zoom(ZOOM_STEP),
      "zoom-out": () => this.zoom(1 / ZOOM_STEP),
      "zoom-fit": () => this.fit(),
    };
    for (const [id, act] of Object.entries(buttons)) element(id, HTMLButtonElement).addEventListener("click", act);
    this.#measured();
  }

  /**
   * Show a picture; where it is the one that is shown, what has come to it.
   * @param {Subject} subject
   * @returns {Promise<void>}
   */
  async show(subject) {
    const last = this.#subject;
    if (last && last.before === subject.before && last.after === subject.after && last.blank === subject.blank) return;
    const turn = ++this.#turn;
    this.#subject = subject;
    const [before, after] = await Promise.all([this.#load(subject.before), this.#load(subject.after)]);
    if (turn !== this.#turn) return;
    for (const url of this.#pictures.keys())
      if (url !== subject.before && url !== subject.after) this.#pictures.delete(url);
    const size = before ?? after;
    this.#blank.hidden = size !== null;
    this.#blank.textContent = subject.blank;
    this.#picture.hidden = size === null;
    put(this.#before, before ?? after, `${subject.name}, before`);
    put(this.#after, before && after, `${subject.name}, restored`);
    const isCompared = Boolean(before && after);
    const wasCompared = !this.#divider.hidden;
    this.#divider.hidden = !isCompared;
    this.#view.dataset.compared = String(isCompared);
    this.#view.dataset.only = isCompared || !size ? "" : before ? "before" : "after";
    if (size) {
      const [width, height] = [size.naturalWidth, size.naturalHeight];
      const isSame =
        last?.id === subject.id && this.#viewport.pictureWidth === width && this.#viewport.pictureHeight === height;
      this.#picture.style.width = `${width}px`;
      this.#picture.style.height = `${height}px`;
      if (!isSame) this.#viewport.take(width, height);
    }
    this.#draw();
    if (isCompared && (!wasCompared || last?.id !== subject.id || last.after !== subject.after)) this.#reveal();
  }

  /** @param {string} url */
  #load(url) {
    const picture = this.#pictures.get(url) ?? loaded(url);
    this.#pictures.set(url, picture);
    return picture;
  }

  /** @param {number} factor */
  zoom(factor) {
    this.#moved(() => this.#viewport.zoomBy(factor));
  }

  fit() {
    this.#moved(() => this.#viewport.fit());
  }

  /** Mix the restored picture with the original. @param {number} share of the restored one, 0 to 1 */
  blend(share) {
    this.#after.style.opacity = String(share);
  }

  /** Show the original alone, for as long as somebody holds a button. @param {boolean} isHeld */
  peek(isHeld) {
    this.#view.dataset.peek = String(isHeld);
  }

  /** Put the divider at a share of the view's width. @param {number} place */
  divide(place) {
    this.#revealed++; // a reveal that goes on gives way
    this.#place = Math.min(Math.max(place, 0), 1);
    this.#draw();
  }

  /** The restored picture slides in from the right. */
  #reveal() {
    const turn = ++this.#revealed;
    this.#place = RESTING_PLACE;
    if (calm.matches) return this.#draw();
    const began = performance.now();
    const step = (/** @type {number} */ now) => {
      if (turn !== this.#revealed) return;
      const share = Math.min(Math.max((now - began) / REVEAL_MS, 0), 1);
      const eased = 1 - (1 - share) ** 4;
      this.#place = 1 - (1 - RESTING_PLACE) * eased;
      this.#draw();
      if (share < 1) requestAnimationFrame(step);
    };
    step(began);
  }

  #measured() {
    const { clientWidth, clientHeight } = this.#view;
    this.#moved(() => this.#viewport.resize(clientWidth, clientHeight));
  }

  /** @param {() => void} move */
  #moved(move) {
    move();
    this.#draw();
  }

  #draw() {
    const { x, y, scale, width, isFit } = this.#viewport;
    this.#picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.#picture.classList.toggle("pixels", scale >= PIXELS_SHOW_FROM);
    this.#view.dataset.fit = String(isFit);
    this.#view.dataset.covered = this.#place < TAG_ROOM ? "before" : this.#place > 1 - TAG_ROOM ? "after" : "";
    this.#after.style.clipPath = `inset(0 0 0 ${this.#viewport.shareAt(this.#place * width) * 100}%)`;
    this.#divider.style.left = `${this.#place * 100}%`;
    const percent = Math.round(this.#place * 100);
    this.#divider.setAttribute("aria-valuenow", String(percent));
    this.#divider.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % restored`);
    this.#zoomText.textContent = `${Math.round(scale * 100)} %`;
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const divides = event.target === this.#divider || (this.#viewport.isFit && !this.#divider.hidden);
    const step = event.shiftKey ? 0.1 : 0.02;
    /** @type {Record<string, () => void>} */
    const dividing = {
      ArrowLeft: () => this.divide(this.#place - step),
      ArrowRight: () => this.divide(this.#place + step),
      ArrowDown: () => this.divide(this.#place - step),
      ArrowUp: () => this.divide(this.#place + step),
      PageDown: () => this.divide(this.#place - 0.1),
      PageUp: () => this.divide(this.#place + 0.1),
      Home: () => this.divide(0),
      End: () => this.divide(1),
    };
    /** @type {Record<string, () => void>} */
    const moving = {
      ArrowLeft: () => this.#moved(() => this.#viewport.moveBy(PAN_PX, 0)),
      ArrowRight: () => this.#moved(() => this.#viewport.moveBy(-PAN_PX, 0)),
      ArrowUp: () => this.#moved(() => this.#viewport.moveBy(0, PAN_PX)),
      ArrowDown: () => this.#moved(() => this.#viewport.moveBy(0, -PAN_PX)),
    };
    /** @type {Record<string, () => void>} */
    const zooming = {
      "+": () => this.zoom(ZOOM_STEP),
      "=": () => this.zoom(ZOOM_STEP),
      "-": () => this.zoom(1 / ZOOM_STEP),
      0: () => this.fit(),
      1: () => this.#moved(() => this.#viewport.zoomTo(1)),
    };
    const act = zooming[event.key] ?? (divides ? dividing : this.#viewport.isFit ? {} : moving)[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}

/**
 * The picture at an address, null where there is none or the browser cannot read it.
 * @param {string} url
 * @returns {Promise<HTMLImageElement | null>}
 */
async function loaded(url) {
  if (!url) return null;
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return image;
  } catch {
    return null;
  }
}

/** @param {HTMLImageElement} place @param {HTMLImageElement | null} image @param {string} words */
function put(place, image, words) {
  place.hidden = image === null;
  if (image) [place.src, place.alt] = [image.src, words];
  else place.removeAttribute("src");
}
