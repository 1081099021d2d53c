/** Keeps this tab in step with the server, and sends it what a person does, one thing after another. */

import * as api from "./api.js";
import { calm, fail, say } from "./messages.js";

/** @import {Change, Draft, StudioEvent} from "./types.js" */
/** @import {State} from "./state.js" */
/** @import {Media} from "./media.js" */

const BETWEEN_READS = 150;
const STRANGE = "The server says something that this page does not understand: reload the page.";

/** What of a tab is about one video. */
const NOTHING = {
  starting: false,
  first: null,
  last: null,
  playing: false,
  draft: null,
  sent: [],
  given: [],
  crosshair: null,
};

/** One tab and the server. */
export class Sync {
  /** @type {Promise<void> | null} */
  #reading = null;
  /** @type {Promise<void> | null} */
  #following = null;
  /** @type {ReturnType<typeof setTimeout> | null} */
  #timer = null;
  #missed = false;
  /** @type {Promise<unknown>} */
  #edits = Promise.resolve();
  /** @type {string | null} the job of an export that this tab began */
  #export = null;
  /** @type {{job: string, link: HTMLAnchorElement | null} | null} an export that ended before we were told its job */
  #exported = null;
  #asked = 0;

  /** @param {State} state @param {Media} media */
  constructor(state, media) {
    this.state = state;
    this.media = media;
    state.on(["frame", "playing"], () => void this.readGiven());
  }

  /** Begin: read everything and listen. */
  async start() {
    await this.refresh();
    api.listen(
      (event) => this.#hear(event),
      (up) => {
        if (this.state.now.connected === up) return;
        this.state.set({ connected: up });
        if (up) void this.refresh({ missed: true });
      },
    );
  }

  /**
   * Read the state of the server.
   *
   * @param {{missed?: boolean}} [options] missed: events may have been missed, so masks may have changed without a word
   * @returns {Promise<void>} done when a reading that began after this call is
   */
  refresh({ missed = false } = {}) {
    this.#missed ||= missed;
    if (!this.#reading) {
      this.#reading = this.#read().finally(() => {
        this.#reading = null;
      });
      return this.#reading;
    }
    this.#following ??= this.#reading.then(() => {
      this.#following = null;
      return this.refresh();
    });
    return this.#following;
  }

  /** Read it soon; a stream of events makes a few readings a second. */
  #refreshSoon() {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      void this.refresh();
    }, BETWEEN_READS);
  }

  async #read() {
    const missed = this.#missed;
    this.#missed = false;
    try {
      const server = await api.readState();
      if (!Array.isArray(server?.objects)) throw new Error(STRANGE);
      const before = this.state.now.server;
      const other = before?.video?.key !== server.video?.key || before?.project?.folder !== server.project?.folder;
      if (server.video && other) this.media.use(server.video, server.revision);
      else if (missed && server.revision !== before?.revision) this.media.renew(server.revision);
      const { frame, selected } = this.state.now;
      this.state.set({
        server,
        frame: other ? 0 : frame,
        selected: server.objects.some((object) => object.id === selected) ? selected : null,
        ...(other ? NOTHING : {}),
      });
      if (missed || other) void this.readGiven();
    } catch (error) {
      fail(error);
    }
  }

  /** Read the prompts of the frame that is shown. */
  async readGiven() {
    const { frame, playing, server } = this.state.now;
    const asked = ++this.#asked;
    if (playing || !server?.video) return this.state.set({ given: [] });
    try {
      const given = await api.readGiven(frame);
      if (asked === this.#asked) this.state.set({ given: given.filter((one) => Array.isArray(one.prompts)) });
    } catch {
      if (asked === this.#asked) this.state.set({ given: [] }); // marks of prompts only: the masks are there
    }
  }

  /** @param {StudioEvent} event */
  #hear(event) {
    if (event.type === "state") {
      this.#refreshSoon();
    } else if (event.type === "masks") {
      this.#changed(event);
      this.#refreshSoon();
    } else if (event.type === "job") {
      const { server } = this.state.now;
      if (server) this.state.set({ server: { ...server, job: event } });
    } else {
      this.#ended(event);
    }
  }

  /** @param {import("./types.js").EndedEvent} event */
  #ended(event) {
    const { server } = this.state.now;
    if (server) this.state.set({ server: { ...server, job: null } });
    void this.refresh();
    const what = capital(event.what);
    const message =
      event.message || (event.outcome === "stopped" ? `${what} was stopped; what it found stays.` : `${what}: done.`);
    if (event.outcome === "failed") return fail(message);
    const path = event.download;
    if (typeof path !== "string" || !path.startsWith("/api/exports/")) return say(message);
    const link = say(message, { href: path, text: `Download ${decodeURIComponent(path.split("/").pop() ?? "")}` });
    if (event.id === this.#export) link?.click();
    else this.#exported = { job: event.id, link };
  }

  /** @param {{revision: number, frames: number[]}} change */
  #changed({ revision, frames }) {
    this.media.stale(frames, revision);
    this.state.set({ sent: [...this.state.now.sent] }); // whoever shows masks looks again
    if (frames.includes(this.state.now.frame)) void this.readGiven();
  }

  /**
   * Do one thing after those before it.
   *
   * @param {() => Promise<Change>} request
   * @param {{draft?: Draft, done?: (change: Change) => void}} [options] draft: what is shown until the answer is there
   * @returns {Promise<Change | null>} null if it was refused; the person has been told
   */
  edit(request, { draft, done } = {}) {
    if (draft) this.state.set({ sent: [...this.state.now.sent, draft] });
    const result = this.#edits.then(async () => {
      try {
        const change = await request();
        if (!Number.isInteger(change?.revision) || !Array.isArray(change.frames)) throw new Error(STRANGE);
        calm();
        this.#changed(change);
        await this.refresh();
        done?.(change);
        return change;
      } catch (error) {
        fail(error);
        return null;
      } finally {
        if (draft) this.state.set({ sent: this.state.now.sent.filter((one) => one !== draft) });
      }
    });
    this.#edits = result;
    return result;
  }

  /**
   * Begin a job.
   *
   * @param {() => Promise<{job: string}>} request
   * @param {{download?: boolean}} [options] download: what comes out is saved by the browser
   */
  async job(request, { download = false } = {}) {
    try {
      await this.#edits; // what was just done belongs to it
      this.#export = this.#exported = null;
      const { job } = await request();
      calm();
      if (download) {
        this.#export = job;
        this.#early(job)?.click();
      }
      await this.refresh();
    } catch (error) {
      fail(error);
    }
  }

  /** @param {string} job @returns {HTMLAnchorElement | null} what it left, if it had ended before we knew its number */
  #early(job) {
    return this.#exported?.job === job ? this.#exported.link : null;
  }

  /**
   * Ask for something that changes no masks.
   *
   * @param {() => Promise<unknown>} request
   * @returns {Promise<boolean>} whether it was done; if not, the person has been told
   */
  async ask(request) {
    try {
      await request();
      calm();
      await this.refresh();
      return true;
    } catch (error) {
      fail(error);
      return false;
    }
  }
}

/** @param {string} text */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
