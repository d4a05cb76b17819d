/** History: the restored photos of this tab, kept in this browser so that they survive a reload. */

import { Photo } from "./photo.js";
import { unlikely } from "./words.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./server.js").Options} Options */
/**
 * @typedef {object} Kept
 * @property {string} id
 * @property {string} tab
 * @property {number} at milliseconds since 1970
 * @property {string} name
 * @property {Blob} file
 * @property {Answer} answer
 * @property {Options} restoredWith
 */

const NAME = "promptir";
const STORE = "photos";
const TAB = "promptir-tab";
/** Ids that this tab has removed. Written at once, because a reload aborts a deletion that is still on its way. */
const REMOVED = "promptir-removed";
/** Bounds over all tabs; the oldest go first. */
const MOST_PHOTOS = 24;
const MOST_BYTES = 300_000_000;
const LONGEST_MS = 24 * 3600 * 1000;

export class History {
  /** @type {Promise<IDBDatabase | null>} null where this browser keeps nothing, as in some private windows */
  #database = opened();
  #tab = tabName();

  /** The photos of this tab, oldest first. @returns {Promise<Photo[]>} */
  async photos() {
    const removed = removedIds();
    if (removed.length) {
      await this.#write((store) => removed.forEach((id) => store.delete(id)));
      sessionStorage.removeItem(REMOVED);
    }
    await this.#prune();
    const kept = (await this.#all()).filter(({ tab }) => tab === this.#tab);
    return kept.map(({ id, file, name, answer, restoredWith }) => {
      const photo = new Photo(file, name, id);
      photo.finish(answer, restoredWith);
      return photo;
    });
  }

  /** Keep a photo that is restored, in the place of what was kept of it. @param {Photo} photo */
  async keep(photo) {
    const { id, file, name, answer, restoredWith } = photo;
    if (!answer || !restoredWith || file.size + answer.blob.size > MOST_BYTES) return;
    await this.#write((store) => store.put({ id, tab: this.#tab, at: Date.now(), name, file, answer, restoredWith }));
    await this.#prune();
  }

  /** @param {Photo} photo */
  async forget({ id }) {
    sessionStorage.setItem(REMOVED, JSON.stringify([...removedIds(), id]));
    await this.#write((store) => store.delete(id));
  }

  async #prune() {
    let [count, bytes] = [0, 0];
    const gone = (await this.#all()).reverse().filter(({ at, file, answer }) => {
      count++;
      bytes += file.size + answer.blob.size;
      return count > MOST_PHOTOS || bytes > MOST_BYTES || Date.now() - at > LONGEST_MS;
    });
    if (gone.length) await this.#write((store) => gone.forEach(({ id }) => store.delete(id)));
  }

  /** @returns {Promise<Kept[]>} of every tab, oldest first */
  async #all() {
    const database = await this.#database;
    if (!database) return [];
    const request = database.transaction(STORE).objectStore(STORE).getAll();
    return new Promise((resolve) => {
      request.onsuccess = () => resolve(request.result.sort((one, other) => one.at - other.at));
      request.onerror = () => resolve([]);
    });
  }

  /** What cannot be written, as on a full disk, is not kept. @param {(store: IDBObjectStore) => void} change */
  async #write(change) {
    const database = await this.#database;
    if (!database) return;
    await new Promise((resolve) => {
      const transaction = database.transaction(STORE, "readwrite");
      transaction.oncomplete = transaction.onabort = transaction.onerror = resolve;
      change(transaction.objectStore(STORE));
    });
  }
}

/** @returns {Promise<IDBDatabase | null>} */
function opened() {
  return new Promise((resolve) => {
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = request.onblocked = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
}

/** @returns {string[]} */
function removedIds() {
  return JSON.parse(sessionStorage.getItem(REMOVED) ?? "[]");
}

/** A name that a reload keeps and another tab does not have. */
function tabName() {
  const name = sessionStorage.getItem(TAB) ?? unlikely();
  sessionStorage.setItem(TAB, name);
  return name;
}
