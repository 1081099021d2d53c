/** Puts the page together. */

import { Actions } from "./actions.js";
import { Canvas } from "./canvas.js";
import { commandsOf } from "./commands.js";
import { mountJobs, mountReview, stop } from "./jobs.js";
import { listKeys, mountButtons, mountKeys } from "./keys.js";
import { Media } from "./media.js";
import { fail } from "./messages.js";
import { mountObjects } from "./objects.js";
import { Player } from "./player.js";
import { mountStart } from "./start.js";
import { State } from "./state.js";
import { Sync } from "./sync.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";
import { mountWindows } from "./windows.js";

const RETRY = 2500;

const element = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const field = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (document.getElementById(id));

const state = new State();
const media = new Media({
  onReady: () => {
    canvas.ask();
    showLoading();
  },
  onFailure: (frame, error) => {
    if (frame !== state.now.frame) return;
    fail(`Frame ${frame} cannot be shown: ${error.message}`);
    setTimeout(() => player.look(), RETRY);
  },
});
const sync = new Sync(state, media);
const actions = new Actions(state, sync);
const player = new Player(state, media);
const picture = /** @type {HTMLCanvasElement} */ (element("picture"));
const canvas = new Canvas(picture, state, media, player);
const tools = new Tools(canvas, state, actions);
new Timeline(state, actions);
const open = mountStart(state, sync);
const windows = { ...mountWindows(state, sync, actions), open, stop: () => void stop(sync) };
const commands = commandsOf({ state, actions, tools, canvas, player, windows });

mountObjects(state, actions);
mountJobs(state);
mountReview(state);
mountButtons(commands, state, picture);
mountKeys(commands, state, {
  escape: () => tools.cancel() || state.set({ playing: false }),
  digit: (digit) => actions.selectAt(digit - 1),
  picture,
});
listKeys(commands, element("help-groups"));
mountTop();
mountSliders();
mountFrame();
mountRange();
mountFind();
mountHint();
void sync.start();

/** What is open, and what undo and redo would do. */
function mountTop() {
  let key = "";
  state.on(["server"], () => {
    const { server } = state.now;
    const video = server?.video;
    if (!video) return;
    element("video-name").textContent = server.project?.name ?? video.name;
    element("video-facts").textContent = `${video.width} × ${video.height} · ${video.frames} frames`;
    element("video-name").title = server.project ? `Project ${server.project.folder}` : "";
    element("history").textContent = server.undo ? `Last: ${server.undo}` : "";
    document.title = `${server.project?.name ?? video.name} – maskstream studio`;
    if (key !== video.key) {
      key = video.key;
      canvas.fit();
    }
  });
}

/** The sliders and check boxes of the tools. */
function mountSliders() {
  const [radius, opacity, outline, masks] = ["radius", "opacity", "outline", "show-masks"].map(field);
  radius.addEventListener("input", () => state.set({ radius: radius.valueAsNumber }));
  opacity.addEventListener("input", () => state.set({ opacity: opacity.valueAsNumber / 100 }));
  outline.addEventListener("change", () => state.set({ outline: outline.checked }));
  masks.addEventListener("change", () => state.set({ masks: masks.checked }));
  const show = () => {
    radius.value = `${state.now.radius}`;
    opacity.value = `${Math.round(100 * state.now.opacity)}`;
    element("radius-value").textContent = `${state.now.radius} px`;
    element("opacity-value").textContent = `${Math.round(100 * state.now.opacity)} %`;
    outline.checked = state.now.outline;
    masks.checked = state.now.masks;
  };
  state.on(["radius", "opacity", "outline", "masks"], show);
  show();
}

/** The number of the frame, and what play looks like. */
function mountFrame() {
  const number = field("frame-number");
  number.addEventListener("change", () => {
    actions.goTo(number.valueAsNumber);
    number.value = `${state.now.frame}`;
  });
  number.addEventListener("keydown", (event) => event.key === "Enter" && picture.focus());
  state.on(["frame", "server"], () => {
    const video = state.now.server?.video;
    if (!video) return;
    number.max = `${video.frames - 1}`;
    if (document.activeElement !== number) number.value = `${state.now.frame}`;
    element("frame-of").textContent = `of ${video.frames - 1} · ${(state.now.frame / (video.fps || 25)).toFixed(2)} s`;
    picture.setAttribute("aria-label", `Picture, frame ${state.now.frame} of ${video.frames - 1}`);
    showLoading();
  });
  state.on(["playing"], () => element("play-icon").setAttribute("href", state.now.playing ? "#i-pause" : "#i-play"));
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let late;

/** Say that the picture is late, if it is. */
function showLoading() {
  clearTimeout(late);
  const missing = () => state.frames > 0 && media.picture(state.now.frame) === null;
  if (!missing()) element("loading").hidden = true;
  else late = setTimeout(() => (element("loading").hidden = !missing()), 400);
}

/** From which frame to which is propagated. */
function mountRange() {
  const [first, last] = [field("range-first"), field("range-last")];
  const only = field("only-selected");
  const read = () => {
    const end = state.frames - 1;
    const [from, to] = [first.valueAsNumber, last.valueAsNumber].map((one) =>
      Math.max(0, Math.min(end, Math.round(one))),
    );
    if (Number.isFinite(from) && Number.isFinite(to) && from <= to) {
      state.set({ first: from === 0 ? null : from, last: to === end ? null : to });
    }
    show();
  };
  const show = () => {
    const [from, to] = state.range;
    for (const [input, value] of /** @type {[HTMLInputElement, number][]} */ ([
      [first, from],
      [last, to],
    ])) {
      input.max = `${state.frames - 1}`;
      input.value = `${value}`;
    }
    only.checked = state.now.onlySelected;
    only.disabled = state.now.selected === null;
  };
  first.addEventListener("change", read);
  last.addEventListener("change", read);
  only.addEventListener("change", () => state.set({ onlySelected: only.checked }));
  state.on(["server", "first", "last", "selected", "onlySelected"], show);
}

/** Find by words. */
function mountFind() {
  const text = field("find-text");
  const button = /** @type {HTMLButtonElement} */ (element("find-words"));
  element("find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (text.value.trim()) void actions.find(text.value.trim());
  });
  state.on(["server"], () => {
    const able = state.now.server?.can.text ?? false;
    text.disabled = !able;
    text.placeholder = able ? "words, such as: a red car" : "needs a segmenter that reads";
    button.disabled = !able || Boolean(state.now.server?.job);
  });
}

/** What a click would do now, in words below the picture. */
function mountHint() {
  const verbs = {
    point: "Click on",
    box: "Draw a box around",
    scribble: "Scribble on",
    brush: "Paint",
    eraser: "Wipe away",
  };
  const show = () => {
    const { tool, positive, crosshair, server } = state.now;
    const object = state.selectedObject;
    const what = object ? object.name : tool === "brush" ? "a new object" : "a thing to make it an object";
    const beside = object ? `what is not ${object.name}` : "nothing: select an object first";
    const signed = tool === "point" || tool === "scribble";
    let text = signed && !positive ? `${verbs[tool]} ${beside}` : `${verbs[tool]} ${what}`;
    if (tool === "eraser" && !object) text = "Select the object that the eraser takes away from";
    const first = (server?.objects.length ?? 0) === 0 && !crosshair;
    element("hint").textContent = crosshair
      ? `${text}: ${tool === "point" ? "Enter clicks" : "Enter begins and ends"}`
      : `${text}${first ? "" : object ? " · N: new object" : ""}`;
  };
  state.on(["tool", "positive", "selected", "server", "crosshair"], show);
}
