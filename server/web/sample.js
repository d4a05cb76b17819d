/** Sample: a clean photo that comes with the page, and what spoils it. */

import { DEGRADATIONS, seeded } from "./degradations.js";
import { element } from "./elements.js";

/** @typedef {{ file: Blob, name: string, what: string }} Spoilt */

const SEED = 7;

export class Sample {
  /** A choice was made, and this is the picture. @type {(spoilt: Spoilt) => void} */
  onSpoilt = () => {};
  #amount = element("amount", HTMLInputElement);
  #amountText = element("amount-text", HTMLOutputElement);
  #turn = 0;
  /** @type {Spoilt | null} */
  #spoilt = null;

  constructor() {
    const changed = async () => {
      const spoilt = await this.spoil();
      if (spoilt) this.onSpoilt(spoilt);
    };
    for (const input of document.querySelectorAll("[name=sample], [name=kind]"))
      input.addEventListener("change", changed);
    this.#amount.addEventListener("input", changed);
  }

  /** The picture as it is chosen now. @returns {Promise<Spoilt | null>} null where a later choice came between */
  async spoil() {
    const turn = ++this.#turn;
    this.#amountText.value = `${this.#amount.value} %`;
    const [sample, kind] = [chosen("sample"), chosen("kind")];
    const canvas = document.createElement("canvas");
    const clean = await pixels(sample.closest("label")?.querySelector("img"), canvas);
    const spoilt = DEGRADATIONS[kind.value](clean, Number(this.#amount.value) / 100, seeded(SEED));
    canvas.getContext("2d")?.putImageData(spoilt, 0, 0);
    const file = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    if (turn !== this.#turn || !(file instanceof Blob)) return null;
    this.#spoilt = { file, name: `${sample.value}-${kind.value}.png`, what: `sample with ${kind.value}` };
    return this.#spoilt;
  }

  /** The last picture, made first where there is none. */
  async now() {
    return this.#spoilt ?? this.spoil();
  }
}

/** @param {string} name @returns {HTMLInputElement} */
function chosen(name) {
  const input = document.querySelector(`[name=${name}]:checked`);
  if (!(input instanceof HTMLInputElement)) throw new Error(`nothing is chosen for ${name}`);
  return input;
}

/**
 * @param {HTMLImageElement | null | undefined} image
 * @param {HTMLCanvasElement} canvas
 * @returns {Promise<ImageData>}
 */
async function pixels(image, canvas) {
  if (!image) throw new Error("the sample has no picture");
  await image.decode();
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser draws nothing");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
