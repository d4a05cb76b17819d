/** Main: the page, put together. */

import { receive } from "./arrivals.js";
import { Caption } from "./caption.js";
import { announce, element } from "./elements.js";
import { History } from "./history.js";
import { Key } from "./key.js";
import { Options } from "./options.js";
import { Photo } from "./photo.js";
import { Queue } from "./queue.js";
import { hand, render, weight } from "./rendition.js";
import { Sample } from "./sample.js";
import { Server } from "./server.js";
import { introduce } from "./service.js";
import { Stage } from "./stage.js";
import { Tray } from "./tray.js";
import { archive } from "./zip.js";

const server = new Server(new Key());
const options = new Options();
const queue = new Queue(server, () => options.choice);
const stage = new Stage();
const caption = new Caption();
const tray = new Tray(() => options.choice);
const sample = new Sample();
const history = new History();
const again = element("again", HTMLButtonElement);
const copy = element("copy", HTMLButtonElement);
const original = element("original", HTMLButtonElement);
const restoreSample = element("restore-sample", HTMLButtonElement);

const WAIT_FOR_IT = "This browser cannot show such a file. The server may still read it.";
const SAVE_IT = "This browser cannot show such a file. It is restored, though: download it.";
const ARCHIVE = "restored.zip";
/** Browsers let a page write pictures to the clipboard over HTTPS and on this machine only. */
const canCopy = "ClipboardItem" in window && isSecureContext;
/** As in layout.css: the stage stands beside the choices, and not above them. */
const isBeside = matchMedia("(min-width: 60rem)");

/** What is on the stage; null while a sample is tried out. @type {Photo | null} */
let shown = null;
/** The sample that is chosen, once it is restored. @type {Photo | null} */
let restoredSample = null;
let previewUrl = "";

/** @param {Photo} photo */
function show(photo) {
  shown = photo;
  tray.choose(photo);
  drawShown();
}

function drawShown() {
  restoreSample.hidden = shown !== null;
  sample.mark(shown === restoredSample || shown === null);
  again.hidden = !shown?.answer || !options.differFrom(shown.restoredWith);
  const isShownRestored = Boolean(shown?.answer && shown.pixels);
  original.hidden = !isShownRestored;
  copy.hidden = !(isShownRestored && canCopy);
  if (!shown) return;
  caption.show(shown, options.choice, failed);
  const { id, beforeUrl: before, afterUrl: after, name, problem, answer } = shown;
  stage.blend(weight(shown, options.choice));
  stage.show({ id, before, after, name, blank: problem?.text ?? (answer ? SAVE_IT : WAIT_FOR_IT) });
}

/** Bring the stage into sight: what the visitor chose may stand far below it. */
function lookAtStage() {
  element("stage", HTMLElement).scrollIntoView({ block: isBeside.matches ? "nearest" : "start" });
}

/** @param {unknown} error of a file that was to be made in this page */
function failed(error) {
  console.info(error);
  const note = element("save-note", HTMLElement);
  note.hidden = false;
  note.textContent = "This browser cannot make that file. “Restore again” has the server make it.";
  announce(note.textContent);
}

/** @param {Photo} photo */
function add(photo) {
  photo.addEventListener("change", () => photo === shown && drawShown());
  tray.add(photo);
}

/** @param {Blob} file @param {string} name */
function restore(file, name) {
  const photo = new Photo(file, name);
  add(photo);
  queue.add(photo);
  return photo;
}

/** @param {Photo} photo */
function remove(photo) {
  photo.leave();
  tray.remove(photo);
  history.forget(photo);
  if (photo !== shown) return;
  const next = tray.photos.at(-1);
  if (next) show(next);
  else preview();
}

/** Show the sample as it is chosen now. */
async function preview() {
  const trial = await sample.now();
  if (trial) await showTrial(trial);
}

/** @param {import("./sample.js").Trial} trial */
async function showTrial({ file, name, facts }) {
  shown = null;
  tray.choose(null);
  drawShown();
  const last = previewUrl;
  previewUrl = URL.createObjectURL(file);
  caption.preview(name, facts);
  await stage.show({ id: "sample", before: previewUrl, after: "", name, blank: "" });
  if (last) URL.revokeObjectURL(last);
}

/** Put the photo on the stage into the clipboard, as PNG: the one type that every browser takes. */
async function copyShown() {
  if (!shown) return;
  const png = render(shown, options.choice, "image/png").then(({ blob }) => blob);
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
    announce(`${shown.name} is copied`);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  } catch (error) {
    failed(error);
  }
}

/** Show the photos of this tab from before a reload. */
async function takeUp() {
  const photos = await history.photos();
  for (const photo of photos) {
    await photo.measure();
    add(photo);
  }
  const last = photos.at(-1);
  if (last && !shown) show(last);
  return photos.length > 0;
}

receive((files) => {
  const photos = files.map((file) => restore(file, file.name || "pasted.png"));
  announce(files.length === 1 ? `${photos[0].name} is on its way` : `${files.length} photos are on their way`);
  show(photos[0]);
  lookAtStage();
});
sample.onChosen = (trial) => {
  restoredSample = null;
  return showTrial(trial);
};
// Not for the amount: the slider would move away under the finger.
for (const input of document.querySelectorAll("[name=sample], [name=kind]"))
  input.addEventListener("change", lookAtStage);
restoreSample.addEventListener("click", async () => {
  const trial = await sample.now();
  if (!trial) return;
  restoredSample = restore(trial.file, trial.name);
  show(restoredSample);
  lookAtStage();
});
tray.onChosen = (/** @type {Photo} */ photo) => {
  show(photo);
  lookAtStage();
};
tray.onAgain = (/** @type {Photo} */ photo) => queue.add(photo);
tray.onRemoved = remove;
tray.onFailure = failed;
tray.onDownloadAll = async (/** @type {Photo[]} */ photos) => {
  try {
    const files = await Promise.all(photos.map((photo) => render(photo, options.choice)));
    hand({ name: ARCHIVE, blob: await archive(files) });
  } catch (error) {
    failed(error);
  }
};
queue.onRestored = (/** @type {Photo} */ photo) => history.keep(photo);
options.onChange = () => {
  drawShown();
  tray.draw();
};
again.addEventListener("click", () => {
  if (shown) queue.add(shown, true);
});
copy.addEventListener("click", copyShown);
for (const [event, isHeld] of /** @type {const} */ ([
  ["pointerdown", true],
  ["pointerup", false],
  ["pointercancel", false],
  ["pointerleave", false],
  ["blur", false],
  ["keyup", false],
]))
  original.addEventListener(event, () => stage.peek(isHeld));
original.addEventListener("keydown", ({ key }) => stage.peek(key === " " || key === "Enter"));
original.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press is no right click

if (!(await takeUp())) await preview();
try {
  const { jobs, limits } = await introduce(server, () => queue.open());
  queue.mostBytes = limits.max_upload_bytes;
  queue.jobs = jobs;
  queue.wholePixels = await server.wholePixels();
} finally {
  queue.open();
}
