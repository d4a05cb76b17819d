/** Queue: the photos that wait to be restored, a few at a time. */

import { Problem, isRaw, named } from "./problem.js";
import { pause } from "./server.js";
import { limit, size } from "./words.js";

/** @typedef {import("./photo.js").Photo} Photo */
/** @typedef {import("./server.js").Options} Options */
/** @typedef {import("./server.js").Server} Server */

const AT_A_TIME = 2;
const MOST_REFUSALS = 8;
const LONGEST_WAIT_S = 60;
/** Longer than this is a job: its progress is told, and no connection has to last. */
const SLOW_MS = 15_000;
/** Of files whose pixels the browser cannot count. */
const LARGE_BYTES = 4_000_000;

export class Queue {
  /** Told by the service before the queue opens: whether it takes jobs, the pixels of one run, the bytes of a file. */
  jobs = false;
  wholePixels = Infinity;
  mostBytes = Infinity;
  #server;
  #options;
  /** @type {{ photo: Photo, asChosen: boolean }[]} */
  #waiting = [];
  #running = 0;
  #isOpen = false;
  /** Of the last answer. */
  #msPerPixel = 0;

  /** Is told of each photo that was restored. @type {(photo: Photo) => void} */
  onRestored = () => {};

  /** @param {Server} server @param {() => Options} options what is chosen at the moment */
  constructor(server, options) {
    this.#server = server;
    this.#options = options;
  }

  /** Begin: the service has been asked what it takes, so that each photo is sent the right way. */
  open() {
    this.#isOpen = true;
    this.#next();
  }

  /**
   * @param {Photo} photo
   * @param {boolean} [asChosen] at the strength that is chosen, and not at full strength to be blended here
   */
  add(photo, asChosen = false) {
    photo.wait();
    this.#waiting.push({ photo, asChosen });
    this.#next();
  }

  #next() {
    while (this.#isOpen && this.#running < AT_A_TIME) {
      const next = this.#waiting.shift();
      if (!next) return;
      const { photo, asChosen } = next;
      if (photo.signal.aborted) continue;
      this.#running++;
      this.#restore(photo, asChosen)
        .then(() => this.onRestored(photo))
        .catch((error) => {
          if (!photo.signal.aborted) photo.fail(error instanceof Problem ? named(error, photo.name) : unforeseen(error));
        })
        .finally(() => {
          this.#running--;
          this.#next();
        });
    }
  }

  /** @param {Photo} photo @param {boolean} asChosen */
  async #restore(photo, asChosen) {
    if (isRaw(photo.name)) throw Problem.raw(photo.name);
    if (!photo.file.size) throw Problem.empty();
    if (photo.file.size > this.mostBytes) throw tooLarge(photo.file.size, this.mostBytes);
    await photo.measure();
    const chosen = this.#options();
    // What the page can show, it can blend: no second run for another strength.
    const options = asChosen || !photo.pixels ? chosen : { ...chosen, strength: 1 };
    for (let refusals = 0; ; refusals++) {
      try {
        const answer = await this.#send(photo, options);
        if (photo.pixels && answer.totalMs) this.#msPerPixel = answer.totalMs / photo.pixels;
        photo.signal.throwIfAborted();
        return photo.finish(answer, options);
      } catch (error) {
        if (!(error instanceof Problem && error.isPassing) || refusals === MOST_REFUSALS) throw error;
        const seconds = error.retryAfterS ?? 2 ** Math.min(refusals, 4);
        if (seconds > LONGEST_WAIT_S) throw error;
        photo.wait(seconds);
        await pause(seconds * 1000, photo.signal);
      }
    }
  }

  /** @param {Photo} photo @param {Options} options */
  async #send(photo, options) {
    const { file, name, signal } = photo;
    const upload = { file, name, options, signal, onSent: (/** @type {number} */ sent) => photo.send(sent) };
    photo.send(0);
    if (this.#isLong(photo)) return this.#server.restoreAsJob(upload, (tiles) => photo.progress(tiles));
    return this.#server.restore(upload);
  }

  /** @param {Photo} photo */
  #isLong(photo) {
    if (!this.jobs) return false;
    if (!photo.pixels) return photo.file.size > LARGE_BYTES;
    return photo.pixels > this.wholePixels || photo.pixels * this.#msPerPixel > SLOW_MS;
  }
}

/** Said here, before so much is sent for nothing. @param {number} bytes @param {number} most */
function tooLarge(bytes, most) {
  return new Problem(413, `The file has ${size(bytes)}.`, `It may have ${limit(most)}.`);
}

/** @param {unknown} error */
function unforeseen(error) {
  console.error(error);
  return new Problem(0, "This page failed in a way it did not foresee. Loading it again may help.");
}
