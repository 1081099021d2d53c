/** What a person can do, whether with the mouse or with keys. */

import * as api from "./api.js";
import { fail, say } from "./messages.js";
import { isThere } from "./state.js";

/** @import {Draft, Doubt, Point, Prompt} from "./types.js" */
/** @import {State} from "./state.js" */
/** @import {Sync} from "./sync.js" */

const NEIGHBOURS = 2; // doubtful frames of an object this near to each other are one place to look at

/** Everything that can be done to the open video. */
export class Actions {
  /** @param {State} state @param {Sync} sync */
  constructor(state, sync) {
    this.state = state;
    this.sync = sync;
  }

  /** @param {number} frame the nearest there is, if there is no such frame */
  goTo(frame) {
    if (Number.isNaN(frame) || this.state.frames === 0) return;
    this.state.set({ frame: Math.round(Math.max(0, Math.min(this.state.frames - 1, frame))), draft: null });
  }

  /** @param {number} by frames */
  step(by) {
    this.state.set({ playing: false });
    this.goTo(this.state.now.frame + by);
  }

  /** @param {number | null} object null: what is clicked on next is a new object */
  select(object) {
    this.state.set({ selected: object });
  }

  /** @param {number} at place in the list of objects */
  selectAt(at) {
    const object = this.state.now.server?.objects[at];
    if (object) this.select(object.id);
  }

  /** @param {Prompt[]} prompts @param {Draft} draft */
  prompt(prompts, draft) {
    const { frame } = this.state.now;
    const negative = prompts.every((prompt) => prompt.kind !== "box" && !prompt.positive);
    if (negative && this.#noneYet()) {
      return fail("“Is not” takes something away from an object: select the object first.");
    }
    this.#edit(() => api.sendPrompts(frame, this.state.now.selected, prompts), draft);
  }

  /** @param {Point[]} stroke @param {boolean} erase @param {Draft} draft */
  stroke(stroke, erase, draft) {
    const { frame, radius } = this.state.now;
    if (erase && this.#noneYet())
      return fail("The eraser takes something away from an object: select the object first.");
    this.#edit(() => api.sendStroke(frame, this.state.now.selected, stroke, radius, erase), draft);
  }

  /** @returns {boolean} whether no object is selected, nor will be when what was sent is answered */
  #noneYet() {
    return this.state.now.selected === null && this.state.now.sent.length === 0;
  }

  /** @param {() => Promise<import("./types.js").Change>} request @param {Draft} draft */
  #edit(request, draft) {
    const done = (/** @type {import("./types.js").Change} */ change) => {
      if (typeof change.object === "number") this.select(change.object);
    };
    void this.sync.edit(request, { draft, done });
  }

  /** Take the selected object away from the frame that is shown. */
  clear() {
    const { frame, selected } = this.state.now;
    if (selected !== null) void this.sync.edit(() => api.clearObject(frame, selected));
  }

  /** @param {number} object @param {{name?: string, category?: string, colour?: string, visible?: boolean}} what */
  describe(object, what) {
    return this.sync.edit(() => api.describeObject(object, what));
  }

  /** Show or hide the selected object. */
  hide() {
    const object = this.state.selectedObject;
    if (object) void this.describe(object.id, { visible: !object.visible });
  }

  /** Delete the selected object everywhere. */
  async remove() {
    const object = this.state.selectedObject;
    if (!object) return;
    if (await this.sync.edit(() => api.deleteObject(object.id))) say(`${object.name} is deleted; undo brings it back.`);
  }

  /** @param {number} into @param {number[]} others */
  merge(into, others) {
    return this.sync.edit(() => api.mergeObjects(into, others));
  }

  /** @param {"time" | "regions"} how */
  split(how) {
    const { frame, selected } = this.state.now;
    if (selected !== null) void this.sync.edit(() => api.splitObject(selected, frame, how));
  }

  async undo() {
    this.#told("Undone", await this.sync.edit(api.undo));
  }

  async redo() {
    this.#told("Done again", await this.sync.edit(api.redo));
  }

  /** @param {string} what @param {import("./types.js").Change | null} change */
  #told(what, change) {
    if (change?.label) say(`${what}: ${change.label}`);
    const frames = change?.frames ?? [];
    if (frames.length === 1) this.goTo(frames[0]); // a person sees what has changed
  }

  /** @param {"forward" | "backward" | "both"} direction */
  propagate(direction) {
    const [first, last] = this.state.range;
    const { onlySelected, selected } = this.state.now;
    const objects = onlySelected && selected !== null ? [selected] : null;
    return this.sync.job(() => api.propagate(objects, first, last, direction));
  }

  /** @param {string | null} text null: everything */
  find(text) {
    const [first, last] = this.state.range;
    return this.sync.job(() => api.find(first, last, text));
  }

  /** @param {"first" | "last"} end of what is propagated: the frame that is shown */
  mark(end) {
    const { frame, first, last } = this.state.now;
    if (end === "first") this.state.set({ first: frame, last: last !== null && last < frame ? null : last });
    else this.state.set({ last: frame, first: first !== null && first > frame ? null : first });
  }

  /** Propagate over the whole video. */
  markNone() {
    this.state.set({ first: null, last: null });
  }

  /** @param {1 | -1} way to the next place in time, or the one before; round the ends */
  doubtful(way) {
    const places = doubtfulPlaces(this.state.now.server?.doubtful ?? []);
    if (places.length === 0) return;
    const { frame } = this.state.now;
    const ahead =
      way > 0 ? places.filter((place) => place.frame > frame) : places.filter((place) => place.frame < frame);
    const place = way > 0 ? (ahead[0] ?? places[0]) : (ahead.at(-1) ?? places[places.length - 1]);
    this.state.set({ playing: false, selected: place.object });
    this.goTo(place.frame);
  }

  /** @returns {boolean} whether the selected object is on the frame that is shown */
  get isHere() {
    const object = this.state.selectedObject;
    return object !== null && isThere(object, this.state.now.frame);
  }
}

/**
 * Doubtful frames of one object that follow each other are one place, to be looked at where it is worst.
 *
 * @param {Doubt[]} doubtful
 * @returns {Doubt[]} in the order of time
 */
export function doubtfulPlaces(doubtful) {
  const sorted = [...doubtful].sort((a, b) => a.object - b.object || a.frame - b.frame);
  /** @type {Doubt[]} */
  const places = [];
  sorted.forEach((doubt, at) => {
    const before = sorted[at - 1];
    const goesOn = before && before.object === doubt.object && doubt.frame - before.frame <= NEIGHBOURS;
    if (!goesOn) places.push(doubt);
    else if (doubt.doubt > places[places.length - 1].doubt) places[places.length - 1] = doubt;
  });
  return places.sort((a, b) => a.frame - b.frame || b.doubt - a.doubt);
}
