/** Service: what the server says about itself, at the head of the page. */

import { element } from "./elements.js";
import { Problem } from "./problem.js";
import { limit, list, megapixels } from "./words.js";

/** @typedef {import("./server.js").Description} Description */
/** @typedef {import("./server.js").Server} Server */

const LOOK_AGAIN_MS = 2000;
/** @type {Record<string, string>} */
const STATUS = { ready: "Ready", starting: "Starting", draining: "Stopping" };

/**
 * Show it, look again until it is ready, and resolve with it.
 * @param {Server} server
 * @param {() => void} onLocked where it opens with a key alone
 * @returns {Promise<Description>}
 */
export async function introduce(server, onLocked) {
  const line = element("service", HTMLElement);
  const text = element("service-text", HTMLElement);
  const say = (/** @type {string} */ status, /** @type {string} */ words) => {
    line.dataset.status = status;
    text.textContent = words;
  };
  for (;;) {
    try {
      const description = await server.describe();
      const { status, model } = description;
      say(
        status,
        model ? `${STATUS[status] ?? status} · ${model.artifact} on ${model.device}` : (STATUS[status] ?? status),
      );
      if (status === "ready") {
        element("allowed", HTMLElement).textContent = allowed(description.limits);
        return description;
      }
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401) {
        say("locked", "Opens with a key");
        onLocked();
      } else say("absent", "Not reachable");
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

/** @param {Description["limits"]} limits */
function allowed({ input_formats, max_upload_bytes, max_image_pixels }) {
  return `${list(input_formats)}, up to ${limit(max_upload_bytes)} and ${megapixels(max_image_pixels)}.`;
}
