/** Main: the page, put together. */

import { receive } from "./arrivals.js";
import { Caption } from "./caption.js";
import { announce, element } from "./elements.js";
import { Key } from "./key.js";
import { Options } from "./options.js";
import { Photo } from "./photo.js";
import { Queue } from "./queue.js";
import { Sample } from "./sample.js";
import { Server } from "./server.js";
import { introduce } from "./service.js";
import { Stage } from "./stage.js";
import { Tray } from "./tray.js";

const server = new Server(new Key());
const options = new Options();
const queue = new Queue(server, () => options.choice);
const stage = new Stage();
const caption = new Caption();
const tray = new Tray();
const sample = new Sample();
const again = element("again", HTMLButtonElement);
const restoreSample = element("restore-sample", HTMLButtonElement);

const WAIT_FOR_IT = "This browser cannot show such a file. The server may still read it.";
const SAVE_IT = "This browser cannot show such a file. It is restored, though: download it.";

/** What is on the stage; null while a sample is tried out. @type {Photo | null} */
let shown = null;
let previewUrl = "";

/** @param {Photo} photo */
function show(photo) {
  shown = photo;
  tray.choose(photo);
  drawShown();
}

function drawShown() {
  restoreSample.hidden = shown !== null;
  again.hidden = !shown?.answer || !options.differFrom(shown.restoredWith);
  if (!shown) return;
  caption.show(shown);
  const { id, beforeUrl: before, afterUrl: after, name, problem, answer } = shown;
  stage.show({ id, before, after, name, blank: problem?.text ?? (answer ? SAVE_IT : WAIT_FOR_IT) });
}

/** @param {Blob} file @param {string} name */
function restore(file, name) {
  const photo = new Photo(file, name);
  photo.addEventListener("change", () => photo === shown && drawShown());
  tray.add(photo);
  queue.add(photo);
  return photo;
}

/** @param {Photo} photo */
function remove(photo) {
  photo.leave();
  tray.remove(photo);
  if (photo !== shown) return;
  const next = tray.photos.at(-1);
  if (next) show(next);
  else preview();
}

/** Show the sample as it is spoilt now. */
async function preview() {
  const spoilt = await sample.now();
  if (spoilt) showSpoilt(spoilt);
}

/** @param {import("./sample.js").Spoilt} spoilt */
async function showSpoilt({ file, name, what }) {
  shown = null;
  tray.choose(null);
  drawShown();
  const last = previewUrl;
  previewUrl = URL.createObjectURL(file);
  caption.preview(name, `A ${what}, made in this page`);
  await stage.show({ id: "sample", before: previewUrl, after: "", name, blank: "" });
  if (last) URL.revokeObjectURL(last);
}

receive((files) => {
  const photos = files.map((file) => restore(file, file.name || "pasted.png"));
  announce(files.length === 1 ? `${photos[0].name} is on its way` : `${files.length} photos are on their way`);
  show(photos[0]);
});
sample.onSpoilt = showSpoilt;
restoreSample.addEventListener("click", async () => {
  const spoilt = await sample.now();
  if (spoilt) show(restore(spoilt.file, spoilt.name));
});
tray.onChosen = show;
tray.onAgain = (/** @type {Photo} */ photo) => queue.add(photo);
tray.onRemoved = remove;
options.onChange = drawShown;
again.addEventListener("click", () => {
  if (shown) queue.add(shown);
});

await preview();
const { jobs, limits } = await introduce(server);
queue.mostBytes = limits.max_upload_bytes;
queue.jobs = jobs;
queue.wholePixels = await server.wholePixels();
