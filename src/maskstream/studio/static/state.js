/** What the page knows: what the server said last, and what belongs to this tab alone. */

/** @import {Draft, Given, Point, ServerState, Span, ToolName, VideoObject} from "./types.js" */

/**
 * @typedef {object} View
 * @property {ServerState | null} server
 * @property {boolean} connected
 * @property {boolean} starting    the start page is shown, though a video may be open
 * @property {number} frame
 * @property {number | null} selected    object that prompts go to; null: they make a new one
 * @property {ToolName} tool
 * @property {boolean} positive    what the main button of the mouse says
 * @property {number} radius    of the brush, in pixels of the video
 * @property {number} opacity    0 to 1
 * @property {boolean} outline
 * @property {boolean} masks    whether they are shown
 * @property {number | null} first    of what is propagated; null: of the video
 * @property {number | null} last
 * @property {boolean} onlySelected    propagate only the selected object
 * @property {boolean} playing
 * @property {boolean} scrubbing    the timeline is being pulled along: frames between are not waited for
 * @property {Point | null} crosshair    moved by the keyboard
 * @property {Draft | null} draft    the gesture that is being made
 * @property {Draft[]} sent    gestures that the server has not answered
 * @property {Given[]} given    prompts on the frame
 */

const KEPT = /** @type {const} */ (["radius", "opacity", "outline"]);
const STORE = "maskstream-studio";

/** Values with listeners. Listeners run once after all changes that are made together. */
export class State {
  /** @type {Set<{keys: Set<string>, run: () => void}>} */
  #listeners = new Set();
  /** @type {Set<string>} */
  #changed = new Set();

  constructor() {
    /** @type {View} */
    this.now = {
      server: null,
      connected: false,
      starting: false,
      frame: 0,
      selected: null,
      tool: "point",
      positive: true,
      radius: 12,
      opacity: 0.5,
      outline: true,
      masks: true,
      first: null,
      last: null,
      onlySelected: false,
      playing: false,
      scrubbing: false,
      crosshair: null,
      draft: null,
      sent: [],
      given: [],
      ...kept(),
    };
  }

  /** @param {Partial<View>} changes */
  set(changes) {
    const first = this.#changed.size === 0;
    for (const [key, value] of Object.entries(changes)) {
      if (Object.is(/** @type {any} */ (this.now)[key], value)) continue;
      /** @type {any} */ (this.now)[key] = value;
      this.#changed.add(key);
    }
    if (first && this.#changed.size > 0) queueMicrotask(() => this.#tell());
  }

  /**
   * @param {(keyof View)[]} keys
   * @param {() => void} run after any of these changed
   */
  on(keys, run) {
    this.#listeners.add({ keys: new Set(keys), run });
  }

  #tell() {
    const changed = this.#changed;
    this.#changed = new Set();
    for (const { keys, run } of this.#listeners) if ([...changed].some((key) => keys.has(key))) run();
    if (KEPT.some((key) => changed.has(key))) keep(this.now);
  }

  /** @returns {VideoObject | null} */
  get selectedObject() {
    return this.now.server?.objects.find((object) => object.id === this.now.selected) ?? null;
  }

  /** @returns {number} frames of the video; 0 if there is none */
  get frames() {
    return this.now.server?.video?.frames ?? 0;
  }

  /** @returns {Span} what is propagated */
  get range() {
    const end = Math.max(0, this.frames - 1);
    return [Math.min(this.now.first ?? 0, end), Math.min(this.now.last ?? end, end)];
  }
}

/** @returns {Partial<View>} what this browser kept from an earlier visit */
function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(STORE) ?? "{}");
    /** @type {Record<string, unknown>} */
    const view = {};
    if (found.radius >= 1 && found.radius <= 100) view.radius = found.radius;
    if (found.opacity >= 0 && found.opacity <= 1) view.opacity = found.opacity;
    if (typeof found.outline === "boolean") view.outline = found.outline;
    return view;
  } catch {
    return {}; // a browser that keeps nothing
  }
}

/** @param {View} view */
function keep(view) {
  try {
    localStorage.setItem(STORE, JSON.stringify(Object.fromEntries(KEPT.map((key) => [key, view[key]]))));
  } catch {
    // a browser that keeps nothing
  }
}

/** @param {VideoObject} object @param {number} frame */
export const isThere = (object, frame) => object.given.includes(frame) || within(object.found, frame);

/** @param {Span[]} spans @param {number} frame */
const within = (spans, frame) => spans.some(([first, last]) => first <= frame && frame <= last);

/** @param {Span[]} spans */
export const countOf = (spans) => spans.reduce((sum, [first, last]) => sum + last - first + 1, 0);
