/** Pictures and masks of the video: fetched most wanted first, kept as far as memory is set aside for them. */

import { readImage } from "./api.js";

/** @import {VideoInfo} from "./types.js" */

/**
 * @typedef {{bitmap: ImageBitmap, height: number}} Picture
 * @typedef {{ids: Uint16Array | Uint32Array, width: number, height: number, revision: number}} Masks
 * @typedef {{kind: "picture" | "masks", frame: number}} Wish
 */

const PICTURE_BYTES = 192e6;
const MASK_BYTES = 96e6;
const AT_ONCE = 4; // a browser opens six connections to a server: two are left for what a person does
const WAIT_AFTER_FAILURE = 2000;

/**
 * Values with sizes; those not used for longest go when there is too much.
 *
 * @template Value
 */
class Kept {
  /** @type {Map<number, {value: Value, bytes: number}>} */
  #entries = new Map();
  #bytes = 0;

  /** @param {number} budget in bytes @param {(value: Value) => void} [drop] */
  constructor(budget, drop) {
    this.budget = budget;
    this.drop = drop;
  }

  /** @param {number} key @returns {Value | null} */
  get(key) {
    const entry = this.#entries.get(key);
    if (!entry) return null;
    this.#entries.delete(key); // to the young end
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** @param {number} key @returns {Value | null} without making it younger */
  peek(key) {
    return this.#entries.get(key)?.value ?? null;
  }

  /** @param {number} key @param {Value} value @param {number} bytes */
  put(key, value, bytes) {
    this.remove(key);
    this.#entries.set(key, { value, bytes });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.budget || oldest === key) break;
      this.remove(oldest);
    }
  }

  /** @param {number} key */
  remove(key) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
    this.drop?.(entry.value);
  }

  clear() {
    for (const key of [...this.#entries.keys()]) this.remove(key);
  }
}

/** Pictures and masks of the open video. */
export class Media {
  /** @type {Kept<Picture>} */
  #pictures = new Kept(PICTURE_BYTES, (picture) => picture.bitmap.close());
  /** @type {Kept<Masks>} */
  #masks = new Kept(MASK_BYTES);
  /** @type {Map<number, number>} the revision that changed the masks of a frame last */
  #changed = new Map();
  /** @type {Wish[]} */
  #wishes = [];
  /** @type {Set<string>} */
  #loading = new Set();
  /** @type {Map<string, number>} when it may be tried again */
  #failed = new Map();
  #epoch = 0;
  #oldest = 0;
  #key = "";
  #height = 480;

  /** @param {{onReady: (frame: number) => void, onFailure: (frame: number, error: Error) => void}} listeners */
  constructor(listeners) {
    this.listeners = listeners;
  }

  /** @param {VideoInfo} video all there was of another one is forgotten @param {number} revision */
  use(video, revision) {
    this.#key = `${video.key}`;
    this.#epoch += 1;
    this.#pictures.clear();
    this.#failed.clear();
    this.#masks.clear();
    this.renew(revision);
  }

  /** @param {number} revision all masks are fetched again, as after a lost connection */
  renew(revision) {
    this.#changed.clear();
    this.#oldest = revision;
  }

  /** @param {number} height of pictures and masks that are fetched from now on */
  size(height) {
    this.#height = height;
  }

  /** @param {Iterable<number>} frames whose masks changed @param {number} revision */
  stale(frames, revision) {
    for (const frame of frames) this.#changed.set(frame, Math.max(revision, this.#changed.get(frame) ?? 0));
  }

  /** @param {number} frame @returns {number} of its masks, as far as we were told */
  revision(frame) {
    return this.#changed.get(frame) ?? this.#oldest;
  }

  /** @param {number} frame @returns {boolean} whether its masks changed since the page was loaded */
  touched(frame) {
    return this.#changed.has(frame);
  }

  /** @param {number} frame @returns {Picture | null} of another size than wanted, if that is what there is */
  picture(frame) {
    return this.#pictures.get(frame);
  }

  /** @param {number} frame @returns {Masks | null} maybe old ones, until the new ones are there */
  masks(frame) {
    return this.#masks.get(frame);
  }

  /** @param {Wish} wish @returns {boolean} whether what is there is what was wished for */
  has({ kind, frame }) {
    if (kind === "picture") return (this.#pictures.peek(frame)?.height ?? 0) >= this.#height;
    const masks = this.#masks.peek(frame);
    return masks !== null && masks.revision >= this.revision(frame) && masks.height >= this.#height;
  }

  /** @param {Wish[]} wishes most wanted first; they replace earlier ones that have not begun */
  want(wishes) {
    this.#wishes = wishes;
    this.#next();
  }

  #next() {
    while (this.#loading.size < AT_ONCE) {
      const wish = this.#wishes.shift();
      if (!wish) return;
      const name = `${wish.kind} ${wish.frame}`;
      if (this.has(wish) || this.#loading.has(name) || (this.#failed.get(name) ?? 0) > performance.now()) continue;
      this.#loading.add(name);
      void this.#load(wish, name);
    }
  }

  /** @param {Wish} wish @param {string} name */
  async #load({ kind, frame }, name) {
    const epoch = this.#epoch;
    const height = this.#height;
    try {
      if (kind === "picture") {
        const path = `/api/frames/${frame}.jpg?height=${height}&v=${encodeURIComponent(this.#key)}`;
        const bitmap = await readImage(path);
        if (epoch === this.#epoch) this.#pictures.put(frame, { bitmap, height }, 4 * bitmap.width * bitmap.height);
      } else {
        const revision = this.revision(frame);
        const bitmap = await readImage(`/api/masks/${frame}.png?height=${height}&revision=${revision}`);
        const masks = { ids: idsOf(bitmap), width: bitmap.width, height, revision };
        bitmap.close();
        if (epoch === this.#epoch) this.#masks.put(frame, masks, masks.ids.byteLength);
      }
      this.#failed.delete(name);
      if (epoch === this.#epoch) this.listeners.onReady(frame);
    } catch (error) {
      if (epoch === this.#epoch) {
        this.#failed.set(name, performance.now() + WAIT_AFTER_FAILURE);
        this.listeners.onFailure(frame, /** @type {Error} */ (error));
      }
    } finally {
      this.#loading.delete(name);
      this.#next();
    }
  }
}

const scratch = new OffscreenCanvas(1, 1);
const scratchContext = /** @type {OffscreenCanvasRenderingContext2D} */ (
  scratch.getContext("2d", { willReadFrequently: true })
);

/** @param {ImageBitmap} bitmap @returns {Uint16Array | Uint32Array} object of each pixel: r + 256 g + 65536 b */
function idsOf(bitmap) {
  scratch.width = bitmap.width;
  scratch.height = bitmap.height;
  scratchContext.drawImage(bitmap, 0, 0);
  const { data } = scratchContext.getImageData(0, 0, bitmap.width, bitmap.height);
  const pixels = new Uint32Array(data.buffer); // 0xAABBGGRR: the lower three bytes are the id
  const ids = new Uint32Array(pixels.length);
  let largest = 0;
  for (let at = 0; at < pixels.length; at += 1) {
    const id = pixels[at] & 0xffffff;
    ids[at] = id;
    if (id > largest) largest = id;
  }
  return largest < 65536 ? new Uint16Array(ids) : ids;
}
