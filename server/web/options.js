/** Options: how strongly a photo is restored, and the format it is saved in. */

import { element } from "./elements.js";

/** @typedef {import("./server.js").Options} Choice */

export class Options {
  /** @type {() => void} */
  onChange = () => {};
  #strength = element("strength", HTMLInputElement);
  #strengthText = element("strength-text", HTMLOutputElement);
  #format = element("format", HTMLSelectElement);

  constructor() {
    this.#strength.addEventListener("input", () => this.#changed());
    this.#format.addEventListener("change", () => this.#changed());
    this.#changed();
  }

  /** @returns {Choice} */
  get choice() {
    return { strength: Number(this.#strength.value) / 100, format: this.#format.value };
  }

  /** Whether a photo was restored with other options than these. @param {Choice | null} other */
  differFrom(other) {
    const { strength, format } = this.choice;
    return other !== null && (other.strength !== strength || other.format !== format);
  }

  #changed() {
    this.#strengthText.value = `${this.#strength.value} %`;
    this.onChange();
  }
}
