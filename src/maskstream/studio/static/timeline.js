/** The timeline: thumbnails, and for each object a strip of where it was given and found. Two canvases, whatever the length. */

import { readImage } from "./api.js";
import { doubtfulPlaces } from "./actions.js";
import { channels, lighter } from "./paint.js";

/** @import {Span, VideoObject} from "./types.js" */
/** @import {State} from "./state.js" */
/** @import {Actions} from "./actions.js" */

const NAMES = 112; // pixels left of the strips, for names
const RIGHT = 10;
const RULER = 16;
const THUMBNAIL = 40;
const ROW = 18;
const BAR = 5; // pixels above and below it
const AT_ONCE = 2;
const INK = "#9aa4b5";
const AMBER = "#ffb84d";

/** Draws the timeline and follows the pointer on it. */
export class Timeline {
  #ruler = /** @type {HTMLCanvasElement} */ (document.getElementById("ruler"));
  #strips = /** @type {HTMLCanvasElement} */ (document.getElementById("strips"));
  #playhead = /** @type {HTMLElement} */ (document.getElementById("playhead"));
  #track = /** @type {HTMLElement} */ (document.getElementById("track"));
  #width = 0;
  /** @type {Map<number, ImageBitmap | null>} null: it is being fetched, or there is none */
  #thumbnails = new Map();
  #fetching = 0;
  #key = "";
  #asked = false;
  #hatch;

