/** Verdict: what a restoration did to a photo, measured from its pixels and said in a sentence. */

import { list } from "./words.js";

/**
 * Mean absolute differences between before and after, 0 to 1.
 * @typedef {object} Measured
 * @property {number} change of single samples
 * @property {number | null} tone of whole areas, where noise averages out; null where only the server measured
 */

/** At most this many pixels of a side are compared: every n-th pixel of a larger photo, unsmoothed. */
const SAMPLED_SIDE = 1024;
const AREA_SIDE = 32;
/** About 1.5 of 255: what nobody sees. */
const UNSEEN = 0.006;
const SLIGHT = 0.02;
const TONE = 0.02;
/** @type {Record<string, string>} */
const NAMES = { jpeg: "JPEG blocks" };

/**
 * Compare two files as the browser shows them; null where it cannot read both, or their sizes differ.
 * @param {Blob} before
 * @param {Blob} after
 * @returns {Promise<Measured | null>}
 */
export async function measure(before, after) {
  const bitmaps = await Promise.allSettled([createImageBitmap(before), createImageBitmap(after)]);
  const [old, now] = bitmaps.map((made) => (made.status === "fulfilled" ? made.value : null));
  try {
    if (!old || !now || old.width !== now.width || old.height !== now.height) return null;
    const scale = Math.min(1, SAMPLED_SIDE / Math.max(old.width, old.height));
    const [width, height] = [old.width, old.height].map((side) => Math.max(1, Math.round(side * scale)));
    return compare(samples(old, width, height), samples(now, width, height));
  } finally {
    old?.close();
    now?.close();
  }
}

/** @param {ImageBitmap} bitmap @param {number} width @param {number} height */
function samples(bitmap, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser draws nothing");
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** @param {ImageData} before @param {ImageData} after @returns {Measured} */
export function compare({ data: old, width, height }, { data: now }) {
  const across = Math.ceil(width / AREA_SIDE);
  const areas = new Float64Array(across * Math.ceil(height / AREA_SIDE) * 3);
  let change = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * 4;
      const area = (Math.floor(y / AREA_SIDE) * across + Math.floor(x / AREA_SIDE)) * 3;
      for (let channel = 0; channel < 3; channel++) {
        const difference = now[at + channel] - old[at + channel];
        change += Math.abs(difference);
        areas[area + channel] += difference;
      }
    }
  }
  const count = width * height * 3 * 255;
  return { change: change / count, tone: areas.reduce((sum, area) => sum + Math.abs(area), 0) / count };
}

/**
 * Say what happened; "Restored" where nothing could be measured.
 * @param {Measured | null} measured
 * @param {string[] | null} found the degradations that the network named; null where it names none
 */
export function sentence(measured, found) {
  if (!measured) return "Restored";
  const { change, tone } = measured;
  const toned = tone !== null && tone > TONE;
  if (change < UNSEEN) return found?.length === 0 ? "Looks clean: almost nothing changed" : "Almost nothing changed";
  const names = (found ?? []).map((name) => NAMES[name] ?? name);
  const done = names.length ? `${list(names, "and")} found and reduced` : change < SLIGHT ? "slightly changed" : "clearly changed";
  return done[0].toUpperCase() + done.slice(1) + (toned ? ", tone changed" : "");
}
