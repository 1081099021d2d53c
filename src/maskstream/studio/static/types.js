/**
 * The shapes of what the server sends. Frames are numbered from 0; coordinates are pixels of the
 * video, (0, 0) the middle of the first one.
 *
 * @typedef {{name: string, folder: string}} ProjectInfo
 * @typedef {{name: string, key: string, frames: number, fps: number, height: number, width: number}} VideoInfo
 * @typedef {[first: number, last: number]} Span    both ends included
 *
 * @typedef {object} VideoObject
 * @property {number} id
 * @property {string} name
 * @property {string} category
 * @property {string} colour    "#rrggbb"
 * @property {boolean} visible
 * @property {number[]} given    frames on which a person said where it is
 * @property {Span[]} found
 * @property {Span[]} outdated    found, but what it followed from has changed since
 *
 * @typedef {{frame: number, object: number, doubt: number, why: string}} Doubt
 * @typedef {{id: string, what: string, done: number, total: number, rate: number | null, left: number | null}} Job
 * @typedef {{name: string, title: string, writes: boolean, reads: boolean}} Format
 * @typedef {{text: boolean, find: boolean, prompter: string, propagator: string, segmenter: string}} Abilities
 *
 * @typedef {object} ServerState    what GET /api/state answers
 * @property {ProjectInfo | null} project
 * @property {VideoInfo | null} video
 * @property {number} revision
 * @property {VideoObject[]} objects
 * @property {Doubt[]} doubtful    worst first
 * @property {string | null} undo    what undo would undo
 * @property {string | null} redo
 * @property {Job | null} job
 * @property {Abilities} can
 * @property {Format[]} formats
 *
 * @typedef {{kind: "point", x: number, y: number, positive: boolean}} PointPrompt
 * @typedef {{kind: "box", box: [number, number, number, number]}} BoxPrompt
 * @typedef {{kind: "scribble", stroke: Point[], positive: boolean}} ScribblePrompt
 * @typedef {PointPrompt | BoxPrompt | ScribblePrompt} Prompt
 * @typedef {[x: number, y: number]} Point
 *
 * @typedef {{revision: number, frames: number[], object?: number | null, label?: string}} Change
 * @typedef {{object: number, prompts: Prompt[]}} Given
 * @typedef {{name: string, path: string, kind: "folder" | "video" | "images" | "project"}} Entry
 * @typedef {{path: string, parent: string | null, entries: Entry[]}} Listing
 *
 * @typedef {{type: "state", revision: number}} StateEvent
 * @typedef {{type: "masks", revision: number, frames: number[]}} MasksEvent
 * @typedef {{type: "job"} & Job} JobEvent
 * @typedef {{type: "ended", id: string, what: string, outcome: "done" | "stopped" | "failed", message: string,
 *            download?: string | null}} EndedEvent
 * @typedef {StateEvent | MasksEvent | JobEvent | EndedEvent} StudioEvent
 *
 * @typedef {"point" | "box" | "scribble" | "brush" | "eraser"} ToolName
 *
 * @typedef {{kind: "box", from: Point, to: Point} |
 *           {kind: "stroke", tool: ToolName, points: Point[], positive: boolean, radius: number} |
 *           {kind: "point", at: Point, positive: boolean}} Draft    a gesture that is being made, or was and is not answered
 */

export {};
