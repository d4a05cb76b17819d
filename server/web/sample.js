/** Sample: a photo that comes with the page: a real one as it is, or a clean one and what spoils it. */

import { DEGRADATIONS, seeded } from "./degradations.js";
import { element } from "./elements.js";

/** @typedef {{ file: Blob, name: string, facts: string }} Trial a file to try, and what it is */

const SEED = 7;

export class Sample {
  /** A choice was made, and this is the picture. @type {(trial: Trial) => void} */
  onChosen = () => {};
  #amount = element("amount", HTMLInputElement);
  #amountText = element("amount-text", HTMLOutputElement);
  #spoil = element("spoil", HTMLFieldSetElement);
  #turn = 0;
  /** @type {Trial | null} */
  #trial = null;
  /** The last choice, also while it is not marked. */
  #choice = chosen("sample");

  constructor() {
    const changed = async () => {
      const trial = await this.prepare();
      if (trial) this.onChosen(trial);
    };
    for (const input of document.querySelectorAll("[name=sample], [name=kind]"))
      input.addEventListener("change", changed);
    this.#amount.addEventListener("input", changed);
  }

  /** The file as it is chosen now. @returns {Promise<Trial | null>} null where a later choice came between */
  async prepare() {
    const turn = ++this.#turn;
    this.#amountText.value = `${this.#amount.value} %`;
    const sample = (this.#choice = checked("sample") ?? this.#choice);
    const { facts } = sample.dataset;
    this.#spoil.disabled = Boolean(facts);
    const image = sample.closest("label")?.querySelector("img");
    if (!image) throw new Error("the sample has no picture");
    const trial = facts
      ? { file: await sent(image), name: `${sample.value}.jpg`, facts }
      : await spoilt(image, sample.value, chosen("kind").value, Number(this.#amount.value) / 100);
    if (turn !== this.#turn) return null;
    this.#trial = trial;
    return trial;
  }

  /** Mark the choice, or take its mark away: then one click brings it back. @param {boolean} isShown on the stage */
  mark(isShown) {
    this.#choice.checked = isShown;
  }

  /** The last file, made first where there is none. */
  async now() {
    return this.#trial ?? this.prepare();
  }
}

/** @param {string} name */
function checked(name) {
  const input = document.querySelector(`[name=${name}]:checked`);
  return input instanceof HTMLInputElement ? input : null;
}

/** @param {string} name @returns {HTMLInputElement} */
function chosen(name) {
  const input = checked(name);
  if (!input) throw new Error(`nothing is chosen for ${name}`);
  return input;
}

/**
 * The file of a picture as the server sent it: to draw it and save it again would change its noise.
 * @param {HTMLImageElement} image
 */
async function sent(image) {
  const answer = await fetch(image.src, { cache: "force-cache" });
  if (!answer.ok) throw new Error(`the sample was answered with ${answer.status}`);
  return answer.blob();
}

/**
 * @param {HTMLImageElement} image
 * @param {string} name
 * @param {string} kind
 * @param {number} amount 0 to 1
 * @returns {Promise<Trial>}
 */
async function spoilt(image, name, kind, amount) {
  const canvas = document.createElement("canvas");
  const clean = await pixels(image, canvas);
  canvas.getContext("2d")?.putImageData(DEGRADATIONS[kind](clean, amount, seeded(SEED)), 0, 0);
  const file = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!(file instanceof Blob)) throw new Error("this browser writes no PNG");
  return { file, name: `${name}-${kind}.png`, facts: `A clean photo, with ${kind} added here` };
}

/**
 * @param {HTMLImageElement} image
 * @param {HTMLCanvasElement} canvas
 * @returns {Promise<ImageData>}
 */
async function pixels(image, canvas) {
  await image.decode();
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser draws nothing");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
