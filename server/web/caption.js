/** Caption: the words below the stage, and the buttons that save what is on it. */

import { element, make } from "./elements.js";
import { stateOf } from "./tray.js";
import { offer, way } from "./rendition.js";
import { duration, list, size } from "./words.js";

/** @typedef {import("./photo.js").Photo} Photo */
/** @typedef {import("./server.js").Options} Options */

const MADE_HERE = "Made in this page, without camera data. “Restore again” has the server make it, and keeps that data.";
const NEEDS_A_RUN = "This takes another run: the download is still the photo as it was restored.";

const MEANING = /** @type {Record<string, string>} */ ({
  decode: "Reading the file",
  queue: "Waiting for its run",
  inference: "The network",
  encode: "Writing the file",
});

const NAMES = /** @type {Record<string, string>} */ ({ jpeg: "JPEG blocks" });

/** What the network found, in words. @param {string[]} labels */
function foundIn(labels) {
  return labels.length ? `${list(labels.map((label) => NAMES[label] ?? label), "and")} found` : "looks clean";
}

export class Caption {
  #name = element("caption-name", HTMLElement);
  #facts = element("caption-facts", HTMLElement);
  #figures = element("figures", HTMLDetailsElement);
  #figuresFacts = element("figures-facts", HTMLElement);
  #timings = element("timings", HTMLElement);
  #note = element("save-note", HTMLElement);
  #download = element("download", HTMLAnchorElement);
  #working = element("working", HTMLElement);
  #workingText = element("working-text", HTMLElement);
  #workingBar = element("working-bar", HTMLElement);

  /** A picture that is only looked at. @param {string} name @param {string} facts */
  preview(name, facts) {
    this.#name.textContent = name;
    this.#facts.textContent = facts;
    this.#figures.hidden = this.#download.hidden = this.#working.hidden = this.#note.hidden = true;
  }

  /**
   * @param {Photo} photo
   * @param {Options} choice
   * @param {(error: unknown) => void} onFailure of a file that is made here
   */
  show(photo, choice, onFailure) {
    const { answer, width, height, state } = photo;
    this.#name.textContent = photo.name;
    const [facts, figures] = [/** @type {string[]} */ ([]), /** @type {string[]} */ ([])];
    if (photo.pixels) facts.push(`${width} × ${height}`);
    if (answer) {
      facts.push(stateOf(photo));
      figures.push(
        answer.mode === "tiled" ? "in tiles" : "in one piece",
        `${size(photo.file.size)} → ${size(answer.blob.size)}`,
      );
      if (answer.totalMs !== null) figures.push(duration(answer.totalMs));
      if (answer.found) figures.push(foundIn(answer.found));
      if (answer.measured) figures.push(`${(answer.measured.change * 100).toFixed(1)} % mean change`);
    } else {
      facts.push(size(photo.file.size));
    }
    this.#facts.textContent = facts.join(" · ");
    this.#figuresFacts.textContent = figures.join(" · ");
    this.#figures.hidden = !answer;
    this.#facts.dataset.mode = answer?.mode ?? "";
    this.#working.hidden = !photo.isUnderWay && state !== "failed";
    this.#working.dataset.state = state;
    this.#workingText.textContent = stateOf(photo);
    this.#workingBar.classList.toggle("unknown", photo.isUnderWay && photo.fraction === null);
    this.#workingBar.style.width = photo.fraction === null ? "" : `${photo.fraction * 100}%`;
    this.#download.hidden = !answer;
    const how = way(photo, choice);
    this.#note.hidden = !answer || how === "kept";
    this.#note.textContent = how === "here" ? MADE_HERE : NEEDS_A_RUN;
    if (answer) offer(this.#download, photo, choice, onFailure);
    this.#draw(answer?.stages ?? []);
  }

  /** @param {import("./answer.js").Stage[]} stages */
  #draw(stages) {
    this.#timings.hidden = !stages.length;
    const longest = Math.max(...stages.map(({ ms }) => ms), 1);
    this.#timings.replaceChildren(
      ...stages.map(({ name, ms }) => {
        const row = make("div", "timing");
        row.dataset.stage = name;
        const value = make("dd", "", duration(ms));
        const bar = make("dd", "length");
        bar.setAttribute("aria-hidden", "true");
        const filled = make("span");
        filled.style.width = `${Math.max((ms / longest) * 100, 1)}%`;
        bar.append(filled);
        row.append(make("dt", "", MEANING[name] ?? name), value, bar);
        return row;
      }),
    );
  }
}
