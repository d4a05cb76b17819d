/** Rendition: the file a restored photo is saved as: the server's, or one blended and converted in this page. */

/** @typedef {import("./photo.js").Photo} Photo */
/** @typedef {import("./server.js").Options} Options */
/** @typedef {{ name: string, blob: Blob }} NamedFile */
/**
 * How the file comes about: it is kept as the server sent it, made here from that and the original, or it takes
 * another run.
 * @typedef {"kept" | "here" | "run"} Way
 */

const QUALITY = 0.9;
const HEAD_BYTES = 32;
const BAND_ROWS = 512;
/** The media types that a canvas writes, by the names of the formats. @type {Record<string, string>} */
const WRITTEN_HERE = { png: "image/png", jpeg: "image/jpeg", webp: "image/webp" };
/** @type {Record<string, string>} */
const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };

/** Whether a canvas holds all of a picture: 8 bits a sample, and every pixel opaque. @param {Blob} blob */
export async function isPlain(blob) {
  const head = new Uint8Array(await blob.slice(0, HEAD_BYTES).arrayBuffer());
  const text = (/** @type {number} */ from, /** @type {number} */ to) => String.fromCharCode(...head.slice(from, to));
  if (head[0] === 0xff && head[1] === 0xd8) return true;
  if (text(1, 4) === "PNG") return head[24] <= 8 && ((head[25] & 4) === 0 || isOpaque(blob));
  if (text(0, 4) !== "RIFF" || text(8, 12) !== "WEBP") return false;
  const alpha = { "VP8 ": 0, VP8L: head[24] & 0x10, VP8X: head[20] & 0x10 }[text(12, 16)];
  return alpha === 0 || (alpha !== undefined && isOpaque(blob));
}

/** Look at every pixel, a band of rows at a time. @param {Blob} blob */
async function isOpaque(blob) {
  const bitmap = await createImageBitmap(blob).catch(() => null);
  if (!bitmap) return false;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, Math.min(bitmap.height, BAND_ROWS)];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) return false;
  for (let top = 0; top < bitmap.height; top += BAND_ROWS) {
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, canvas.width, Math.min(BAND_ROWS, bitmap.height - top));
    for (let at = 3; at < data.length; at += 4) if (data[at] !== 255) return false;
  }
  bitmap.close();
  return true;
}

/** The media type that the file is to have; "" where only the server writes it. @param {Photo} photo @param {Options} choice */
function typeOf({ file, answer, restoredWith }, { format }) {
  if (format === restoredWith?.format) return answer?.blob.type ?? "";
  return format === "same" ? file.type : (WRITTEN_HERE[format] ?? "");
}

/** @param {Photo} photo @param {Options} choice @returns {Way} */
export function way(photo, choice) {
  const { answer, restoredWith } = photo;
  if (!answer || !restoredWith) return "run";
  if (choice.format === restoredWith.format && choice.strength === restoredWith.strength) return "kept";
  const isWritten = typeOf(photo, choice) in ENDINGS;
  return answer.isPlain && photo.pixels && isWritten && choice.strength <= restoredWith.strength ? "here" : "run";
}

/** How much of the kept result a strength takes, 0 to 1. @param {Photo} photo @param {Options} choice */
export function weight({ restoredWith }, { strength }) {
  return restoredWith?.strength ? Math.min(strength / restoredWith.strength, 1) : 1;
}

/** @param {Photo} photo @param {Options} choice */
export function nameOf(photo, choice) {
  const name = photo.answer?.name ?? photo.name;
  if (way(photo, choice) !== "here" || choice.format === photo.restoredWith?.format) return name;
  return name.replace(/(\.[^.]*)?$/, `.${ENDINGS[typeOf(photo, choice)]}`);
}

/**
 * Make the file; what takes another run stays as it was kept.
 * @param {Photo} photo
 * @param {Options} choice
 * @param {string} [asType] another media type than that of the choice
 * @returns {Promise<NamedFile>}
 */
export async function render(photo, choice, asType) {
  const answer = photo.answer;
  if (!answer) throw new Error("nothing is restored yet");
  const name = nameOf(photo, choice);
  const isHere = way(photo, choice) === "here";
  const type = asType ?? (isHere ? typeOf(photo, choice) : answer.blob.type);
  if (!isHere && type === answer.blob.type) return { name, blob: answer.blob };
  const share = isHere ? weight(photo, choice) : 1;
  return { name, blob: await blended(share < 1 ? photo.file : null, answer.blob, share, type) };
}

/** @param {Blob | null} before @param {Blob} after @param {number} share @param {string} type @returns {Promise<Blob>} */
async function blended(before, after, share, type) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser draws nothing");
  const top = await createImageBitmap(after);
  [canvas.width, canvas.height] = [top.width, top.height];
  if (before) {
    const bottom = await createImageBitmap(before);
    context.drawImage(bottom, 0, 0);
    bottom.close();
    context.globalAlpha = share;
  }
  context.drawImage(top, 0, 0);
  top.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, QUALITY));
  if (!(blob instanceof Blob) || blob.type !== type) throw new Error(`this browser cannot write ${type} of that size`);
  return blob;
}

/** Hand a file to the visitor, as a download. @param {NamedFile} file */
export function hand({ name, blob }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * Let a link save a photo as it is chosen now.
 * @param {HTMLAnchorElement} link
 * @param {Photo} photo
 * @param {Options} choice
 * @param {(error: unknown) => void} onFailure
 */
export function offer(link, photo, choice, onFailure) {
  link.href = photo.afterUrl;
  link.download = nameOf(photo, choice);
  const isMade = way(photo, choice) === "here";
  link.onclick = (event) => {
    if (!isMade) return;
    event.preventDefault();
    render(photo, choice).then(hand, onFailure);
  };
}
