/** Words: numbers as people read them. */

const MEGA = 1_000_000;

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < MEGA) return `${Math.round(bytes / 1000)} kB`;
  return `${short(bytes / MEGA)} MB`;
}

/** A limit in powers of two, as settings have them. @param {number} bytes */
export function limit(bytes) {
  const mebi = bytes / 1024 ** 2;
  return mebi >= 1 ? `${short(mebi)} MB` : `${short(bytes / 1024)} kB`;
}

/** @param {number} pixels */
export function megapixels(pixels) {
  const count = short(pixels / MEGA);
  return `${count}\u00a0megapixel${count === "1" ? "" : "s"}`;
}

/** @param {number} ms */
export function duration(ms) {
  if (ms < 1) return "under 1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return span(ms / 1000);
}

/** @param {number} seconds */
export function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** @param {string[]} names @param {string} [last] */
export function list(names, last = "or") {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} ${last} ${names[names.length - 1]}`;
}

/** @param {number} value */
function short(value) {
  return value >= 10 ? String(Math.round(value)) : String(Math.round(value * 10) / 10);
}

/** A name that nothing else has: random digits, since crypto.randomUUID needs HTTPS. */
export function unlikely() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
