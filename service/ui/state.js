/** The conversation and the settings: what they are, what the model is sent, and how the browser keeps them. */

/** @import { ChatRequest, ErrorKind, Message, Model, TextRequest, ToolCall, Usage } from "./api.js" */

import { continuesText } from "./models.js";
import { local } from "./storage.js";

/**
 * One model's answer. It is changed in place while it streams.
 *
 * @typedef {object} Answer
 * @property {string} model
 * @property {boolean} continues it goes on with the text of the prompt, instead of answering it
 * @property {"waiting" | "streaming" | "done" | "stopped" | "failed"} state
 * @property {string} reasoning
 * @property {string} content
 * @property {ToolCall[]} toolCalls
 * @property {string | null} finish OpenAI's finish_reason
 * @property {Usage | null} usage
 * @property {number} deltas how many pieces came: about one a token, for when no usage did
 * @property {{kind: ErrorKind, message: string} | null} error
 * @property {{kind: "busy" | "loading", until: number} | null} retry while it waits to ask again; ms since the epoch
 * @property {number} decode_s how long writing took, as the server measured it; 0 is unknown
 * @property {{asked: number, first: number, thought: number, last: number}} times in ms since the epoch; 0 is not yet
 */

/**
 * What the user sent (one message, or results of tools), and an answer of each model that was asked.
 *
 * @typedef {{prompt: Message[], seed: number, answers: Answer[]}} Turn
 */

/**
 * @typedef {object} Settings
 * @property {string[]} models of the first and second picker
 * @property {boolean[]} picked which of them the reader chose; the page chooses the others
 * @property {boolean} compare
 * @property {string} system
 * @property {number | null} temperature null is the model's own
 * @property {number | null} maxTokens
 * @property {number | null} seed
 * @property {"auto" | "on" | "off"} thinking
 * @property {string} tools JSON as typed, or ""
 */

/** @typedef {{settings: Settings, turns: Turn[]}} State */

const KEY = "minimind.chat";
const VERSION = 2;
/** How far a text goes on where the reader set no length: a model that continues text may know no end. */
const CONTINUED_TOKENS = 128;
/** Seeds are drawn from so many: few enough digits to be typed in again. */
const SEEDS = 1_000_000;

/** @returns {Settings} */
export const defaults = () => ({
  models: ["", ""],
  picked: [false, false],
  compare: false,
  system: "",
  temperature: null,
  maxTokens: null,
  seed: null,
  thinking: "auto",
  tools: "",
});

/**
 * @param {string} model
 * @param {boolean} [continues]
 * @returns {Answer}
 */
export const newAnswer = (model, continues = false) => ({
  model,
  continues,
  state: "waiting",
  reasoning: "",
  content: "",
  toolCalls: [],
  finish: null,
  usage: null,
  deltas: 0,
  error: null,
  retry: null,
  decode_s: 0,
  times: { asked: 0, first: 0, thought: 0, last: 0 },
});

/**
 * A turn to be answered by these models, all with one seed.
 *
 * @param {Message[]} prompt
 * @param {Model[]} models
 * @param {Settings} settings
 * @returns {Turn}
 */
export function newTurn(prompt, models, settings) {
  const seed = settings.seed ?? Math.floor(Math.random() * SEEDS);
  return { prompt, seed, answers: models.map((model) => newAnswer(model.id, continuesText(model))) };
}

/** Whether a turn is a text and how it goes on, and no conversation. @param {Turn} turn */
export const isText = (turn) => turn.answers.every(({ continues }) => continues);

/** @param {Turn} turn @returns {string} what was sent, as one text */
export const promptText = ({ prompt }) => prompt.map(({ content }) => content).join("\n");

/** @param {Answer} answer */
export const hasAnswered = (answer) => Boolean(answer.content || answer.toolCalls.length);

/** @param {Answer} answer */
export const isOver = (answer) => answer.state !== "waiting" && answer.state !== "streaming";

/**
 * What to ask for the answer in `column` of the last turn. A model sees its own column of the turns before; turns that
 * got no answer are left out, so that no two messages of the user follow each other, and so are texts that were
 * continued. A model that continues text sees the text alone.
 *
 * @param {Turn[]} turns
 * @param {number} column
 * @param {Settings} settings
 * @returns {ChatRequest | TextRequest}
 */
export function requestFor(turns, column, settings) {
  const turn = turns[turns.length - 1];
  const { model, continues } = turn.answers[column];
  const how = { seed: turn.seed, ...(settings.temperature === null ? {} : { temperature: settings.temperature }) };
  if (continues) {
    const max_tokens = settings.maxTokens ?? CONTINUED_TOKENS;
    return { model, prompt: promptText(turn), add_special_tokens: true, max_tokens, ...how };
  }
  /** @type {Message[]} */
  const messages = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
  for (const before of turns.slice(0, -1)) {
    const answer = before.answers[Math.min(column, before.answers.length - 1)];
    if (hasAnswered(answer) && !answer.continues) messages.push(...before.prompt, answerMessage(answer));
  }
  messages.push(...turn.prompt);
  const tools = settings.tools.trim() ? JSON.parse(settings.tools) : [];
  return {
    model,
    messages,
    ...how,
    ...(settings.maxTokens === null ? {} : { max_tokens: settings.maxTokens }),
    ...(tools.length ? { tools } : {}),
    ...(settings.thinking === "auto" ? {} : { chat_template_kwargs: { enable_thinking: settings.thinking === "on" } }),
  };
}

/**
 * @param {Answer} answer
 * @returns {Message}
 */
function answerMessage({ content, reasoning, toolCalls }) {
  return {
    role: "assistant",
    content,
    ...(reasoning ? { reasoning_content: reasoning } : {}),
    ...(toolCalls.length ? { tool_calls: toolCalls } : {}),
  };
}

/**
 * What is kept of the last visit. Something unreadable, or of another version, is as good as nothing.
 *
 * @returns {State}
 */
export function load() {
  /** @type {Partial<State> & {version?: number}} */
  let kept = {};
  try {
    kept = JSON.parse(local.get(KEY) ?? "{}");
  } catch {
    // Not ours: begin anew.
  }
  if (kept?.version !== VERSION) kept = {};
  const turns = kept.turns ?? [];
  for (const answer of turns.flatMap((turn) => turn.answers)) {
    if (isOver(answer)) continue;
    Object.assign(answer, { state: "failed", retry: null, error: { kind: "broken", message: "" } });
  }
  return { settings: { ...defaults(), ...kept.settings }, turns };
}

/**
 * @param {State} state
 * @returns {boolean} false when the browser does not keep it
 */
export const save = ({ settings, turns }) => local.set(KEY, JSON.stringify({ version: VERSION, settings, turns }));
