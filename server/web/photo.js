/** Photo: one picture on its way to being restored, and what became of it. */

import { Problem } from "./problem.js";
import { unlikely } from "./words.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./server.js").Options} Options */
/** @typedef {import("./server.js").Progress} Progress */
/** @typedef {"waiting" | "sending" | "restoring" | "done" | "failed"} State */

/** Tells of each of its changes with the event `change`. */
export class Photo extends EventTarget {
  /** @type {State} */
  state = "waiting";
  /** Share of the present step, null where it is not known. @type {number | null} */
  fraction = null;
  /** @type {Progress | null} */
  tiles = null;
  /** Seconds until a refused photo is sent again. */
  comesBackInS = 0;
  /** @type {Answer | null} */
  answer = null;
  /** Where the restored picture can be looked at. */
  afterUrl = "";
  /** @type {Options | null} */
  restoredWith = null;
  /** @type {Problem | null} */
  problem = null;
  width = 0;
  height = 0;
  #left = new AbortController();

  /** @param {Blob} file @param {string} name @param {string} [id] */
  constructor(file, name, id = unlikely()) {
    super();
    this.file = file;
    this.name = name;
    this.id = id;
    this.beforeUrl = URL.createObjectURL(file);
  }

  /** Ends with the photo. */
  get signal() {
    return this.#left.signal;
  }

  get isUnderWay() {
    return this.state === "waiting" || this.state === "sending" || this.state === "restoring";
  }

  /** Pixels, 0 where this browser cannot read it. */
  get pixels() {
    return this.width * this.height;
  }

  /** Find out how large it is, where the browser can. */
  async measure() {
    const image = new Image();
    image.src = this.beforeUrl;
    try {
      await image.decode();
      [this.width, this.height] = [image.naturalWidth, image.naturalHeight];
    } catch {
      // TIFF, for one: the server reads more than browsers do
    }
    this.#changed();
  }

  /** @param {number} [seconds] until it is sent, where it was refused */
  wait(seconds = 0) {
    [this.state, this.fraction, this.comesBackInS, this.problem, this.tiles] = ["waiting", null, seconds, null, null];
    this.#changed();
  }

  /** @param {number} fraction of its bytes are sent */
  send(fraction) {
    [this.state, this.fraction] = fraction < 1 ? ["sending", fraction] : ["restoring", null];
    this.#changed();
  }

  /** @param {Progress} tiles */
  progress(tiles) {
    [this.state, this.tiles] = ["restoring", tiles];
    this.fraction = tiles.total ? tiles.done / tiles.total : null;
    this.#changed();
  }

  /** @param {Answer} answer @param {Options} options */
  finish(answer, options) {
    this.#forgetAnswer();
    [this.state, this.fraction, this.answer, this.restoredWith] = ["done", 1, answer, options];
    this.afterUrl = URL.createObjectURL(answer.blob);
    this.#changed();
  }

  /** @param {Problem} problem */
  fail(problem) {
    [this.state, this.fraction, this.problem] = ["failed", null, problem];
    this.#changed();
  }

  /** Stop what is under way, and free what it holds. */
  leave() {
    this.#left.abort(new DOMException("the photo was removed", "AbortError"));
    this.#forgetAnswer();
    URL.revokeObjectURL(this.beforeUrl);
  }

  #forgetAnswer() {
    if (this.afterUrl) URL.revokeObjectURL(this.afterUrl);
    [this.afterUrl, this.answer] = ["", null];
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
