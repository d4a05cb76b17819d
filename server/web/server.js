/** Server: the API that this page was served with. */

import { fileName, found, reportedChange, reportedFound, reportedTimings, timings } from "./answer.js";
import { readEvents } from "./events.js";
import { Problem } from "./problem.js";
import { isPlain } from "./rendition.js";
import { measure } from "./verdict.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./key.js").Key} Key */
/** @typedef {{ strength: number, format: string }} Options */
/** @typedef {{ done: number, total: number | null, leftS: number | null, isRunning: boolean }} Progress */
/**
 * @typedef {object} Description
 * @property {string} version
 * @property {string} status
 * @property {boolean} jobs
 * @property {{ artifact: string, backend: string, device: string } | null} model
 * @property {{ max_upload_bytes: number, max_image_pixels: number, input_formats: string[] }} limits
 */
/**
 * @typedef {object} Upload
 * @property {Blob} file
 * @property {string} name
 * @property {Options} options
 * @property {AbortSignal} signal
 * @property {(fraction: number) => void} onSent
 */

const COME_BACK_MS = 2000;
const MOST_LOST_STREAMS = 30;
const FINAL = ["done", "failed", "cancelled"];

export class Server {
  #key;

  /** @param {Key} key */
  constructor(key) {
    this.#key = key;
  }

