/** Requests to the server, and its events. */

/** @import {Change, Given, Listing, Prompt, Point, ServerState, StudioEvent} from "./types.js" */

const SILENT = "The server does not answer. Is maskstream studio still running?";

/** The server refused, or did not answer; the message is one line for people. */
class RequestError extends Error {
  /**
   * @param {string} message
   * @param {number} status 0 if there was no answer
   */
  constructor(message, status) {
    super(message);
    this.name = "RequestError";
    this.status = status;
  }
}

/**
 * @param {number} status
 * @param {string} text
 * @returns {string} what the server said is wrong
 */
function reason(status, text) {
  try {
    const said = JSON.parse(text).error;
    if (typeof said === "string" && said) return said;
  } catch {
    // an answer of something between us and the server
  }
  if (status === 401 || status === 403)
    return "Not allowed: open the address that maskstream studio printed, with its token.";
  return `The server answered ${status}.`;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body] sent as JSON, or as it is if it is FormData
 * @returns {Promise<any>}
 */
async function call(method, path, body) {
  const form = body instanceof FormData;
  /** @type {Response} */
  let answer;
  let text = "";
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined || form ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : form ? body : JSON.stringify(body),
    });
    text = await answer.text();
  } catch {
    throw new RequestError(SILENT, 0);
  }
  if (!answer.ok) throw new RequestError(reason(answer.status, text), answer.status);
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    throw new RequestError(`What the server answered to ${path} is no JSON.`, answer.status);
  }
}

/** @returns {Promise<ServerState>} */
export const readState = () => call("GET", "/api/state");

/** @param {number} frame @returns {Promise<Given[]>} */
export const readGiven = (frame) => call("GET", `/api/given/${frame}`);

/** @param {number} frame @param {number | null} object @param {Prompt[]} prompts @returns {Promise<Change>} */
export const sendPrompts = (frame, object, prompts) => call("POST", "/api/prompt", { frame, object, prompts });

/**
 * @param {number} frame
 * @param {number | null} object
 * @param {Point[]} stroke
 * @param {number} radius
 * @param {boolean} erase
 * @returns {Promise<Change>}
 */
export const sendStroke = (frame, object, stroke, radius, erase) =>
  call("POST", "/api/brush", { frame, object, stroke, radius, erase });

/** @param {number} frame @param {number} object @returns {Promise<Change>} */
export const clearObject = (frame, object) => call("POST", "/api/clear", { frame, object });

/**
 * @param {number} object
 * @param {{name?: string, category?: string, colour?: string, visible?: boolean}} what
 * @returns {Promise<Change>}
 */
export const describeObject = (object, what) => call("PATCH", `/api/objects/${object}`, what);

/** @param {number} object @returns {Promise<Change>} */
export const deleteObject = (object) => call("DELETE", `/api/objects/${object}`);

/** @param {number} into @param {number[]} from @returns {Promise<Change>} */
export const mergeObjects = (into, from) => call("POST", "/api/merge", { into, from });

/** @param {number} object @param {number} frame @param {"time" | "regions"} how @returns {Promise<Change>} */
export const splitObject = (object, frame, how) => call("POST", "/api/split", { object, frame, how });

/** @returns {Promise<Change>} */
export const undo = () => call("POST", "/api/undo");

/** @returns {Promise<Change>} */
export const redo = () => call("POST", "/api/redo");

/**
 * @param {number[] | null} objects
 * @param {number} first
 * @param {number} last
 * @param {"forward" | "backward" | "both"} direction
 * @returns {Promise<{job: string}>}
 */
export const propagate = (objects, first, last, direction) =>
  call("POST", "/api/propagate", { objects, first, last, direction });

/** @param {number} first @param {number} last @param {string | null} text @returns {Promise<{job: string}>} */
export const find = (first, last, text) => call("POST", "/api/find", { first, last, text });

/** @returns {Promise<unknown>} */
export const stopJob = () => call("POST", "/api/stop");

/** @param {string} format @param {number[] | null} objects @returns {Promise<{job: string}>} */
export const exportMasks = (format, objects) => call("POST", "/api/export", { format, objects });

/** @param {string} path @param {string} format @returns {Promise<Change>} */
export const importMasks = (path, format) => call("POST", "/api/import", { path, format });

/** @param {File} file @param {string} format @returns {Promise<Change>} */
export function importFile(file, format) {
  const form = new FormData();
  form.append("format", format);
  form.append("file", file);
  return call("POST", "/api/import-file", form);
}

/** @param {string} path @returns {Promise<Listing>} */
export const browse = (path) => call("GET", `/api/browse?path=${encodeURIComponent(path)}`);

/** @param {string} path of a video, an image folder or a project @returns {Promise<unknown>} */
export const open = (path) => call("POST", "/api/open", { path });

/**
 * Send a video to the server, which opens it.
 *
 * @param {File} file
 * @param {(part: number) => void} onProgress told from 0 to 1 how much has been sent
 * @returns {Promise<void>}
 */
export function upload(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much has been sent
    request.open("POST", "/api/upload");
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new RequestError(SILENT, 0));
    request.onload = () =>
      request.status < 300
        ? resolve()
        : reject(new RequestError(reason(request.status, request.responseText), request.status));
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
}

/**
 * @param {string} path
 * @returns {Promise<ImageBitmap>} exactly what the file says: no colour is changed
 */
export async function readImage(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new RequestError(reason(answer.status, await answer.text()), answer.status);
  return createImageBitmap(await answer.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

const EVENTS = new Set(["state", "masks", "job", "ended"]);

/**
 * @param {string} text
 * @returns {StudioEvent | null} null for what is no event
 */
function readEvent(text) {
  try {
    const event = JSON.parse(text);
    if (!event || !EVENTS.has(event.type)) return null;
    if (event.type === "masks" && !(event.revision >= 0 && Array.isArray(event.frames))) return null;
    if (event.type === "job" && !(event.done >= 0 && event.total >= 0)) return null;
    if ((event.type === "job" || event.type === "ended") && typeof event.what !== "string") return null;
    return event;
  } catch {
    return null;
  }
}

/**
 * Listen to the server for ever; a lost connection is made again.
 *
 * @param {(event: StudioEvent) => void} onEvent
 * @param {(up: boolean) => void} onConnection
 */
export function listen(onEvent, onConnection) {
  let wait = 500;
  const connect = () => {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/events`);
    socket.onopen = () => {
      wait = 500;
      onConnection(true);
    };
    socket.onmessage = (message) => {
      const event = typeof message.data === "string" ? readEvent(message.data) : null;
      if (event) onEvent(event);
    };
    socket.onclose = () => {
      onConnection(false);
      setTimeout(connect, wait);
      wait = Math.min(2 * wait, 4000);
    };
  };
  connect();
}
