/** Degradations: noise, rain and haze, made as the network's training made them. */

/** @typedef {(clean: ImageData, amount: number, random: () => number) => ImageData} Degrade */

/**
 * Numbers in [0, 1) from a seed (mulberry32), so that a picture stays what it is while a knob turns.
 * @param {number} seed
 */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param {number} low @param {number} high @param {number} share */
const between = (low, high, share) => low + (high - low) * share;

/** White Gaussian noise, standard deviation up to 50 of 255. @type {Degrade} */
export function noise(clean, amount, random) {
  const sigma = 50 * amount;
  const { data, width, height } = clean;
  const spoilt = new ImageData(new Uint8ClampedArray(data), width, height);
  for (let at = 0; at < data.length; at++) {
    if (at % 4 === 3) continue;
    // Box and Muller; 1 - random, since the logarithm of 0 is none
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    spoilt.data[at] = data[at] + normal * sigma;
  }
  return spoilt;
}

/** Bright streaks, slanted by one wind. @type {Degrade} */
export function rain(clean, amount, random) {
  const { data, width, height } = clean;
  const veil = new Float32Array(width * height);
  const slant = between(-0.3, 0.3, random());
  for (const layer of [0, 1]) {
    const half = between(10, 26, random()) * (layer ? 0.6 : 1);
    const profile = between(0.5, 0.85, random());
    const angle = slant + between(-0.05, 0.05, random());
    const density = between(0.0003, 0.0016, amount);
    const drops = Math.round(density * (width + 2 * half) * (height + 2 * half));
    for (let drop = 0; drop < drops; drop++) {
      const x = between(-half, width + half, random());
      const y = between(-half, height + half, random());
      streak(veil, width, height, { x, y, half, angle, profile, light: between(0.4, 1, random()) });
    }
  }
  const brightness = between(0.3, 0.75, amount);
  return mixed(clean, (at, channel) => {
    const share = Math.min(veil[at] * brightness, 1);
    return data[at * 4 + channel] + share * (255 - 0.3 * data[at * 4 + channel]);
  });
}

/**
 * @param {Float32Array} veil
 * @param {number} width
 * @param {number} height
 * @param {{ x: number, y: number, half: number, angle: number, profile: number, light: number }} drop
 */
function streak(veil, width, height, { x, y, half, angle, profile, light }) {
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
  const reach = Math.ceil(half) + 2;
  for (let row = Math.max(0, Math.floor(y - reach)); row < Math.min(height, y + reach); row++) {
    const middle = x - (row - y) * (sin / cos);
    for (let column = Math.max(0, Math.floor(middle - 3)); column < Math.min(width, middle + 4); column++) {
      const along = (row - y) * cos - (column - x) * sin;
      const across = (column - x) * cos + (row - y) * sin;
      const inside = Math.min(Math.max(half + 0.5 - Math.abs(along), 0), 1);
      veil[row * width + column] += light * inside * Math.exp(-0.5 * (across / profile) ** 2);
    }
  }
}

/** Scattered light, thicker towards the top, as outdoors. @type {Degrade} */
export function haze(clean, amount, random) {
  const { data, width, height } = clean;
  const depth = between(0.4, 1.7, amount);
  const airlight = [between(0.84, 0.9, random()), between(0.85, 0.9, random()), between(0.86, 0.92, random())];
  const [phase, tilt] = [random() * 6, between(-0.25, 0.25, random())];
  return mixed(clean, (at, channel) => {
    const [x, y] = [(at % width) / width, Math.floor(at / width) / height];
    const relief =
      0.75 * (1 - y) + (0.18 * (1 + Math.sin(5 * x + phase) * Math.cos(4 * y + phase))) / 2 + tilt * (x - 0.5);
    const through = Math.exp(-depth * (0.3 + 0.7 * Math.min(Math.max(relief, 0), 1)));
    return data[at * 4 + channel] * through + 255 * airlight[channel] * (1 - through);
  });
}

/** @type {Record<string, Degrade>} */
export const DEGRADATIONS = { noise, rain, haze };

/** @param {ImageData} clean @param {(at: number, channel: number) => number} sample */
function mixed({ data, width, height }, sample) {
  const result = new ImageData(new Uint8ClampedArray(data), width, height);
  for (let at = 0; at < width * height; at++) {
    for (let channel = 0; channel < 3; channel++) result.data[at * 4 + channel] = sample(at, channel);
  }
  return result;
}
