/** Zip: an archive of files as they are, uncompressed, since photos are compressed already (PKWARE APPNOTE 6.3). */

/** @typedef {import("./rendition.js").NamedFile} NamedFile */

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const VERSION = 20;
const UTF8_NAMES = 0x0800;
/** Beyond these an archive needs ZIP64, which is not written here. */
const MOST_BYTES = 0xffffffff;
const MOST_FILES = 0xffff;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** The CRC-32 of bytes, as ZIP and PNG have it. @param {Uint8Array} bytes */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/**
 * Write an archive; a name that occurs twice gets a number. One file at a time is held in memory.
 * @param {NamedFile[]} files
 * @param {Date} [at]
 * @returns {Promise<Blob>}
 */
export async function archive(files, at = new Date()) {
  if (files.length > MOST_FILES) throw new RangeError(`an archive holds at most ${MOST_FILES} files`);
  const taken = new Set();
  const [bodies, directory] = [/** @type {BlobPart[]} */ ([]), /** @type {Uint8Array<ArrayBuffer>[]} */ ([])];
  let offset = 0;
  for (const { name, blob } of files) {
    const bytes = new TextEncoder().encode(unique(name, taken));
    const crc = crc32(new Uint8Array(await blob.arrayBuffer()));
    const shared = [[2, VERSION], [2, UTF8_NAMES], [2, 0], ...moment(at), [4, crc], [4, blob.size], [4, blob.size]];
    const local = record([[4, LOCAL], ...shared, [2, bytes.length], [2, 0]], bytes);
    const rest = [[2, bytes.length], [2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]];
    directory.push(record([[4, CENTRAL], [2, VERSION], ...shared, ...rest], bytes));
    bodies.push(local, blob);
    offset += local.length + blob.size;
    if (offset > MOST_BYTES) throw new RangeError("an archive holds at most 4 GB");
  }
  const length = directory.reduce((sum, { length }) => sum + length, 0);
  const counts = [[2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, offset], [2, 0]];
  return new Blob([...bodies, ...directory, record([[4, END], ...counts])], { type: "application/zip" });
}

/**
 * Numbers of 2 or 4 bytes, little-endian, with a name behind them.
 * @param {number[][]} fields pairs of width and value
 * @param {Uint8Array} [name]
 */
function record(fields, name = new Uint8Array()) {
  const size = fields.reduce((sum, [width]) => sum + width, 0);
  const bytes = new Uint8Array(size + name.length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  bytes.set(name, size);
  return bytes;
}

/** Time and date as MS-DOS had them, from 1980 on. @param {Date} at */
function moment(at) {
  const time = (at.getHours() << 11) | (at.getMinutes() << 5) | (at.getSeconds() >> 1);
  const date = ((Math.max(at.getFullYear(), 1980) - 1980) << 9) | ((at.getMonth() + 1) << 5) | at.getDate();
  return [[2, time], [2, date]];
}

/** @param {string} name @param {Set<string>} taken */
function unique(name, taken) {
  let free = name;
  for (let count = 2; taken.has(free); count++) free = name.replace(/(\.[^.]*)?$/, ` (${count})$1`);
  taken.add(free);
  return free;
}
