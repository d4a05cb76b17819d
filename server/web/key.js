/** Key: what opens a server with access control; kept for the session of this tab. */

import { element } from "./elements.js";

/** @typedef {import("./problem.js").Problem} Problem */

const STORED_AS = "promptir-key";
const UNAUTHORISED = 401;
const FORBIDDEN = 403;

export class Key {
  #dialog = element("key", HTMLDialogElement);
  #field = element("key-value", HTMLInputElement);
  #note = element("key-note", HTMLElement);
  #value = sessionStorage.getItem(STORED_AS) ?? "";
  /** @type {Promise<void> | null} */
  #asked = null;

  constructor() {
    element("key-cancel", HTMLButtonElement).addEventListener("click", () => {
      this.#field.value = "";
      this.#dialog.close();
    });
  }

  /** What to send along. @returns {[string, string][]} */
  get headers() {
    return this.#value ? [["Authorization", `Bearer ${this.#value}`]] : [];
  }

  /** Whether another key may help: without one 403 has other reasons. @param {Problem} problem */
  isWanted({ status }) {
    return status === UNAUTHORISED || (status === FORBIDDEN && this.#value !== "");
  }

  /**
   * Ask for another key, once for all who wait for one; rejects with the problem where none is given.
   * @param {Problem} problem
   * @param {AbortSignal | null} [signal]
   */
  async ask(problem, signal) {
    this.#asked ??= this.#open(problem).finally(() => (this.#asked = null));
    await this.#asked;
    signal?.throwIfAborted();
  }

  /** @param {Problem} problem @returns {Promise<void>} */
  #open(problem) {
    if (this.#value) this.#note.textContent = `The key was not taken. ${problem.message}`;
    this.#field.value = "";
    this.#dialog.showModal();
    return new Promise((resolve, reject) => {
      const given = () => {
        const value = this.#field.value.trim();
        this.#field.value = "";
        if (!value) return reject(problem);
        this.#value = value;
        sessionStorage.setItem(STORED_AS, value);
        resolve();
      };
      this.#dialog.addEventListener("close", given, { once: true });
      this.#dialog.addEventListener("cancel", () => (this.#field.value = ""), { once: true });
    });
  }
}
