/**
 * The picture with masks, prompts and what is being drawn over it.
 *
 * Points are pixels of the video; (0, 0) is the middle of the first one, so the picture begins at (-0.5, -0.5).
 */

import { bright, channels, objectAt, paint } from "./paint.js";

/** @import {Draft, Point, Prompt} from "./types.js" */
/** @import {State} from "./state.js" */
/** @import {Media} from "./media.js" */
/** @import {Player} from "./player.js" */

const POSITIVE = "#3fd67f";
const NEGATIVE = "#ff6d6d";
const NEUTRAL = "#e8ecf3";
const PATIENCE = 150; // milliseconds that a picture is held back for its masks
const MARGIN = 10; // pixels round the picture
const LARGEST_ZOOM = 16;
const MOST_WANTED = 16;

/** Draws what the state says, once for each screen refresh at most. */
export class Canvas {
  #context;
  #masks = new OffscreenCanvas(1, 1);
  /** @type {unknown[]} what the masks were painted from */
  #painted = [];
  #asked = false;
  #since = 0;
  /** @type {number[]} frames that were wanted since the one that is shown, the last one wanted last */
  #wanted = [];
  #shown = -1;
  #zoom = 1;
  /** @type {Point | null} of the video, in the middle of the screen */
  #middle = null;

