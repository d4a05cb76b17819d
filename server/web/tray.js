/** Tray: the list of photos, a progress entry for each. */

import { announce, element, make } from "./elements.js";
import { offer } from "./rendition.js";
import { sentence } from "./verdict.js";
import { span } from "./words.js";

/** @typedef {import("./photo.js").Photo} Photo */
/** @typedef {import("./server.js").Options} Options */
/** @typedef {{ item: HTMLLIElement, draw: () => void }} Entry */

export class Tray {
  /** @type {(photo: Photo) => void} */
  onChosen = () => {};
  /** @type {(photo: Photo) => void} */
  onAgain = () => {};
  /** @type {(photo: Photo) => void} */
  onRemoved = () => {};
  /** @type {(photos: Photo[]) => void} */
  onDownloadAll = () => {};
  /** @type {(error: unknown) => void} */
  onFailure = () => {};
  /** @type {Map<Photo, Entry>} */
  #entries = new Map();
  #section = element("tray", HTMLElement);
  #list = element("entries", HTMLUListElement);
  #downloadAll = element("download-all", HTMLButtonElement);
  /** @type {Photo | null} */
  #chosen = null;

  #options;

  /** @param {() => Options} options what is chosen at the moment */
  constructor(options) {
    this.#options = options;
    element("clear", HTMLButtonElement).addEventListener("click", () => {
      for (const photo of [...this.#entries.keys()]) this.onRemoved(photo);
      element("files", HTMLInputElement).focus();
    });
    this.#downloadAll.addEventListener("click", () => this.onDownloadAll(this.photos.filter(({ answer }) => answer)));
  }

  get photos() {
    return [...this.#entries.keys()];
  }

  /** @param {Photo} photo */
  add(photo) {
    const entry = makeEntry(photo, {
      options: this.#options,
      failed: (error) => this.onFailure(error),
      choose: () => this.onChosen(photo),
      again: () => this.onAgain(photo),
      remove: () => {
        const neighbour = entry.item.nextElementSibling ?? entry.item.previousElementSibling;
        this.onRemoved(photo);
        const next = neighbour?.querySelector("button") ?? element("files", HTMLInputElement);
        next.focus();
      },
    });
    this.#entries.set(photo, entry);
    this.#list.append(entry.item);
    this.#changed();
    photo.addEventListener("change", () => this.#changed());
  }

  /** @param {Photo} photo */
  remove(photo) {
    this.#entries.get(photo)?.item.remove();
    this.#entries.delete(photo);
    this.#changed();
  }

  /** Other options are chosen: what a photo is saved as follows them. */
  draw() {
    for (const { draw } of this.#entries.values()) draw();
  }

  /** Mark the one that is on the stage. @param {Photo | null} photo */
  choose(photo) {
    this.#chosen = photo;
    for (const [other, { item }] of this.#entries) {
      const isChosen = other === this.#chosen;
      item.classList.toggle("chosen", isChosen);
      item.querySelector(".open")?.setAttribute("aria-pressed", String(isChosen));
    }
  }

  #changed() {
    const photos = this.photos;
    this.#section.hidden = !photos.length;
    document.documentElement.classList.toggle("has-photos", photos.length > 0);
    this.#downloadAll.hidden = photos.filter((photo) => photo.answer).length < 2;
  }
}

/** @param {Photo} photo What of it there is to say, in a few words. @returns {string} */
export function stateOf(photo) {
  const { state, fraction, tiles, comesBackInS, problem } = photo;
  if (state === "failed") return problem?.text ?? "";
  if (state === "done") return sentence(photo.answer?.measured ?? null, photo.answer?.found ?? null);
  if (state === "sending") return `Sending ${Math.floor((fraction ?? 0) * 100)} %`;
  if (state === "waiting") return comesBackInS ? `The server is busy, next try in ${span(comesBackInS)}` : "Waiting";
  if (!tiles) return "Restoring";
  if (!tiles.total) return tiles.isRunning ? "Restoring" : "Waiting for its turn"; // not yet cut into tiles
  const left = tiles.leftS === null ? "" : `, ${span(tiles.leftS)} left`;
  return `Tile ${tiles.done} of ${tiles.total}${left}`;
}

/**
 * @param {Photo} photo
 * @param {object} given
 * @param {() => void} given.choose
 * @param {() => void} given.again
 * @param {() => void} given.remove
 * @param {() => Options} given.options
 * @param {(error: unknown) => void} given.failed
 * @returns {Entry}
 */
function makeEntry(photo, { choose, again, remove, options, failed }) {
  const item = make("li", "entry");
  const open = make("button", "open");
  open.type = "button";
  const frame = make("span", "frame");
  const picture = make("img");
  picture.alt = "";
  picture.src = photo.beforeUrl;
  picture.addEventListener("error", () => (picture.hidden = true));
  picture.addEventListener("load", () => (picture.hidden = false));
  frame.append(picture);
  const words = make("span", "words");
  const state = make("span", "state");
  words.append(make("span", "name", photo.name), state);
  open.append(frame, words);
  open.addEventListener("click", choose);
  const bar = make("span", "bar");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", `Progress of ${photo.name}`);
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  const filled = make("span");
  bar.append(filled);
  const retry = action("Try again", `Try ${photo.name} again`, again);
  const save = make("a", "button small", "Save");
  const drop = action("×", `Remove ${photo.name}`, remove);
  drop.classList.add("cross");
  item.append(open, save, retry, drop, bar);

  let told = "";
  const draw = () => {
    item.dataset.state = photo.state;
    state.textContent = stateOf(photo);
    bar.hidden = !photo.isUnderWay;
    const known = photo.fraction !== null;
    bar.classList.toggle("unknown", !known);
    filled.style.width = known ? `${(photo.fraction ?? 0) * 100}%` : "";
    if (known) bar.setAttribute("aria-valuenow", String(Math.round((photo.fraction ?? 0) * 100)));
    else bar.removeAttribute("aria-valuenow");
    retry.hidden = photo.state !== "failed" || !photo.problem?.isWorthAnotherTry;
    save.hidden = !photo.answer;
    if (photo.answer) {
      offer(save, photo, options(), failed);
      save.setAttribute("aria-label", `Save ${save.download}`);
      if (picture.src !== photo.afterUrl) picture.src = photo.afterUrl;
    }
    if (photo.state !== told && ["done", "failed"].includes(photo.state)) announce(`${photo.name}: ${stateOf(photo)}`);
    told = photo.state;
  };
  photo.addEventListener("change", draw);
  draw();
  return { item, draw };
}

/** @param {string} text @param {string} label @param {() => void} act */
function action(text, label, act) {
  const button = make("button", "button small", text);
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", act);
  return button;
}
