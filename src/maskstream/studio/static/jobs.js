/** The bar of the job that runs, the review of what is doubtful, and whether the server is there. */

import { stopJob } from "./api.js";
import { doubtfulPlaces } from "./actions.js";
import { say } from "./messages.js";
import { capital } from "./sync.js";

/** @import {Job} from "./types.js" */
/** @import {State} from "./state.js" */
/** @import {Sync} from "./sync.js" */

const element = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {number} seconds @returns {string} */
function duration(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** @param {Job} job @returns {string} how far it is, how fast, and how long it will take */
export function progress(job) {
  const parts = [job.total > 0 ? `${job.done} of ${job.total}` : `${job.done}`];
  if (job.rate) parts.push(`${job.rate.toFixed(job.rate < 10 ? 1 : 0)} frames/s`);
  if (typeof job.left === "number" && Number.isFinite(job.left)) parts.push(`${duration(job.left)} left`);
  return parts.join(" · ");
}

/** @param {State} state */
export function mountJobs(state) {
  const bar = element("job");
  const meter = /** @type {HTMLProgressElement} */ (element("job-progress"));
  const show = () => {
    const job = state.now.server?.job ?? null;
    bar.hidden = job === null;
    if (!job) return;
    if (element("job-what").textContent !== capital(job.what)) element("job-what").textContent = capital(job.what);
    element("job-facts").textContent = progress(job);
    if (job.total > 0) meter.value = job.done / job.total;
    else meter.removeAttribute("value");
  };
  state.on(["server"], show);
  state.on(["connected", "server"], () => {
    const lost = state.now.server !== null && !state.now.connected;
    element("connection").textContent = lost
      ? "No connection to the server; trying again. What was done is saved."
      : "";
  });
}

/** @param {State} state */
export function mountReview(state) {
  const here = element("doubt-here");
  const show = () => {
    const { server, frame } = state.now;
    const doubtful = server?.doubtful ?? [];
    const places = doubtfulPlaces(doubtful);
    element("doubt-count").textContent = places.length > 0 ? `${places.length}` : "";
    const now = doubtful.filter((doubt) => doubt.frame === frame).sort((a, b) => b.doubt - a.doubt)[0];
    if (now) {
      const name = server?.objects.find((object) => object.id === now.object)?.name ?? `object ${now.object}`;
      here.textContent = `${name}: ${now.why} (doubt ${Math.round(100 * now.doubt)} %)`;
    } else {
      here.textContent =
        places.length > 0 ? "Nothing doubtful on this frame." : "Nothing doubtful, as far as is known.";
    }
    here.classList.toggle("warn", now !== undefined);
  };
  state.on(["server", "frame"], show);
}

/** @param {Sync} sync */
export async function stop(sync) {
  say("Stopping; what was found stays."); // before it is asked: its end may be known before the answer is here
  await sync.ask(stopJob);
}
