/** Problem: what the server says about a request it does not answer (RFC 9457), as a sentence. */

import { limit, list, megapixels } from "./words.js";

/** @typedef {Record<string, unknown>} Document */

const RAW = /\.(3fr|arw|cr2|cr3|crw|dng|erf|fff|iiq|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw2|rwl|sr2|srf|srw|x3f)$/i;
const HEIC = /\.(heic|heif|hif)$/i;
const UNSUPPORTED = 415;
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

  /** Whether trying again may help: never where the photo itself or the question was refused. */
  get isWorthAnotherTry() {
    return this.status === 0 || [401, 403, 408].includes(this.status) || this.isPassing || this.status >= 500;
  }

  /** Both sentences. */
  get text() {
    return this.allowed ? `${this.message} ${this.allowed}` : this.message;
  }

  /** A camera's raw file, which holds no finished picture. @param {string} name */
  static raw(name) {
    const ending = name.slice(name.lastIndexOf(".")).toUpperCase();
    const advice = "Develop it first, and save it as TIFF, PNG or JPEG.";
    return new Problem(415, `${ending} is a camera's raw file, and raw files are not taken.`, advice);
  }

  static empty() {
    return new Problem(400, "The file is empty.");
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

/** Whether a file is a camera's raw file, by its name: many of them begin like a TIFF. @param {string} name */
export function isRaw(name) {
  return RAW.test(name);
}

/** The problem with a way out, where the file is a HEIC and this server reads none. @param {Problem} problem @param {string} name */
export function named(problem, name) {
  if (problem.status !== UNSUPPORTED || !HEIC.test(name)) return problem;
  const advice = "This server reads no HEIC. On an iPhone, Settings, Camera, Formats, Most Compatible takes JPEG.";
  return new Problem(problem.status, problem.message, `${problem.allowed} ${advice}`.trim());
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
