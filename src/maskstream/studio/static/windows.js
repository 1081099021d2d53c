/** The windows over the page: export, import, merge, split, keys. */

import * as api from "./api.js";
import { fail, say } from "./messages.js";
import { capital } from "./sync.js";

/** @import {State} from "./state.js" */
/** @import {Sync} from "./sync.js" */
/** @import {Actions} from "./actions.js" */

const dialog = (/** @type {string} */ id) => /** @type {HTMLDialogElement} */ (document.getElementById(id));
const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (document.getElementById(id));

/**
 * A line of a group of radio buttons or check boxes.
 *
 * @param {"radio" | "checkbox"} type
 * @param {string} name
 * @param {string} value
 * @param {string} title
 * @param {string} [quiet]
 */
function choice(type, name, value, title, quiet = "") {
  const label = document.createElement("label");
  label.className = "choice";
  const box = document.createElement("input");
  Object.assign(box, { type, name, value });
  const text = document.createElement("span");
  const strong = document.createElement("strong");
  strong.textContent = title;
  text.append(strong);
  if (quiet) {
    const more = document.createElement("span");
    more.className = "quiet";
    more.textContent = quiet;
    text.append(" ", more);
  }
  label.append(box, text);
  return label;
}

/**
 * @param {State} state
 * @param {Sync} sync
 * @param {Actions} actions
 * @returns {Record<"export" | "import" | "merge" | "split" | "help", () => void>} what opens them
 */
export function mountWindows(state, sync, actions) {
  for (const close of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("dialog [data-close]"))) {
    close.addEventListener("click", () => close.closest("dialog")?.close());
  }
  for (const one of document.querySelectorAll("dialog")) {
    one.addEventListener("pointerdown", (event) => event.target === one && one.close()); // beside it
  }

  document.getElementById("export-form")?.addEventListener("submit", (event) => {
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const format = form.get("format");
    const { selected } = state.now;
    const objects = input("export-selected").checked && selected !== null ? [selected] : null;
    if (typeof format === "string") void sync.job(() => api.exportMasks(format, objects), { download: true });
  });

  document.getElementById("import-form")?.addEventListener("submit", () => {
    const format = /** @type {HTMLSelectElement} */ (document.getElementById("import-format")).value;
    const path = input("import-path").value.trim();
    const file = input("import-file").files?.[0];
    if (!path && !file) return fail("Import: name a folder or a file, or choose one.");
    say("Importing…");
    void sync
      .edit(() => (file ? api.importFile(file, format) : api.importMasks(path, format)))
      .then((change) => change && say(`Imported masks on ${change.frames.length} frames.`));
  });

  document.getElementById("merge-form")?.addEventListener("submit", (event) => {
    const others = new FormData(/** @type {HTMLFormElement} */ (event.target)).getAll("other").map(Number);
    const { selected } = state.now;
    if (selected !== null && others.length > 0) void actions.merge(selected, others);
  });

  document.getElementById("split-form")?.addEventListener("submit", (event) => {
    const how = new FormData(/** @type {HTMLFormElement} */ (event.target)).get("how");
    if (how === "time" || how === "regions") actions.split(how);
  });

  return {
    export() {
      const group = /** @type {HTMLElement} */ (document.getElementById("export-formats"));
      const kept = /** @type {HTMLInputElement | null} */ (group.querySelector("input:checked"))?.value ?? "davis";
      const layouts = (state.now.server?.formats ?? []).filter((format) => format.writes);
      group.replaceChildren(
        ...layouts.map((format) => {
          const label = choice("radio", "format", format.name, capital(format.title), format.name);
          if (format.name === kept) label.querySelector("input")?.setAttribute("checked", "");
          return label;
        }),
      );
      input("export-selected").disabled = state.now.selected === null;
      dialog("export-dialog").showModal();
      /** @type {HTMLElement | null} */ (group.querySelector("input:checked") ?? group.querySelector("input"))?.focus();
    },
    import() {
      const select = /** @type {HTMLSelectElement} */ (document.getElementById("import-format"));
      const kept = select.value;
      const layouts = (state.now.server?.formats ?? []).filter((format) => format.reads);
      select.replaceChildren(
        ...layouts.map(
          (format) =>
            new Option(
              `${capital(format.title)} (${format.name})`,
              format.name,
              false,
              format.name === (kept || "davis"),
            ),
        ),
      );
      input("import-file").value = "";
      dialog("import-dialog").showModal();
    },
    merge() {
      const object = state.selectedObject;
      if (!object) return;
      const into = /** @type {HTMLElement} */ (document.getElementById("merge-into"));
      into.textContent = `What becomes part of ${object.name}:`;
      const others = (state.now.server?.objects ?? []).filter((one) => one.id !== object.id);
      document
        .getElementById("merge-others")
        ?.replaceChildren(...others.map((one) => choice("checkbox", "other", `${one.id}`, one.name, one.category)));
      dialog("merge-dialog").showModal();
      /** @type {HTMLElement | null} */ (document.querySelector("#merge-others input"))?.focus();
    },
    split() {
      const object = state.selectedObject;
      if (!object) return;
      const text = /** @type {HTMLElement} */ (document.getElementById("split-time"));
      text.textContent = `From frame ${state.now.frame} on, ${object.name} becomes another object.`;
      dialog("split-dialog").showModal();
    },
    help() {
      dialog("help-dialog").showModal();
    },
  };
}
