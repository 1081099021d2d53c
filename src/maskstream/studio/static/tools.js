/** The tools: what a gesture of the mouse, or of the keyboard, on the picture means. */

import { say } from "./messages.js";

/** @import {Draft, Point} from "./types.js" */
/** @import {State} from "./state.js" */
/** @import {Actions} from "./actions.js" */
/** @import {Canvas} from "./canvas.js" */

const SMALLEST_BOX = 3; // pixels of the video; less is a click
const MOST_POINTS = 2000; // of a stroke that is sent
const ARROWS = /** @type {Record<string, Point>} */ ({
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
});

/** Turns gestures on the picture into actions. */
export class Tools {
  /** @type {Point | null} where the picture is being held, on the page */
  #held = null;
  /** @type {Point | null} where the crosshair was last */
  #last = null;
  /** Whether the key pressed last goes from one control to the next. */
  #keyed = false;
  /** Whether the crosshair was there when the picture lost the focus. */
  #before = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #announcement;

  /** @param {Canvas} canvas @param {State} state @param {Actions} actions */
  constructor(canvas, state, actions) {
    this.canvas = canvas;
    this.state = state;
    this.actions = actions;
    const element = canvas.element;
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#moved(event));
    element.addEventListener("pointerup", (event) => this.#up(event));
    element.addEventListener("pointercancel", () => this.#cancel());
    element.addEventListener("pointerleave", () => this.#at(null));
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("keydown", (event) => (this.#keyed = event.key === "Tab"), { capture: true });
    document.addEventListener("pointerdown", () => (this.#keyed = this.#before = false), { capture: true });
    element.addEventListener("focus", () => (this.#keyed || this.#before) && this.#cross(true));
    element.addEventListener("blur", () => {
      this.#before = this.state.now.crosshair !== null;
      this.#cross(false);
    });
  }

  /** Put the crosshair on the picture, for those who have no mouse. */
  focus() {
    this.canvas.element.focus();
    this.#cross(true);
  }

  /** @returns {boolean} whether something that was begun has been given up */
  cancel() {
    if (!this.state.now.draft) return false;
    this.#cancel();
    return true;
  }

  #cancel() {
    this.#held = null;
    this.state.set({ draft: null });
  }

  /** @param {boolean} on */
  #cross(on) {
    const video = this.state.now.server?.video;
    if (!on) this.state.set({ crosshair: null, draft: this.state.now.crosshair ? null : this.state.now.draft });
    else if (video && !this.state.now.crosshair) {
      const last = this.#last;
      this.state.set({
        crosshair: this.canvas.inside(last ?? [Math.floor(video.width / 2), Math.floor(video.height / 2)]),
      });
    }
  }

  /** @param {Point | null} point */
  #at(point) {
    this.canvas.pointer = point;
    const { tool } = this.state.now;
    if (tool === "brush" || tool === "eraser") this.canvas.ask();
  }

  /** @param {PointerEvent} event */
  #down(event) {
    const point = this.canvas.at(event);
    this.#last = null;
    this.state.set({ crosshair: null, draft: null });
    this.canvas.element.setPointerCapture(event.pointerId);
    if (event.button === 1) {
      this.#held = [event.clientX, event.clientY];
      event.preventDefault();
    } else if (event.button === 0 && (event.ctrlKey || event.metaKey)) {
      this.#pick(point);
    } else if (event.button === 0 || event.button === 2) {
      const [x, y] = this.canvas.inside(point);
      if (Math.hypot(x - point[0], y - point[1]) > Math.max(2, this.state.now.radius)) return; // beside the picture
      const other = event.button === 2 || event.shiftKey;
      this.#begin([x, y], other ? !this.state.now.positive : this.state.now.positive);
    }
  }

  /** @param {PointerEvent} event */
  #moved(event) {
    this.#at(this.canvas.at(event));
    if (this.#held) {
      this.canvas.pan(event.clientX - this.#held[0], event.clientY - this.#held[1]);
      this.#held = [event.clientX, event.clientY];
    } else if (this.state.now.draft) {
      for (const one of event.getCoalescedEvents?.() ?? [event]) this.#go(this.canvas.inside(this.canvas.at(one)));
    }
  }

  /** @param {PointerEvent} event */
  #up(event) {
    this.#held = null;
    if (this.state.now.draft) {
      this.#go(this.canvas.inside(this.canvas.at(event)));
      this.#end();
    }
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    this.canvas.zoom(event.deltaY < 0 ? 1.25 : 0.8, this.canvas.at(event));
  }

  /** @param {Point} point select the object there */
  #pick(point) {
    const object = this.canvas.objectAt(point);
    if (object) this.actions.select(object);
  }

  /** @param {Point} point @param {boolean} positive */
  #begin(point, positive) {
    const { tool, radius } = this.state.now;
    /** @type {Draft} */
    let draft = { kind: "point", at: point, positive };
    if (tool === "box") draft = { kind: "box", from: point, to: point };
    else if (tool !== "point") draft = { kind: "stroke", tool, points: [point], positive, radius };
    this.state.set({ draft });
  }

  /** @param {Point} point */
  #go(point) {
    const { draft } = this.state.now;
    if (draft?.kind === "box") this.state.set({ draft: { ...draft, to: point } });
    else if (draft?.kind === "stroke") {
      const [x, y] = draft.points[draft.points.length - 1];
      if (Math.hypot(point[0] - x, point[1] - y) < 0.5) return;
      draft.points.push(point);
      this.state.set({ draft: { ...draft } });
    }
  }

  /** The gesture is complete. */
  #end() {
    const { draft } = this.state.now;
    this.state.set({ draft: null });
    if (draft?.kind === "point") {
      const [x, y] = draft.at;
      this.actions.prompt([{ kind: "point", x, y, positive: draft.positive }], draft);
    } else if (draft?.kind === "box") {
      const [left, right] = [draft.from[0], draft.to[0]].sort((a, b) => a - b);
      const [top, bottom] = [draft.from[1], draft.to[1]].sort((a, b) => a - b);
      if (right - left < SMALLEST_BOX || bottom - top < SMALLEST_BOX) return say("Draw the box from corner to corner.");
      this.actions.prompt([{ kind: "box", box: [left, top, right, bottom] }], draft);
    } else if (draft?.kind === "stroke") {
      const points = thinned(draft.points, MOST_POINTS);
      if (draft.tool === "scribble") {
        this.actions.prompt([{ kind: "scribble", stroke: points, positive: draft.positive }], draft);
      } else {
        this.actions.stroke(points, draft.tool === "eraser", draft);
      }
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { crosshair, draft, tool, positive } = this.state.now;
    if (!crosshair || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow && !event.ctrlKey && !event.metaKey) {
      const step = event.shiftKey ? 1 : Math.max(1, Math.round((this.state.now.server?.video?.height ?? 480) / 48));
      const next = this.canvas.inside([crosshair[0] + step * arrow[0], crosshair[1] + step * arrow[1]]);
      this.#last = next;
      this.state.set({ crosshair: next });
      this.#go(next);
      this.#announce();
    } else if (event.key === "Enter") {
      if (event.ctrlKey || event.metaKey) this.#pick(crosshair);
      else if (draft) this.#end();
      else {
        this.#begin(crosshair, event.shiftKey ? !positive : positive);
        if (tool === "point") this.#end();
      }
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Say where the crosshair is, once it rests. */
  #announce() {
    clearTimeout(this.#announcement);
    this.#announcement = setTimeout(() => {
      const { crosshair, server } = this.state.now;
      if (!crosshair) return;
      const id = this.canvas.objectAt(crosshair);
      const object = server?.objects.find((one) => one.id === id);
      say(`${crosshair.map(Math.round).join(", ")}: ${object ? object.name : "no object"}`);
    }, 300);
  }
}

/** @param {Point[]} points @param {number} most @returns {Point[]} evenly left out, if they are more; both ends stay */
function thinned(points, most) {
  if (points.length <= most) return points;
  return Array.from({ length: most }, (_, at) => points[Math.round((at * (points.length - 1)) / (most - 1))]);
}
