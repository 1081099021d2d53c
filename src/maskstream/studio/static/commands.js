/** All commands: what buttons, keys and the page of keys have in common. */

/** @import {State} from "./state.js" */
/** @import {Actions} from "./actions.js" */
/** @import {Tools} from "./tools.js" */
/** @import {Canvas} from "./canvas.js" */
/** @import {Player} from "./player.js" */
/** @import {ToolName} from "./types.js" */

/**
 * @typedef {object} Command
 * @property {string} title
 * @property {string} group
 * @property {string[]} keys    as `keyOf` of keys.js names them
 * @property {() => unknown} run
 * @property {() => boolean} [can]    whether it makes sense now
 * @property {() => boolean} [on]    whether it is what is chosen
 */

/**
 * @typedef {object} Parts
 * @property {State} state
 * @property {Actions} actions
 * @property {Tools} tools
 * @property {Canvas} canvas
 * @property {Player} player
 * @property {Record<"export" | "import" | "merge" | "split" | "help" | "open" | "stop", () => void>} windows
 */

const LARGER = 1.25;
const PAGE = 10;

/** @param {Parts} parts @returns {Record<string, Command>} in the order in which people are told */
export function commandsOf({ state, actions, tools, canvas, player, windows }) {
  const chosen = () => state.selectedObject !== null;
  const several = () => chosen() && (state.now.server?.objects.length ?? 0) > 1;
  const idle = () => !state.now.server?.job;
  const follows = () => idle() && (state.now.server?.objects.length ?? 0) > 0;
  const doubts = () => (state.now.server?.doubtful.length ?? 0) > 0;
  const tool = (/** @type {ToolName} */ name, /** @type {string} */ title, /** @type {string} */ key) => ({
    title,
    group: "Tools",
    keys: [key],
    run: () => state.set({ tool: name, draft: null }),
    on: () => state.now.tool === name,
  });
  const signed = () => state.now.tool === "point" || state.now.tool === "scribble";
  const radius = (/** @type {number} */ factor) =>
    state.set({ radius: Math.max(1, Math.min(100, Math.round(state.now.radius * factor) + Math.sign(factor - 1))) });
  return {
    "tool-point": tool("point", "Point: click on the thing", "P"),
    "tool-box": tool("box", "Box around the thing", "B"),
    "tool-scribble": tool("scribble", "Scribble on the thing", "S"),
    "tool-brush": tool("brush", "Brush: paint the mask", "D"),
    "tool-eraser": tool("eraser", "Eraser", "E"),
    "sign-plus": {
      title: "Points and scribbles say: this is it",
      group: "Tools",
      keys: [],
      run: () => state.set({ positive: true }),
      can: signed,
      on: () => state.now.positive,
    },
    "sign-minus": {
      title: "Points and scribbles say: this is not it",
      group: "Tools",
      keys: [],
      run: () => state.set({ positive: false }),
      can: signed,
      on: () => !state.now.positive,
    },
    "sign-other": {
      title: "Change between “is it” and “is not”",
      group: "Tools",
      keys: ["X"],
      run: () => state.set({ positive: !state.now.positive }),
    },
    smaller: { title: "Smaller brush", group: "Tools", keys: ["["], run: () => radius(1 / LARGER) },
    larger: { title: "Larger brush", group: "Tools", keys: ["]"], run: () => radius(LARGER) },
    crosshair: { title: "Crosshair on the picture", group: "Tools", keys: ["C"], run: () => tools.focus() },
    "zoom-in": { title: "Zoom in", group: "Picture", keys: ["+", "="], run: () => canvas.zoom(LARGER) },
    "zoom-out": { title: "Zoom out", group: "Picture", keys: ["-"], run: () => canvas.zoom(1 / LARGER) },
    "zoom-fit": { title: "Whole picture", group: "Picture", keys: ["0"], run: () => canvas.fit() },
    outline: {
      title: "Outlines on or off",
      group: "Picture",
      keys: ["L"],
      run: () => state.set({ outline: !state.now.outline }),
    },
    masks: {
      title: "Masks on or off",
      group: "Picture",
      keys: ["V"],
      run: () => state.set({ masks: !state.now.masks }),
    },
    play: {
      title: "Play or pause",
      group: "Time",
      keys: ["Space"],
      run: () => player.toggle(),
      on: () => state.now.playing,
    },
    previous: { title: "One frame back", group: "Time", keys: [",", "ArrowLeft"], run: () => actions.step(-1) },
    next: { title: "One frame on", group: "Time", keys: [".", "ArrowRight"], run: () => actions.step(1) },
    "page-back": {
      title: "Ten frames back",
      group: "Time",
      keys: ["PageUp", "Shift+ArrowLeft"],
      run: () => actions.step(-PAGE),
    },
    "page-on": {
      title: "Ten frames on",
      group: "Time",
      keys: ["PageDown", "Shift+ArrowRight"],
      run: () => actions.step(PAGE),
    },
    first: { title: "First frame", group: "Time", keys: ["Home"], run: () => actions.step(-Infinity) },
    last: { title: "Last frame", group: "Time", keys: ["End"], run: () => actions.step(Infinity) },
    "doubt-next": {
      title: "Next doubtful place",
      group: "Time",
      keys: ["J"],
      run: () => actions.doubtful(1),
      can: doubts,
    },
    "doubt-previous": {
      title: "Doubtful place before",
      group: "Time",
      keys: ["Shift+J"],
      run: () => actions.doubtful(-1),
      can: doubts,
    },
    "new-object": {
      title: "Next prompt makes a new object",
      group: "Objects",
      keys: ["N"],
      run: () => actions.select(null),
      can: chosen,
    },
    hide: { title: "Show or hide", group: "Objects", keys: ["H"], run: () => actions.hide(), can: chosen },
    clear: {
      title: "Clear on this frame",
      group: "Objects",
      keys: ["Backspace"],
      run: () => actions.clear(),
      can: () => actions.isHere,
    },
    split: { title: "Split…", group: "Objects", keys: ["K"], run: () => windows.split(), can: chosen },
    merge: { title: "Merge with others…", group: "Objects", keys: ["M"], run: () => windows.merge(), can: several },
    delete: {
      title: "Delete everywhere",
      group: "Objects",
      keys: ["Delete"],
      run: () => actions.remove(),
      can: chosen,
    },
    forward: {
      title: "Propagate onwards in time",
      group: "Propagate and find",
      keys: ["F"],
      run: () => actions.propagate("forward"),
      can: follows,
    },
    backward: {
      title: "Propagate backwards in time",
      group: "Propagate and find",
      keys: ["R"],
      run: () => actions.propagate("backward"),
      can: follows,
    },
    both: {
      title: "Propagate both ways",
      group: "Propagate and find",
      keys: ["T"],
      run: () => actions.propagate("both"),
      can: follows,
    },
    "mark-first": {
      title: "Start at this frame",
      group: "Propagate and find",
      keys: ["I"],
      run: () => actions.mark("first"),
    },
    "mark-last": {
      title: "End at this frame",
      group: "Propagate and find",
      keys: ["O"],
      run: () => actions.mark("last"),
    },
    "mark-none": { title: "All frames", group: "Propagate and find", keys: ["U"], run: () => actions.markNone() },
    find: {
      title: "Find everything",
      group: "Propagate and find",
      keys: ["A"],
      run: () => actions.find(null),
      can: () => idle() && (state.now.server?.can.find ?? false),
    },
    words: {
      title: "Find by words",
      group: "Propagate and find",
      keys: ["/"],
      run: () => document.getElementById("find-text")?.focus(),
      can: () => state.now.server?.can.text ?? false,
    },
    stop: {
      title: "Stop",
      group: "Propagate and find",
      keys: ["Shift+S"],
      run: () => windows.stop(),
      can: () => !idle(),
    },
    undo: {
      title: "Undo",
      group: "Project",
      keys: ["Ctrl+Z"],
      run: () => actions.undo(),
      can: () => (state.now.server?.undo ?? null) !== null,
    },
    redo: {
      title: "Redo",
      group: "Project",
      keys: ["Ctrl+Shift+Z", "Ctrl+Y"],
      run: () => actions.redo(),
      can: () => (state.now.server?.redo ?? null) !== null,
    },
    export: { title: "Export…", group: "Project", keys: ["Shift+E"], run: () => windows.export(), can: follows },
    import: { title: "Import masks…", group: "Project", keys: ["Shift+I"], run: () => windows.import() },
    open: { title: "Open another video…", group: "Project", keys: ["Shift+O"], run: () => windows.open() },
    help: { title: "Show all keys", group: "Project", keys: ["?"], run: () => windows.help() },
  };
}
