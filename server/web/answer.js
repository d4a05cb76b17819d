/** Answer: a restored photo as the server sent it, with its name, its mode, the timings and what changed. */

/** @typedef {{ name: string, ms: number }} Stage */
/**
 * @typedef {object} Answer
 * @property {Blob} blob
 * @property {string} name
 * @property {string} mode whole or tiled
 * @property {Stage[]} stages
 * @property {number | null} totalMs
 * @property {string[] | null} found degradations that the network named; null where it names none
 * @property {import("./verdict.js").Measured | null} measured how much changed; null where nobody measured it
 * @property {boolean} isPlain whether a canvas holds all of it
 */

const STAGES = ["decode", "queue", "inference", "encode"];

/** The stages and the total of a Server-Timing header. @param {string | null} header */
export function timings(header) {
  const found = new Map();
  for (const part of (header ?? "").split(",")) {
    const [, name, ms] = /^\s*([\w-]+)\s*;.*?dur=([\d.]+)/.exec(part) ?? [];
    if (name) found.set(name, Number(ms));
  }
  const stages = STAGES.filter((name) => found.has(name)).map((name) => ({ name, ms: found.get(name) }));
  return { stages, totalMs: found.get("total") ?? null };
}

/** A degradation more probable than this is named. */
const PRESENT = 0.5;

/** What an X-Degradations header names; null without one. @param {string | null} header */
export function found(header) {
  if (header === null) return null;
  const pairs = header.split(",").map((part) => part.trim().split("="));
  return pairs.filter(([, probability]) => Number(probability) > PRESENT).map(([label]) => label);
}

/** The same from the report of a job. @param {Record<string, any> | null | undefined} report */
export function reportedFound(report) {
  const degradations = report?.degradations;
  if (!degradations) return null;
  return Object.keys(degradations).filter((label) => degradations[label] > PRESENT);
}

/** How much changed, from the report of a job. @param {Record<string, any> | null | undefined} report */
export function reportedChange(report) {
  const change = report?.change?.mean_abs;
  return typeof change === "number" ? { change, tone: null } : null;
}

/** The stages and the total from the report of a job. @param {Record<string, any> | null | undefined} report */
export function reportedTimings(report) {
  const timings = report?.timings;
  if (!timings) return { stages: [], totalMs: null };
  const stages = STAGES.filter((name) => `${name}_ms` in timings).map((name) => ({ name, ms: timings[`${name}_ms`] }));
  return { stages, totalMs: null };
}

/**
 * The file name of a Content-Disposition (RFC 6266); `fallback` without one.
 * @param {string | null} header
 * @param {string} fallback
 */
export function fileName(header, fallback) {
  const extended = /filename\*=UTF-8''([^;]+)/i.exec(header ?? "");
  if (extended) {
    try {
      return decodeURIComponent(extended[1]);
    } catch {
      // no UTF-8 after all: the plain name is still there
    }
  }
  return /filename="([^"]*)"/i.exec(header ?? "")?.[1] || fallback;
}
