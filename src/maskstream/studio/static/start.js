/** The page that opens a video, an image folder or a project. */

import * as api from "./api.js";
import { calm, fail, say } from "./messages.js";
import { icon } from "./objects.js";

/** @import {Entry} from "./types.js" */
/** @import {State} from "./state.js" */
/** @import {Sync} from "./sync.js" */

const KINDS = { folder: "folder", video: "video", images: "image folder", project: "project" };
const element = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {State} state @param {Sync} sync @returns {() => void} shows the page */
export function mountStart(state, sync) {
  const page = element("start");
  const list = element("browse-list");
  const up = /** @type {HTMLButtonElement} */ (element("browse-up"));
  const chooser = /** @type {HTMLInputElement} */ (element("choose-file"));
  /** @type {string | null} */
  let above = null;
  let busy = false;

  /** @param {string} path */
  const go = async (path) => {
    try {
      const listing = await api.browse(path);
      above = listing.parent;
      up.disabled = above === null;
      element("browse-path").textContent = listing.path || "Folders that may be opened";
      const empty = document.createElement("li");
      empty.className = "empty";
      empty.textContent = "No video, image folder or project is here.";
      list.replaceChildren(...(listing.entries.length > 0 ? listing.entries.map(line) : [empty]));
      list.scrollTop = 0;
    } catch (error) {
      fail(error);
    }
  };

  /** @param {string} path */
  const open = async (path) => {
    if (busy) return;
    busy = true;
    say("Opening…");
    try {
      await api.open(path);
      await sync.refresh();
      state.set({ starting: false });
      calm();
      say("");
    } catch (error) {
      fail(error);
    } finally {
      busy = false;
    }
  };

  /** @param {Entry} entry */
  const line = (entry) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.append(icon(`i-${entry.kind in KINDS ? entry.kind : "folder"}`));
    for (const [name, text] of [
      ["name", entry.name],
      ["kind", KINDS[entry.kind] ?? ""],
    ]) {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = text;
      button.append(part);
    }
    button.addEventListener("click", async () => {
      if (entry.kind !== "folder") return open(entry.path);
      await go(entry.path);
      /** @type {HTMLElement | null} */ (list.querySelector("button"))?.focus();
    });
    item.append(button);
    return item;
  };

  /** @param {File | undefined} file */
  const send = async (file) => {
    if (!file || busy) return;
    busy = true;
    const meter = /** @type {HTMLProgressElement} */ (element("upload-progress"));
    element("upload").hidden = false;
    try {
      await api.upload(file, (part) => {
        meter.value = part;
        element("upload-text").textContent = part < 1 ? `${Math.floor(100 * part)} %` : "opening…";
      });
      await sync.refresh();
      state.set({ starting: false });
      calm();
    } catch (error) {
      fail(error);
    } finally {
      busy = false;
      element("upload").hidden = true;
    }
  };

  up.addEventListener("click", () => above !== null && void go(above));
  list.addEventListener("keydown", (event) => {
    const way = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    const buttons = [...list.querySelectorAll("button")];
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    if (way === 0 || at < 0) return;
    event.preventDefault();
    buttons[Math.max(0, Math.min(buttons.length - 1, at + way))].focus();
  });
  element("open-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const path = /** @type {HTMLInputElement} */ (element("open-path")).value.trim();
    if (path) void open(path);
  });
  element("choose").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    void send(chooser.files?.[0]);
    chooser.value = "";
  });
  element("start-back").addEventListener("click", () => state.set({ starting: false }));

  document.addEventListener("dragover", (event) => {
    event.preventDefault(); // the browser would leave the page for the file
    page.classList.toggle("dragging", !page.hidden);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && page.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    page.classList.remove("dragging");
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    state.set({ starting: true });
    void send(file);
  });

  let begun = false;
  const show = () => {
    const { server, starting } = state.now;
    if (!server) return;
    const visible = starting || !server.video;
    if (visible && (page.hidden || !begun)) void go("");
    begun = true;
    const opened = !page.hidden && !visible;
    page.hidden = !visible;
    element("work").hidden = visible;
    if (opened) element("picture").focus({ preventScroll: true });
    element("start-back").hidden = !server.video;
  };
  state.on(["server", "starting"], show);
  return () => state.set({ starting: true, playing: false });
}