  /** What the service is; asks for no key. @returns {Promise<Description>} */
  async describe() {
    return (await this.#fetch("./", { headers: { Accept: "application/json" } }, false)).json();
  }

  /** The pixels that one run holds, as far as the server says. */
  async wholePixels() {
    try {
      return Number((await (await this.#fetch("v1/limits", {}, false)).json()).max_whole_pixels);
    } catch {
      return Infinity;
    }
  }

  /** Restore and wait for it. @param {Upload} upload @returns {Promise<Answer>} */
  async restore(upload) {
    const sent = await this.#post("restore", upload, "blob");
    /** @type {Blob} */
    const blob = sent.response;
    const header = (/** @type {string} */ name) => sent.getResponseHeader(name);
    return {
      blob,
      name: fileName(header("Content-Disposition"), upload.name),
      mode: header("X-Restore-Mode") ?? "whole",
      ...timings(header("Server-Timing")),
      found: found(header("X-Degradations")),
      measured: await measure(upload.file, blob),
      isPlain: await isPlain(blob),
    };
  }

  /**
   * Restore as a job, told how far it is.
   * @param {Upload} upload
   * @param {(progress: Progress) => void} onProgress
   * @returns {Promise<Answer>}
   */
  async restoreAsJob(upload, onProgress) {
    const began = performance.now();
    const sent = await this.#post("v1/jobs", upload, "text", { report: "true" });
    const { id } = JSON.parse(sent.responseText);
    const path = `v1/jobs/${encodeURIComponent(id)}`;
    try {
      const job = await this.#watch(path, upload.signal, onProgress);
      if (job.state !== "done") throw Problem.ofDocument(job.problem ?? { detail: "The job was cancelled." });
      const result = await this.#fetch(`${path}/result`, { signal: upload.signal });
      const blob = await result.blob();
      return {
        blob,
        name: fileName(result.headers.get("Content-Disposition"), upload.name),
        mode: result.headers.get("X-Restore-Mode") ?? job.result.mode,
        ...reportedTimings(job.result.report),
        found: reportedFound(job.result.report),
        measured: (await measure(upload.file, blob)) ?? reportedChange(job.result.report),
        isPlain: await isPlain(blob),
        totalMs: performance.now() - began,
      };
    } finally {
      // Its pixels are here, or nobody wants them: neither is left on the server's disk.
      this.#fetch(path, { method: "DELETE", keepalive: true }, false).catch(() => {});
    }
  }

  /**
   * @param {string} path
   * @param {AbortSignal} signal
   * @param {(progress: Progress) => void} onProgress
   * @returns {Promise<any>} the document of the job at its end
   */
  async #watch(path, signal, onProgress) {
    let last = "";
    for (let lost = 0; lost < MOST_LOST_STREAMS; lost++) {
      try {
        const headers = last ? { "Last-Event-ID": last } : undefined;
        const stream = await this.#fetch(`${path}/events`, { headers, signal });
        if (stream.status === 204) return (await this.#fetch(path, { signal })).json();
        if (!stream.body) throw Problem.noAnswer();
        for await (const event of readEvents(stream.body)) {
          [last, lost] = [event.id, 0];
          const job = JSON.parse(event.data);
          if (FINAL.includes(event.type)) return job;
          onProgress({ ...job.tiles, leftS: job.time_left_s, isRunning: job.state === "running" });
        }
      } catch (error) {
        // A stream that breaks is taken up again: the job goes on without us.
        if (signal.aborted || (error instanceof Problem && error.status !== 0)) throw error;
      }
      await pause(COME_BACK_MS, signal);
    }
    throw Problem.noAnswer();
  }

  /**
   * @param {string} path
   * @param {RequestInit} [init]
   * @param {boolean} [asks] whether a key may be asked for
   */
  async #fetch(path, init = {}, asks = true) {
    for (;;) {
      const headers = new Headers(init.headers);
      for (const [name, value] of this.#key.headers) headers.set(name, value);
      let response;
      try {
        response = await fetch(new URL(path, document.baseURI), { cache: "no-store", ...init, headers });
      } catch (error) {
        if (init.signal?.aborted) throw error;
        throw Problem.noAnswer();
      }
      if (response.ok) return response;
      const type = response.headers.get("Content-Type");
      const problem = Problem.of(response.status, type, await response.text(), response.headers.get("Retry-After"));
      if (!asks || !this.#key.isWanted(problem)) throw problem;
      await this.#key.ask(problem, init.signal);
    }
  }

  /**
   * A form with the file, whose way up is told.
   * @param {string} path
   * @param {Upload} upload
   * @param {"blob" | "text"} type
   * @param {Record<string, string>} [more]
   * @returns {Promise<XMLHttpRequest>} one that was answered with success
   */
  async #post(path, upload, type, more = {}) {
    const url = new URL(path, document.baseURI);
    const strength = String(upload.options.strength);
    url.search = new URLSearchParams({ format: upload.options.format, strength, ...more }).toString();
    for (;;) {
      const request = await send(url, upload, type, this.#key.headers);
      if (request.status >= 200 && request.status < 300) return request;
      const body = type === "blob" ? await request.response.text() : request.responseText;
      const header = (/** @type {string} */ name) => request.getResponseHeader(name);
      const problem = Problem.of(request.status, header("Content-Type"), body, header("Retry-After"));
      if (!this.#key.isWanted(problem)) throw problem;
      await this.#key.ask(problem, upload.signal);
    }
  }
}

/**
 * XMLHttpRequest, since a fetch does not tell how much of a body has gone.
 * @param {URL} url
 * @param {Upload} upload
 * @param {"blob" | "text"} type
 * @param {[string, string][]} headers
 * @returns {Promise<XMLHttpRequest>}
 */
function send(url, { file, name, signal, onSent }, type, headers) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    signal.addEventListener("abort", abort);
    request.open("POST", url);
    request.responseType = type;
    for (const [header, value] of headers) request.setRequestHeader(header, value);
    request.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
    request.upload.onload = () => onSent(1);
    request.onload = () => resolve(request);
    request.onerror = () => reject(Problem.noAnswer());
    request.onabort = () => reject(signal.reason);
    request.onloadend = () => signal.removeEventListener("abort", abort);
    const form = new FormData();
    form.append("file", file, name);
    request.send(form);
  });
}

/** @param {number} ms @param {AbortSignal} signal @returns {Promise<void>} */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}
