/** Keys and buttons that run commands, and the page that lists the keys. */

/** @import {Command} from "./commands.js" */
/** @import {State} from "./state.js" */

const SHOWN = /** @type {Record<string, string>} */ ({
  ArrowLeft: "←",
  ArrowRight: "→",
  PageUp: "Page ↑",
  PageDown: "Page ↓",
  Delete: "Del",
  Backspace: "⌫",
});

/** @param {KeyboardEvent} event @returns {string} such as "Ctrl+Shift+Z"; a sign has no Shift of its own */
export function keyOf(event) {
  const named = event.key === " " ? "Space" : event.key;
  const letter = named.length === 1 && named.toLowerCase() !== named.toUpperCase();
  const shift = event.shiftKey && (letter || named.length > 1);
  return [
    event.ctrlKey || event.metaKey ? "Ctrl+" : "",
    event.altKey ? "Alt+" : "",
    shift ? "Shift+" : "",
    letter ? named.toUpperCase() : named,
  ].join("");
}

/** @param {string} key @returns {string} for people */
export const shown = (key) =>
  key
    .split(/\+(?=.)/)
    .map((part) => SHOWN[part] ?? part)
    .join(" ");

/** @param {Element | null} element @param {string} key @returns {boolean} whether the key belongs to that element */
function takes(element, key) {
  if (element instanceof HTMLInputElement) {
    if (element.type === "checkbox" || element.type === "radio") return key === "Space" || key.startsWith("Arrow");
    if (element.type === "range") return /^(Arrow|Page|Home|End)/.test(key);
    return true;
  }
  if (element instanceof HTMLSelectElement || element instanceof HTMLTextAreaElement) return true;
  if (element instanceof HTMLButtonElement || element instanceof HTMLAnchorElement)
    return key === "Space" || key === "Enter";
  return false;
}

/**
 * Run commands by their keys.
 *
 * @param {Record<string, Command>} commands
 * @param {State} state
 * @param {{escape: () => void, digit: (digit: number) => void, picture: HTMLElement}} rest
 */
export function mountKeys(commands, state, { escape, digit, picture }) {
  const byKey = new Map(Object.values(commands).flatMap((command) => command.keys.map((key) => [key, command])));
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (!state.now.server?.video || state.now.starting) return;
    const key = keyOf(event);
    const active = document.activeElement;
    if (key === "Escape") {
      if (active instanceof HTMLInputElement) picture.focus();
      else escape();
      return;
    }
    if (takes(active, key)) return;
    const command = byKey.get(key);
    if (command) {
      event.preventDefault();
      if (command.can?.() ?? true) command.run();
    } else if (/^[1-9]$/.test(key)) {
      event.preventDefault();
      digit(Number(key));
    }
  });
}

/**
 * Let buttons run commands, and show what can be done, what is chosen, and with which key.
 *
 * @param {Record<string, Command>} commands
 * @param {State} state
 * @param {HTMLElement} picture gets the focus back after a click of the mouse, so that keys go on to work
 */
export function mountButtons(commands, state, picture) {
  /** @type {{button: HTMLButtonElement, command: Command}[]} */
  const buttons = [];
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (
    document.querySelectorAll("button[data-command]")
  )) {
    const command = commands[button.dataset.command ?? ""];
    const keys = command.keys.map(shown);
    button.title = keys.length > 0 ? `${command.title} (${keys.join(" or ")})` : command.title;
    if (!button.textContent?.trim()) button.setAttribute("aria-label", command.title);
    if (command.keys.length > 0) button.setAttribute("aria-keyshortcuts", command.keys.map(spoken).join(" "));
    const kbd = button.querySelector("kbd");
    if (kbd) {
      kbd.textContent = keys[0];
      kbd.setAttribute("aria-hidden", "true");
    }
    button.querySelector("svg")?.setAttribute("aria-hidden", "true");
    button.addEventListener("click", (event) => {
      if (command.can?.() ?? true) command.run();
      if (event.detail > 0 && !document.querySelector("dialog[open]")) picture.focus({ preventScroll: true });
    });
    buttons.push({ button, command });
  }
  const show = () => {
    for (const { button, command } of buttons) {
      button.setAttribute("aria-disabled", `${!(command.can?.() ?? true)}`); // really disabled, it would lose the focus
      if (command.on) button.setAttribute("aria-pressed", `${command.on()}`);
    }
  };
  state.on(["server", "selected", "tool", "positive", "playing", "frame"], show);
  show();
}

/** @param {string} key @returns {string} as aria-keyshortcuts has it */
const spoken = (key) => key.replace("Ctrl+", "Control+").replace(/^\+$/, "Plus");

/** @param {Record<string, Command>} commands @param {HTMLElement} into */
export function listKeys(commands, into) {
  const groups = new Map();
  const extra = [{ title: "Select the first to the ninth object", group: "Objects", keys: ["1", "…", "9"] }];
  for (const command of [
    ...Object.values(commands),
    ...extra,
    { title: "Give up what is being drawn", group: "Tools", keys: ["Escape"] },
  ]) {
    if (command.keys.length === 0) continue;
    if (!groups.has(command.group)) groups.set(command.group, []);
    groups.get(command.group).push(command);
  }
  for (const [name, members] of groups) {
    const section = document.createElement("section");
    const head = document.createElement("h3");
    head.textContent = name;
    const list = document.createElement("dl");
    for (const { title, keys } of members) {
      const term = document.createElement("dt");
      for (const key of keys) {
        const kbd = document.createElement("kbd");
        kbd.textContent = shown(key);
        term.append(kbd);
      }
      const what = document.createElement("dd");
      what.textContent = title;
      list.append(term, what);
    }
    section.append(head, list);
    into.append(section);
  }
}
