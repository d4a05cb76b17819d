/** Problem: what the server says about a request it does not answer (RFC 9457), as a sentence. */

import { limit, list, megapixels } from "./words.js";

/** @typedef {Record<string, unknown>} Document */

const PROBLEM_TYPE = "application/problem+json";

export class Problem extends Error {
  /**
   * @param {number} status 0 where there was no answer
   * @param {string} sentence
   * @param {string} [allowed] what would be taken instead
   * @param {number | null} [retryAfterS]
   */
  constructor(status, sentence, allowed = "", retryAfterS = null) {
    super(sentence);
    this.status = status;
    this.allowed = allowed;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may be taken later. */
  get isPassing() {
    return this.status === 429 || this.status === 503;
  }

  /** Both sentences. */
  get text() {
    return this.allowed ? `${this.message} ${this.allowed}` : this.message;
  }

  static noAnswer() {
    return new Problem(0, "The server does not answer. Is it running, and is the network up?");
  }

  /** @param {number} status @param {string | null} type @param {string} body @param {string | null} retryAfter */
  static of(status, type, body, retryAfter) {
    const seconds = retryAfter && /^\d+$/.test(retryAfter) ? Number(retryAfter) : null;
    const document = type?.startsWith(PROBLEM_TYPE) ? parsed(body) : null;
    if (document) return Problem.ofDocument(document, status, seconds);
    return new Problem(status, fallback(status), "", seconds);
  }

  /** @param {Document} document @param {number} [status] @param {number | null} [retryAfterS] */
  static ofDocument(document, status = 0, retryAfterS = null) {
    const code = typeof document.status === "number" ? document.status : status;
    const sentence = String(document.detail || document.title || fallback(code));
    return new Problem(code, sentence, allowance(document, sentence), retryAfterS);
  }
}

/** @param {string} body @returns {Document | null} */
function parsed(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

/** @param {number} status */
function fallback(status) {
  if (status === 413) return "The photo is larger than what is in front of the server lets through.";
  if (status === 502 || status === 504) return "What is in front of the server had no answer from it in time.";
  return `The server answered with the status ${status} and no explanation.`;
}

/**
 * What is allowed, where the sentence does not name it already.
 * @param {Document} document
 * @param {string} sentence
 */
function allowance(document, sentence) {
  const parts = [];
  const formats = document.allowed_formats;
  if (Array.isArray(formats) && !formats.every((name) => sentence.includes(name))) {
    parts.push(`Taken are ${list(formats.map(String), "and")}.`);
  }
  if (typeof document.max_upload_bytes === "number") {
    parts.push(`A file may have ${limit(document.max_upload_bytes)}.`);
  }
  if (typeof document.max_image_pixels === "number") {
    parts.push(`A photo may have ${megapixels(document.max_image_pixels)}.`);
  }
  return parts.join(" ");
}