  /** @param {State} state @param {Actions} actions */
  constructor(state, actions) {
    this.state = state;
    this.actions = actions;
    this.#hatch = hatching();
    new ResizeObserver(() => this.#ask()).observe(this.#track);
    state.on(["server", "selected", "first", "last"], () => this.#ask());
    state.on(["frame", "server"], () => this.#point());
    state.on(["selected"], () => this.#reveal());
    this.#track.addEventListener("pointerdown", (event) => this.#down(event));
    this.#track.addEventListener("lostpointercapture", () => state.set({ scrubbing: false }));
    this.#track.addEventListener("pointermove", (event) => {
      if (this.#track.hasPointerCapture(event.pointerId)) this.#scrub(event);
    });
  }

  #ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#draw();
    });
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0) return;
    const row = this.#rowAt(event);
    const object = this.state.now.server?.objects[row];
    if (this.#x(event) < NAMES) {
      if (object) this.actions.select(object.id);
      return;
    }
    this.state.set({ playing: false, scrubbing: true });
    this.#track.setPointerCapture(event.pointerId);
    this.#scrub(event);
  }

  /** @param {PointerEvent} event */
  #x(event) {
    return event.clientX - this.#track.getBoundingClientRect().left;
  }

  /** @param {PointerEvent} event @returns {number} which strip; negative above them */
  #rowAt(event) {
    return Math.floor((event.clientY - this.#strips.getBoundingClientRect().top) / ROW);
  }

  /** @param {PointerEvent} event */
  #scrub(event) {
    this.actions.goTo(Math.floor(((this.#x(event) - NAMES) / this.#span) * this.state.frames));
  }

  /** Pixels that all frames take. */
  get #span() {
    return Math.max(1, this.#width - NAMES - RIGHT);
  }

  /** @param {number} frame @returns {number} where it begins */
  #left(frame) {
    return NAMES + (frame / Math.max(1, this.state.frames)) * this.#span;
  }

  /** Scroll to the strip of the selected object. */
  #reveal() {
    const row = (this.state.now.server?.objects ?? []).findIndex((object) => object.id === this.state.now.selected);
    const box = /** @type {HTMLElement} */ (this.#strips.parentElement);
    if (row < 0) return;
    box.scrollTop = Math.max((row + 1) * ROW - box.clientHeight, Math.min(row * ROW, box.scrollTop));
  }

  /** Move the line of the frame that is shown. */
  #point() {
    const { frame, server } = this.state.now;
    const frames = this.state.frames;
    if (!server?.video) return;
    const middle = (this.#left(frame) + this.#left(frame + 1)) / 2;
    this.#playhead.style.transform = `translateX(${middle.toFixed(1)}px)`;
    this.#track.setAttribute("aria-valuemax", `${frames - 1}`);
    this.#track.setAttribute("aria-valuenow", `${frame}`);
    this.#track.setAttribute("aria-valuetext", `frame ${frame} of ${frames - 1}`);
  }

  #draw() {
    const { server } = this.state.now;
    const width = this.#track.clientWidth;
    if (!server?.video || width === 0) return;
    this.#width = width;
    if (this.#key !== server.video.key) {
      this.#key = server.video.key;
      this.#thumbnails.clear();
    }
    this.#drawRuler();
    this.#drawStrips(server.objects);
    this.#point();
  }

  #drawRuler() {
    const { server } = this.state.now;
    const context = sized(this.#ruler, this.#width, RULER + THUMBNAIL + 4);
    const frames = this.state.frames;
    const [first, last] = this.state.range;
    const begin = this.#left(first);
    const end = this.#left(last + 1);
    context.fillStyle = "#20252e";
    context.fillRect(NAMES, 0, this.#span, RULER - 2);
    if (this.state.now.first !== null || this.state.now.last !== null) {
      context.fillStyle = "rgb(90 169 255 / 0.35)";
      context.fillRect(begin, 0, end - begin, RULER - 2);
    }
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillStyle = INK;
    for (let frame = 0, step = stepOf(frames, this.#span); frame < frames; frame += step) {
      const x = this.#left(frame);
      context.fillRect(x, 0, 1, RULER - 2);
      context.fillText(`${frame}`, x + 3, (RULER - 2) / 2 + 0.5);
    }
    context.fillStyle = AMBER;
    for (const place of doubtfulPlaces(server?.doubtful ?? [])) {
      const x = (this.#left(place.frame) + this.#left(place.frame + 1)) / 2;
      context.beginPath();
      context.moveTo(x - 4, RULER - 8);
      context.lineTo(x + 4, RULER - 8);
      context.lineTo(x, RULER - 2);
      context.fill();
    }
    this.#drawThumbnails(context);
  }

  /** @param {CanvasRenderingContext2D} context */
  #drawThumbnails(context) {
    const video = this.state.now.server?.video;
    if (!video) return;
    const wide = Math.max(16, Math.round((THUMBNAIL * video.width) / video.height));
    const count = Math.max(1, Math.round(this.#span / wide));
    const each = this.#span / count;
    for (let at = 0; at < count; at += 1) {
      const frame = Math.min(video.frames - 1, Math.floor(((at + 0.5) / count) * video.frames));
      const bitmap = this.#thumbnail(frame);
      const x = NAMES + at * each;
      context.fillStyle = "#20252e";
      context.fillRect(x, RULER, each - 1, THUMBNAIL);
      if (!bitmap) continue;
      const part = Math.min(bitmap.width, (bitmap.height * (each - 1)) / THUMBNAIL);
      context.drawImage(bitmap, (bitmap.width - part) / 2, 0, part, bitmap.height, x, RULER, each - 1, THUMBNAIL);
    }
  }

  /** @param {number} frame @returns {ImageBitmap | null} null until it has been fetched */
  #thumbnail(frame) {
    const found = this.#thumbnails.get(frame);
    if (found !== undefined || this.#fetching >= AT_ONCE) return found ?? null;
    this.#fetching += 1;
    this.#thumbnails.set(frame, null);
    const key = this.#key;
    readImage(`/api/thumbnails/${frame}.jpg?v=${encodeURIComponent(key)}`)
      .then((bitmap) => key === this.#key && this.#thumbnails.set(frame, bitmap))
      .catch(() => undefined) // a grey place is what is shown then
      .finally(() => {
        this.#fetching -= 1;
        this.#ask();
      });
    return null;
  }

  /** @param {VideoObject[]} objects */
  #drawStrips(objects) {
    const { server, selected } = this.state.now;
    const context = sized(this.#strips, this.#width, Math.max(1, objects.length) * ROW);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    /** @type {Map<number, number[]>} */
    const doubts = new Map();
    for (const { object, frame } of server?.doubtful ?? []) doubts.set(object, [...(doubts.get(object) ?? []), frame]);
    objects.forEach((object, row) => {
      const y = row * ROW;
      context.globalAlpha = object.visible ? 1 : 0.4;
      if (object.id === selected) {
        context.fillStyle = "#2b3442";
        context.fillRect(0, y, this.#width, ROW);
      }
      const colour = `rgb(${lighter(channels(object.colour), 0.35).join(" ")})`;
      context.fillStyle = colour;
      context.fillRect(6, y + 5, 8, 8);
      context.fillStyle = object.id === selected ? "#ffffff" : "#c7cedb";
      context.fillText(clipped(context, object.name, NAMES - 26), 20, y + ROW / 2 + 0.5);
      context.fillStyle = "#20252e";
      context.fillRect(NAMES, y + BAR, this.#span, ROW - 2 * BAR);
      this.#bars(context, object.found, colour, y);
      this.#bars(context, object.outdated, "#20252e", y, 0.55);
      this.#bars(context, object.outdated, this.#hatch, y);
      context.fillStyle = AMBER;
      for (const frame of doubts.get(object.id) ?? []) {
        context.fillRect(this.#left(frame), y + ROW - BAR + 1, Math.max(2, this.#left(1) - this.#left(0)), 3);
      }
      for (const frame of object.given) {
        context.beginPath();
        context.arc((this.#left(frame) + this.#left(frame + 1)) / 2, y + ROW / 2, 4.5, 0, 2 * Math.PI);
        context.fillStyle = "#ffffff";
        context.fill();
        context.lineWidth = 2;
        context.strokeStyle = colour;
        context.stroke();
      }
    });
    context.globalAlpha = 1;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Span[]} spans
   * @param {string | CanvasPattern} style
   * @param {number} y
   * @param {number} [alpha]
   */
  #bars(context, spans, style, y, alpha = 1) {
    const before = context.globalAlpha;
    context.globalAlpha = before * alpha;
    context.fillStyle = style;
    for (const [first, last] of spans) {
      const left = this.#left(first);
      context.fillRect(left, y + BAR, Math.max(2, this.#left(last + 1) - left), ROW - 2 * BAR);
    }
    context.globalAlpha = before;
  }
}

/** @param {HTMLCanvasElement} canvas @param {number} width pixels of the page @param {number} height */
function sized(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.scale(ratio, ratio);
  return context;
}

/** @returns {CanvasPattern} slanted lines */
function hatching() {
  const tile = new OffscreenCanvas(6, 6);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (tile.getContext("2d"));
  context.strokeStyle = "rgb(255 255 255 / 0.55)";
  context.lineWidth = 1.3;
  for (const shift of [-6, 0, 6]) {
    context.moveTo(shift, 6);
    context.lineTo(shift + 6, 0);
  }
  context.stroke();
  return /** @type {CanvasPattern} */ (context.createPattern(tile, "repeat"));
}

/** @param {number} frames @param {number} width @returns {number} frames between two numbers that do not touch */
function stepOf(frames, width) {
  for (let ten = 1; ; ten *= 10) {
    for (const step of [ten, 2 * ten, 5 * ten]) if ((step / Math.max(1, frames)) * width >= 44) return step;
  }
}

/** @param {CanvasRenderingContext2D} context @param {string} text @param {number} width @returns {string} as much as fits */
function clipped(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && context.measureText(`${text.slice(0, end)}…`).width > width) end -= 1;
  return `${text.slice(0, end)}…`;
}
