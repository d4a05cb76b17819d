/** Arrivals: the ways in which photos come to the page: chosen, dropped, pasted. */

import { element } from "./elements.js";

/** @param {(files: File[]) => void} onFiles */
export function receive(onFiles) {
  const take = (/** @type {Iterable<File>} */ files) => {
    const found = [...files];
    if (found.length) onFiles(found);
  };
  const input = element("files", HTMLInputElement);
  input.addEventListener("change", () => {
    take(input.files ?? []);
    input.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    if (!files?.length) return;
    event.preventDefault();
    take(files);
  });
  receiveDrops(take);
}

/** @param {(files: Iterable<File>) => void} take */
function receiveDrops(take) {
  const veil = element("drop", HTMLElement);
  let depth = 0; // each element that is crossed says enter and leave
  const show = (/** @type {number} */ now) => {
    depth = Math.max(now, 0);
    veil.classList.toggle("shown", depth > 0);
  };
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragenter", (event) => hasFiles(event) && show(depth + 1));
  addEventListener("dragleave", (event) => hasFiles(event) && show(depth - 1));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(0);
    take(event.dataTransfer?.files ?? []);
  });
}
