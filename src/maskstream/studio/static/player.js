/** Which pictures are wanted next, and playing them. */

import { isThere } from "./state.js";

/** @import {State} from "./state.js" */
/** @import {Media, Wish} from "./media.js" */

const AHEAD = 8;
const AHEAD_PLAYING = 16;
const BEHIND = 2;
const HEIGHTS = [240, 360, 480, 720, 1080, 1440, 2160];

/** Looks ahead, and plays no faster than pictures come. */
export class Player {
  #way = 1;
  #before = 0;
  #due = 0;

  /** @param {State} state @param {Media} media */
  constructor(state, media) {
    this.state = state;
    this.media = media;
    state.on(["frame"], () => {
      this.#way = this.state.now.frame < this.#before ? -1 : 1;
      this.#before = this.state.now.frame;
    });
    state.on(["frame", "server", "sent", "playing", "scrubbing"], () => this.look());
    state.on(["playing"], () => {
      if (!this.state.now.playing) return;
      this.#due = performance.now();
      requestAnimationFrame((now) => this.#tick(now));
    });
  }

  /** @param {number} pixels of the screen that the height of a picture takes */
  size(pixels) {
    const height = this.state.now.server?.video?.height ?? 480;
    this.media.size(Math.min(height, HEIGHTS.find((one) => one >= pixels) ?? HEIGHTS[HEIGHTS.length - 1]));
    this.look();
  }

  /** @param {number} frame @returns {boolean} whether it has masks, as far as is known */
  masked(frame) {
    return (
      this.media.touched(frame) || (this.state.now.server?.objects.some((object) => isThere(object, frame)) ?? false)
    );
  }

  /** @param {number} frame @returns {boolean} whether picture and masks are there */
  ready(frame) {
    return (
      this.media.has({ kind: "picture", frame }) && (!this.masked(frame) || this.media.has({ kind: "masks", frame }))
    );
  }

  /** Fetch what is shown, and what will be. */
  look() {
    const { frame, playing, scrubbing } = this.state.now;
    const frames = this.state.frames;
    if (frames === 0) return;
    /** @type {Wish[]} */
    const wishes = [];
    const wish = (/** @type {number} */ one) => {
      if (one < 0 || one >= frames) return;
      wishes.push({ kind: "picture", frame: one });
      if (this.masked(one)) wishes.push({ kind: "masks", frame: one });
    };
    const way = playing ? 1 : this.#way;
    const ahead = scrubbing ? 0 : playing ? AHEAD_PLAYING : AHEAD; // nobody knows where scrubbing goes
    wish(frame);
    for (let step = 1; step <= ahead; step += 1) wish(frame + way * step);
    for (let step = 1; step <= Math.min(ahead, BEHIND); step += 1) wish(frame - way * step);
    this.media.want(wishes);
  }

  /** Play from here to the end, or from the beginning if this is the end; or stop playing. */
  toggle() {
    const { playing, frame } = this.state.now;
    const last = this.state.frames - 1;
    if (!playing && frame >= last) this.state.set({ frame: 0 });
    this.state.set({ playing: !playing, draft: null });
  }

  /** @param {number} now */
  #tick(now) {
    const { playing, frame, server } = this.state.now;
    if (!playing) return;
    const last = this.state.frames - 1;
    if (frame >= last) {
      this.state.set({ playing: false });
      return;
    }
    if (now >= this.#due && this.ready(frame + 1)) {
      const between = 1000 / (server?.video?.fps || 25);
      this.#due = Math.max(this.#due + between, now - between); // late pictures are not made up for
      this.state.set({ frame: frame + 1 });
    }
    requestAnimationFrame((later) => this.#tick(later));
  }
}