  /**
   * @param {HTMLCanvasElement} element
   * @param {State} state
   * @param {Media} media
   * @param {Player} player
   */
  constructor(element, state, media, player) {
    this.element = element;
    this.state = state;
    this.media = media;
    this.player = player;
    this.#context = /** @type {CanvasRenderingContext2D} */ (element.getContext("2d"));
    /** @type {Point | null} where the pointer is, on the video */
    this.pointer = null;
    new ResizeObserver(() => this.#resized()).observe(/** @type {HTMLElement} */ (element.parentElement));
    state.on(
      [
        "server",
        "frame",
        "selected",
        "tool",
        "radius",
        "opacity",
        "outline",
        "masks",
        "crosshair",
        "draft",
        "sent",
        "given",
      ],
      () => this.ask(),
    );
    state.on(["crosshair"], () => element.classList.toggle("keyed", state.now.crosshair !== null));
  }

  /** Draw soon. */
  ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#draw();
    });
  }

  /** Another video: all of it is shown. */
  fit() {
    this.#zoom = 1;
    this.#middle = null;
    this.#shown = -1;
    this.#wanted = [];
    this.#resized();
  }

  /** @param {number} factor @param {Point | null} at stays where it is on the screen */
  zoom(factor, at = null) {
    const { scale, left, top } = this.#place();
    const [x, y] = (at ?? this.state.now.crosshair ?? this.#size().map((one) => one / 2)).map((one) => one + 0.5);
    const before = [left + x * scale, top + y * scale];
    this.#zoom = Math.max(1, Math.min(LARGEST_ZOOM, this.#zoom * factor));
    const after = this.#place();
    this.#move(before[0] - (after.left + x * after.scale), before[1] - (after.top + y * after.scale));
    this.#resized();
  }

  /** @param {number} x pixels of the screen @param {number} y */
  pan(x, y) {
    this.#move(x, y);
    this.ask();
  }

  /** @param {number} x @param {number} y */
  #move(x, y) {
    const { scale } = this.#place();
    const [width, height] = this.#size();
    const [across, down] = this.#middle ?? [width / 2, height / 2];
    const inside = (/** @type {number} */ value, /** @type {number} */ most) => Math.max(0, Math.min(most, value));
    this.#middle = this.#zoom === 1 ? null : [inside(across - x / scale, width), inside(down - y / scale, height)];
  }

  /** @returns {Point} size of the video */
  #size() {
    const video = this.state.now.server?.video;
    return [video?.width ?? 1, video?.height ?? 1];
  }

  /** @returns {{scale: number, left: number, top: number}} where the corner of the picture is, in pixels of the page */
  #place() {
    const [width, height] = this.#size();
    const across = this.element.clientWidth;
    const down = this.element.clientHeight;
    const fit = Math.min((across - 2 * MARGIN) / width, (down - 2 * MARGIN) / height);
    const scale = Math.max(0.01, fit * this.#zoom);
    const [x, y] = this.#middle ?? [width / 2, height / 2];
    return { scale, left: across / 2 - x * scale, top: down / 2 - y * scale };
  }

  /** @param {MouseEvent} event @returns {Point} on the video, maybe outside of it */
  at(event) {
    const { scale, left, top } = this.#place();
    const box = this.element.getBoundingClientRect();
    return [(event.clientX - box.left - left) / scale - 0.5, (event.clientY - box.top - top) / scale - 0.5];
  }

  /** @param {Point} point @returns {Point} the nearest one on the video */
  inside([x, y]) {
    const [width, height] = this.#size();
    return [Math.max(0, Math.min(width - 1, x)), Math.max(0, Math.min(height - 1, y))];
  }

  /** @param {Point} point @returns {number} the object that is seen there, or 0 */
  objectAt([x, y]) {
    const masks = this.media.masks(this.state.now.frame);
    const [width, height] = this.#size();
    if (!masks || !this.state.now.masks) return 0;
    const id = objectAt(masks, (x + 0.5) / width, (y + 0.5) / height);
    return this.state.now.server?.objects.some((object) => object.id === id && object.visible) ? id : 0;
  }

  #resized() {
    const ratio = devicePixelRatio || 1;
    const width = Math.round(this.element.clientWidth * ratio);
    const height = Math.round(this.element.clientHeight * ratio);
    if (this.element.width !== width || this.element.height !== height) {
      this.element.width = width;
      this.element.height = height;
    }
    if (this.state.now.server?.video) this.player.size(this.#place().scale * this.#size()[1] * ratio);
    this.ask();
  }

  /** @returns {number} the frame to draw: while the wanted one is not there, the last one on the way to it that is */
  #choose() {
    const { frame } = this.state.now;
    if (frame !== this.#wanted.at(-1)) {
      this.#wanted = [...this.#wanted, frame].slice(-MOST_WANTED);
      this.#since = performance.now();
    }
    const at = this.#wanted.findLastIndex((one) => this.media.picture(one) !== null);
    if (at < 0) return this.#shown;
    const found = this.#wanted[at];
    const waits = found !== this.#shown && this.player.masked(found) && !this.media.masks(found);
    if (waits && this.#shown >= 0 && performance.now() - this.#since < PATIENCE) {
      this.ask();
      return this.#shown;
    }
    this.#wanted = this.#wanted.slice(at);
    return found;
  }

  #draw() {
    const { server, masks: visible, opacity, outline, selected, frame } = this.state.now;
    const context = this.#context;
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.element.clientWidth, this.element.clientHeight);
    this.#shown = server?.video ? this.#choose() : -1;
    const picture = this.#shown < 0 ? null : this.media.picture(this.#shown);
    const place = this.#place();
    const [width, height] = this.#size();
    const box = /** @type {const} */ ([place.left, place.top, width * place.scale, height * place.scale]);
    if (!server || !picture) {
      this.#tell(-1, null);
      return;
    }
    context.imageSmoothingEnabled = place.scale < 4;
    context.drawImage(picture.bitmap, ...box);
    const masks = this.player.masked(this.#shown) ? this.media.masks(this.#shown) : null;
    if (masks && visible) {
      const from = [masks, server.objects, opacity, outline, selected];
      if (from.some((one, at) => one !== this.#painted[at])) {
        paint(this.#masks, masks, { objects: server.objects, opacity, outline, selected });
        this.#painted = from;
      }
      context.drawImage(this.#masks, ...box);
    }
    this.#tell(this.#shown, masks?.revision ?? null);
    if (this.#shown === frame) this.#drawMarks(place);
  }

  /** @param {number} shown @param {number | null} revision what is on the screen, for those that look at the page */
  #tell(shown, revision) {
    this.element.dataset.frame = shown < 0 ? "" : `${shown}`;
    this.element.dataset.masks = revision === null ? "" : `${revision}`;
  }

  /** @param {{scale: number, left: number, top: number}} place */
  #drawMarks({ scale, left, top }) {
    const { given, sent, draft, crosshair, selected, tool, radius } = this.state.now;
    const context = this.#context;
    context.save();
    context.translate(left + scale / 2, top + scale / 2);
    const pen = new Pen(context, scale);
    for (const { object, prompts } of given) {
      if (selected !== null && object !== selected) continue;
      for (const prompt of prompts) pen.prompt(prompt);
    }
    for (const one of sent) pen.draft(one, this.#colour(), 0.6);
    if (draft) pen.draft(draft, this.#colour(), 1);
    const paints = tool === "brush" || tool === "eraser";
    const at = crosshair ?? this.pointer;
    if (paints && at) pen.circle(at, radius, tool === "eraser" ? NEGATIVE : this.#colour());
    if (crosshair) pen.crosshair(crosshair);
    context.restore();
  }

  /** @returns {string} of the selected object */
  #colour() {
    const object = this.state.selectedObject;
    return object ? `rgb(${bright(channels(object.colour)).join(" ")})` : NEUTRAL;
  }
}

/** Draws marks on the video, as thick at every zoom. */
class Pen {
  /** @param {CanvasRenderingContext2D} context @param {number} scale pixels of the screen for one of the video */
  constructor(context, scale) {
    this.context = context;
    this.scale = scale;
    context.lineCap = "round";
    context.lineJoin = "round";
  }

  /** @param {Prompt} prompt */
  prompt(prompt) {
    if (prompt.kind === "point") this.point([prompt.x, prompt.y], prompt.positive);
    else if (prompt.kind === "box") this.box([prompt.box[0], prompt.box[1]], [prompt.box[2], prompt.box[3]]);
    else if (prompt.kind === "scribble") this.line(prompt.stroke, prompt.positive ? POSITIVE : NEGATIVE, 3);
  }

  /** @param {Draft} draft @param {string} colour of the object @param {number} alpha */
  draft(draft, colour, alpha) {
    this.context.globalAlpha = alpha;
    if (draft.kind === "point") this.point(draft.at, draft.positive);
    else if (draft.kind === "box") this.box(draft.from, draft.to);
    else if (draft.tool === "scribble") this.line(draft.points, draft.positive ? POSITIVE : NEGATIVE, 3);
    else {
      this.context.globalAlpha = 0.6 * alpha;
      this.line(draft.points, draft.tool === "eraser" ? NEGATIVE : colour, 2 * draft.radius * this.scale, false);
    }
    this.context.globalAlpha = 1;
  }

  /** @param {Point} at @param {boolean} positive */
  point([x, y], positive) {
    const { context } = this;
    context.beginPath();
    context.arc(x * this.scale, y * this.scale, 7, 0, 2 * Math.PI);
    context.fillStyle = positive ? POSITIVE : NEGATIVE;
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = "#10131a";
    context.stroke();
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x * this.scale - 3.5, y * this.scale);
    context.lineTo(x * this.scale + 3.5, y * this.scale);
    if (positive) {
      context.moveTo(x * this.scale, y * this.scale - 3.5);
      context.lineTo(x * this.scale, y * this.scale + 3.5);
    }
    context.stroke();
  }

  /** @param {Point} from @param {Point} to */
  box(from, to) {
    const { context, scale } = this;
    const box = /** @type {const} */ ([
      from[0] * scale,
      from[1] * scale,
      (to[0] - from[0]) * scale,
      (to[1] - from[1]) * scale,
    ]);
    context.lineWidth = 3.5;
    context.strokeStyle = "rgb(16 19 26 / 0.7)";
    context.strokeRect(...box);
    context.lineWidth = 1.5;
    context.strokeStyle = POSITIVE;
    context.strokeRect(...box);
  }

  /** @param {Point[]} points @param {string} colour @param {number} width pixels of the screen @param {boolean} [rim] */
  line(points, colour, width, rim = true) {
    if (points.length === 0) return;
    const { context, scale } = this;
    context.beginPath();
    context.moveTo(points[0][0] * scale, points[0][1] * scale);
    for (const [x, y] of points) context.lineTo(x * scale, y * scale);
    if (rim) {
      context.lineWidth = width + 2;
      context.strokeStyle = "rgb(16 19 26 / 0.7)";
      context.stroke();
    }
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }

  /** @param {Point} at @param {number} radius pixels of the video @param {string} colour */
  circle([x, y], radius, colour) {
    const { context, scale } = this;
    for (const [width, style] of /** @type {[number, string][]} */ ([
      [3, "rgb(16 19 26 / 0.7)"],
      [1.5, colour],
    ])) {
      context.beginPath();
      context.arc(x * scale, y * scale, Math.max(1, radius * scale), 0, 2 * Math.PI);
      context.lineWidth = width;
      context.strokeStyle = style;
      context.stroke();
    }
  }

  /** @param {Point} at */
  crosshair([x, y]) {
    const { context, scale } = this;
    for (const [width, style] of /** @type {[number, string][]} */ ([
      [4, "rgb(16 19 26 / 0.8)"],
      [1.5, "#ffffff"],
    ])) {
      context.beginPath();
      for (const [across, down] of [
        [1, 0],
        [-1, 0],
        [0, 1],
        [0, -1],
      ]) {
        context.moveTo(x * scale + 5 * across, y * scale + 5 * down);
        context.lineTo(x * scale + 18 * across, y * scale + 18 * down);
      }
      context.lineWidth = width;
      context.strokeStyle = style;
      context.stroke();
    }
  }
}
