/** The conversation and the settings: what they are, what the model is sent, and how the browser keeps them. */

/** @import { ChatRequest, ErrorKind, Message, ToolCall, Usage } from "./api.js" */

/**
 * One model's answer. It is changed in place while it streams.
 *
 * @typedef {object} Answer
 * @property {string} model
 * @property {"waiting" | "streaming" | "done" | "stopped" | "failed"} state
 * @property {string} reasoning
 * @property {string} content
 * @property {ToolCall[]} toolCalls
 * @property {string | null} finish OpenAI's finish_reason
 * @property {Usage | null} usage
 * @property {number} deltas how many pieces came: about one a token, for when no usage did
 * @property {{kind: ErrorKind, message: string} | null} error
 * @property {{kind: "busy" | "loading", until: number} | null} retry while it waits to ask again; ms since the epoch
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
 * @property {boolean} compare
 * @property {string} system
 * @property {number} temperature
 * @property {number | null} maxTokens
 * @property {number | null} seed
 * @property {"auto" | "on" | "off"} thinking
 * @property {string} tools JSON as typed, or ""
 */

/** @typedef {{settings: Settings, turns: Turn[]}} State */

const KEY = "minimind.chat";
const VERSION = 1;
/** Seeds are drawn from so many: few enough digits to be typed in again. */
const SEEDS = 1_000_000;

/** @returns {Settings} */
export const defaults = () => ({
  models: ["", ""],
  compare: false,
  system: "",
  temperature: 0.7,
  maxTokens: null,
  seed: null,
  thinking: "auto",
  tools: "",
});

/**
 * @param {string} model
 * @returns {Answer}
 */
export const newAnswer = (model) => ({
  model,
  state: "waiting",
  reasoning: "",
  content: "",
  toolCalls: [],
  finish: null,
  usage: null,
  deltas: 0,
  error: null,
  retry: null,
  times: { asked: 0, first: 0, thought: 0, last: 0 },
});

/**
 * A turn to be answered by the chosen models, all with one seed.
 *
 * @param {Message[]} prompt
 * @param {Settings} settings
 * @returns {Turn}
 */
export function newTurn(prompt, settings) {
  const models = settings.compare ? settings.models : settings.models.slice(0, 1);
  const seed = settings.seed ?? Math.floor(Math.random() * SEEDS);
  return { prompt, seed, answers: models.map(newAnswer) };
}

/** @param {Answer} answer */
export const hasAnswered = (answer) => Boolean(answer.content || answer.toolCalls.length);

/** @param {Answer} answer */
export const isOver = (answer) => answer.state !== "waiting" && answer.state !== "streaming";

/**
 * What to ask for the answer in `column` of the last turn. A model sees its own column of the turns before; turns that
 * got no answer are left out, so that no two messages of the user follow each other.
 *
 * @param {Turn[]} turns
 * @param {number} column
 * @param {Settings} settings
 * @returns {ChatRequest}
 */
export function chatRequest(turns, column, settings) {
  const turn = turns[turns.length - 1];
  /** @type {Message[]} */
  const messages = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
  for (const before of turns.slice(0, -1)) {
    const answer = before.answers[Math.min(column, before.answers.length - 1)];
    if (hasAnswered(answer)) messages.push(...before.prompt, answerMessage(answer));
  }
  messages.push(...turn.prompt);
  const tools = settings.tools.trim() ? JSON.parse(settings.tools) : [];
  return {
    model: turn.answers[column].model,
    messages,
    temperature: settings.temperature,
    seed: turn.seed,
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
    kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
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
 * @returns {boolean} false when it does not fit into what the browser grants
 */
export function save({ settings, turns }) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ version: VERSION, settings, turns }));
    return true;
  } catch {
    return false;
  }
}
