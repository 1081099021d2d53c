/** Masks as colours. */

/** @import {VideoObject} from "./types.js" */
/** @import {Masks} from "./media.js" */

/**
 * @param {string} colour "#rrggbb"
 * @returns {[number, number, number]} a middle grey if it is no colour
 */
export function channels(colour) {
  const found = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(colour);
  return found ? [parseInt(found[1], 16), parseInt(found[2], 16), parseInt(found[3], 16)] : [128, 128, 128];
}

/** @param {[number, number, number]} colour @returns {[number, number, number]} as bright as it can be: seen on any picture */
export function bright(colour) {
  const most = Math.max(...colour, 1);
  return /** @type {[number, number, number]} */ (colour.map((channel) => Math.round((255 * channel) / most)));
}

/** @param {[number, number, number]} colour @param {number} alpha 0 to 255 @returns {number} a pixel of ImageData */
const pixel = ([red, green, blue], alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/**
 * @param {[number, number, number]} colour
 * @param {number} part of the way to white
 * @returns {[number, number, number]}
 */
export const lighter = (colour, part) =>
  /** @type {[number, number, number]} */ (colour.map((channel) => Math.round(channel + part * (255 - channel))));

/**
 * Paint the masks of a frame: filled as strongly as asked for, with outlines at full strength, and light.
 *
 * Objects that are hidden, or that the list does not have (yet), are left out.
 *
 * @param {OffscreenCanvas} canvas is brought to the size of the masks
 * @param {Masks} masks
 * @param {{objects: VideoObject[], opacity: number, outline: boolean, selected: number | null}} how
 */
export function paint(canvas, masks, { objects, opacity, outline, selected }) {
  const { ids, width } = masks;
  const rows = ids.length / width;
  if (canvas.width !== width || canvas.height !== rows) {
    canvas.width = width;
    canvas.height = rows;
  }
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(width, rows);
  const out = new Uint32Array(image.data.buffer);
  const most = objects.reduce((largest, object) => Math.max(largest, object.id), 0);
  const fills = new Uint32Array(most + 1);
  const lines = new Uint32Array(most + 1);
  for (const object of objects) {
    if (!object.visible) continue;
    const colour = channels(object.colour);
    fills[object.id] = pixel(colour, Math.round(255 * opacity));
    lines[object.id] = pixel(lighter(bright(colour), object.id === selected ? 0.7 : 0.3), 255);
  }
  for (let at = 0; at < ids.length; at += 1) {
    const id = ids[at];
    if (id === 0 || id > most || lines[id] === 0) continue;
    out[at] = outline && onEdge(ids, at, width, id, id === selected ? 2 : 1) ? lines[id] : fills[id];
  }
  context.putImageData(image, 0, 0);
}

/**
 * @param {Uint16Array | Uint32Array} ids
 * @param {number} at
 * @param {number} width
 * @param {number} id of this pixel
 * @param {number} reach how thick the edge is
 * @returns {boolean} whether another object, or none, begins that near
 */
function onEdge(ids, at, width, id, reach) {
  const column = at % width;
  for (let step = 1; step <= reach; step += 1) {
    if (column >= step && ids[at - step] !== id) return true;
    if (column + step < width && ids[at + step] !== id) return true;
    const above = ids[at - step * width];
    const below = ids[at + step * width];
    if ((above !== undefined && above !== id) || (below !== undefined && below !== id)) return true;
  }
  return false;
}

/** @param {Masks} masks @param {number} x 0 to 1 of the width @param {number} y 0 to 1 of the height */
export function objectAt(masks, x, y) {
  const rows = masks.ids.length / masks.width;
  const column = Math.floor(x * masks.width);
  const row = Math.floor(y * rows);
  if (column < 0 || row < 0 || column >= masks.width || row >= rows) return 0;
  return masks.ids[row * masks.width + column];
}
