/** Caption: what is said below the stage about the picture on it, and how to take it home. */

import { element, make } from "./elements.js";
import { stateOf } from "./tray.js";
import { duration, list, size } from "./words.js";

/** @typedef {import("./photo.js").Photo} Photo */

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
  #timings = element("timings", HTMLElement);
  #download = element("download", HTMLAnchorElement);
  #working = element("working", HTMLElement);
  #workingText = element("working-text", HTMLElement);
  #workingBar = element("working-bar", HTMLElement);

  /** A picture that is only looked at. @param {string} name @param {string} facts */
  preview(name, facts) {
    this.#name.textContent = name;
    this.#facts.textContent = facts;
    this.#timings.hidden = this.#download.hidden = this.#working.hidden = true;
  }

  /** @param {Photo} photo */
  show(photo) {
    const { answer, width, height, state } = photo;
    this.#name.textContent = photo.name;
    const facts = [];
    if (photo.pixels) facts.push(`${width} × ${height}`);
    if (answer) {
      facts.push(
        answer.mode === "tiled" ? "in tiles" : "in one piece",
        `${size(photo.file.size)} → ${size(answer.blob.size)}`,
      );
      if (answer.totalMs !== null) facts.push(duration(answer.totalMs));
      if (answer.found) facts.push(foundIn(answer.found));
    } else {
      facts.push(size(photo.file.size));
    }
    this.#facts.textContent = facts.join(" · ");
    this.#facts.dataset.mode = answer?.mode ?? "";
    this.#working.hidden = !photo.isUnderWay && state !== "failed";
    this.#working.dataset.state = state;
    this.#workingText.textContent = stateOf(photo);
    this.#workingBar.classList.toggle("unknown", photo.isUnderWay && photo.fraction === null);
    this.#workingBar.style.width = photo.fraction === null ? "" : `${photo.fraction * 100}%`;
    this.#download.hidden = !answer;
    if (answer) [this.#download.href, this.#download.download] = [photo.afterUrl, answer.name];
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
