/** The list of objects, and what can be changed of the selected one. */

import { countOf } from "./state.js";

/** @import {VideoObject} from "./types.js" */
/** @import {State} from "./state.js" */
/** @import {Actions} from "./actions.js" */

/** @typedef {{item: HTMLLIElement, choose: HTMLButtonElement, eye: HTMLButtonElement}} Row */

const field = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (document.getElementById(id));

/** @param {State} state @param {Actions} actions */
export function mountObjects(state, actions) {
  const list = /** @type {HTMLElement} */ (document.getElementById("object-list"));
  const count = /** @type {HTMLElement} */ (document.getElementById("object-count"));
  const none = /** @type {HTMLElement} */ (document.getElementById("no-objects"));
  const chosen = /** @type {HTMLElement} */ (document.getElementById("chosen"));
  /** @type {Map<number, Row>} */
  const rows = new Map();
  /** @type {number | null} the object that was selected when the list was drawn last */
  let shown = null;

  list.addEventListener("keydown", (event) => {
    const way = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    const objects = state.now.server?.objects ?? [];
    if (way === 0 || objects.length === 0) return;
    event.preventDefault();
    event.stopPropagation();
    const at = objects.findIndex((object) => object.id === state.now.selected);
    const next = objects[Math.max(0, Math.min(objects.length - 1, at + way))];
    actions.select(next.id);
    rows.get(next.id)?.choose.focus();
  });

  /** @param {VideoObject} object @returns {Row} */
  const newRow = (object) => {
    const item = document.createElement("li");
    const choose = document.createElement("button");
    choose.type = "button";
    choose.className = "choose";
    choose.append(part("i", "swatch"), part("span", "number"), part("span", "name"), part("span", "facts"));
    choose.addEventListener("click", () => actions.select(object.id));
    const eye = document.createElement("button");
    eye.type = "button";
    eye.className = "icon-only eye";
    eye.append(icon("i-eye"));
    eye.addEventListener("click", () => {
      const now = state.now.server?.objects.find((one) => one.id === object.id);
      if (now) void actions.describe(now.id, { visible: !now.visible });
    });
    item.append(choose, eye);
    return { item, choose, eye };
  };

  const show = () => {
    const objects = state.now.server?.objects ?? [];
    count.textContent = objects.length > 0 ? `${objects.length}` : "";
    none.hidden = objects.length > 0;
    for (const [id, row] of rows) {
      if (objects.some((object) => object.id === id)) continue;
      row.item.remove();
      rows.delete(id);
    }
    objects.forEach((object, at) => {
      const row = rows.get(object.id) ?? newRow(object);
      rows.set(object.id, row);
      if (list.children[at] !== row.item) list.insertBefore(row.item, list.children[at] ?? null);
      fill(row, object, at, object.id === state.now.selected);
    });
    if (shown !== state.now.selected) rows.get(state.now.selected ?? -1)?.item.scrollIntoView({ block: "nearest" });
    shown = state.now.selected;
  };

  const name = field("object-name");
  const category = field("object-category");
  const colour = field("object-colour");
  /** @type {number | null} the object that the fields show */
  let edited = null;

  const showChosen = () => {
    const object = state.selectedObject;
    chosen.classList.toggle("off", !object);
    for (const input of [name, category, colour]) {
      input.disabled = !object;
      if (object?.id === edited && document.activeElement === input) continue; // a person is writing
      const value = object ? object[/** @type {"name" | "category" | "colour"} */ (input.dataset.field)] : "";
      input.value = input === colour ? value || "#59606e" : (value ?? "");
    }
    edited = object?.id ?? null;
    const names = [...new Set((state.now.server?.objects ?? []).map((one) => one.category).filter(Boolean))].sort();
    const options = /** @type {HTMLElement} */ (document.getElementById("categories"));
    if (options.dataset.names === names.join("\n")) return;
    options.dataset.names = names.join("\n");
    options.replaceChildren(
      ...names.map((one) => {
        const option = document.createElement("option");
        option.value = one;
        return option;
      }),
    );
  };

  for (const [input, key] of /** @type {const} */ ([
    [name, "name"],
    [category, "category"],
    [colour, "colour"],
  ])) {
    input.dataset.field = key;
    input.addEventListener("change", () => {
      const object = state.now.server?.objects.find((one) => one.id === edited);
      const value = input.value.trim();
      if (!object || value === object[key]) return;
      if (key === "name" && value === "")
        input.value = object.name; // an object has a name
      else void actions.describe(object.id, { [key]: value });
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") input.blur();
    });
  }

  state.on(["server", "selected"], () => {
    show();
    showChosen();
  });
  showChosen();
}

/** @param {Row} row @param {VideoObject} object @param {number} at @param {boolean} selected */
function fill({ item, choose, eye }, object, at, selected) {
  item.classList.toggle("selected", selected);
  item.classList.toggle("faint", !object.visible);
  choose.setAttribute("aria-pressed", `${selected}`);
  choose.setAttribute("aria-label", spoken(object));
  const [swatch, number, name, facts] = /** @type {HTMLCollectionOf<HTMLElement>} */ (choose.children);
  swatch.style.backgroundColor = object.colour;
  number.textContent = at < 9 ? `${at + 1}` : "";
  name.textContent = object.name;
  const outdated = countOf(object.outdated);
  facts.textContent = outdated > 0 ? `${outdated} outdated` : object.category;
  facts.classList.toggle("warn", outdated > 0);
  eye.querySelector("use")?.setAttribute("href", object.visible ? "#i-eye" : "#i-eye-off");
  eye.setAttribute("aria-label", `${object.visible ? "Hide" : "Show"} ${object.name}`);
  eye.title = object.visible ? "Hide" : "Show";
}

/** @param {VideoObject} object @returns {string} the row and the strip of the object, in words */
function spoken(object) {
  const found = countOf(object.found);
  const outdated = countOf(object.outdated);
  return [
    object.name,
    object.category,
    `given on ${object.given.length} ${object.given.length === 1 ? "frame" : "frames"}`,
    found > 0 ? `found on ${found}` : "",
    outdated > 0 ? `${outdated} outdated` : "",
    object.visible ? "" : "hidden",
  ]
    .filter(Boolean)
    .join(", ");
}

/** @param {string} tag @param {string} name of the class @returns {HTMLElement} */
function part(tag, name) {
  const element = document.createElement(tag);
  element.className = name;
  return element;
}

/** @param {string} id @returns {SVGElement} */
export function icon(id) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${id}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}
