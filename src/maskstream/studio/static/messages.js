/** What the page says to people: on the bar below, and to screen readers. */

const STAYS = 8000;

const said = /** @type {HTMLElement} */ (document.getElementById("message"));
const failed = /** @type {HTMLElement} */ (document.getElementById("failure"));
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/**
 * @param {string} text
 * @param {{href: string, text: string}} [link] to a file; the message stays as long as it has one
 * @returns {HTMLAnchorElement | null} the link
 */
export function say(text, link) {
  failed.textContent = "";
  said.textContent = text;
  clearTimeout(timer);
  if (!link) {
    timer = setTimeout(() => (said.textContent = ""), STAYS);
    return null;
  }
  const anchor = document.createElement("a");
  anchor.href = link.href;
  anchor.download = "";
  anchor.textContent = link.text;
  said.append(" ", anchor);
  return anchor;
}

/** @param {unknown} error an Error, or a line */
export function fail(error) {
  clearTimeout(timer);
  said.textContent = "";
  failed.textContent = error instanceof Error ? error.message : String(error);
}

/** What went wrong has been put right. */
export function calm() {
  failed.textContent = "";
}
