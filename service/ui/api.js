/** The server's OpenAI-shaped API: the models, and one streamed answer or continuation. */

import { session } from "./storage.js";

/**
 * @typedef {{language: string, title_en: string, title_zh: string, examples: string[]}} Topic
 * @typedef {{stage?: string, step?: number, chat?: boolean, scores?: boolean, stock?: boolean, parent?: string | null,
 *     weights?: string, sampling?: {temperature?: number}}} Card `chat`: can answer; `scores`: writes nothing; `stock`:
 *     taught the topics; `parent`: a root
 * @typedef {{id: string, root?: string, minimind?: Card}} Model
 * @typedef {{name: string, a: string, b: string}} Report of the checkpoint `b` against `a`, both as roots
 * @typedef {{id: string, type: "function", function: {name: string, arguments: string}}} ToolCall
 * @typedef {{role: "system" | "user" | "assistant" | "tool", content: string, reasoning_content?: string,
 *     tool_calls?: ToolCall[], tool_call_id?: string, name?: string}} Message
 * @typedef {{prompt_tokens: number, completion_tokens: number}} Usage
 * @typedef {{model: string, messages: Message[], temperature?: number, seed: number, max_tokens?: number,
 *     tools?: unknown[], chat_template_kwargs?: {enable_thinking: boolean}}} ChatRequest
 * @typedef {{model: string, prompt: string, add_special_tokens: true, temperature?: number, seed: number,
 *     max_tokens: number}} TextRequest
 * @typedef {{content?: string | null, reasoning_content?: string | null,
 *     tool_calls?: {index: number, id?: string, function?: {name?: string, arguments?: string}}[]}} Delta
 * @typedef {{delta?: Delta, finish?: string, usage?: Usage, decode_s?: number}} ChatEvent `decode_s`: from the first
 *     token to the last, as the server measured it
 */

/**
 * What can go wrong, by what the reader can do about it: `unauthorized` enter a key, `missing` choose another model,
 * `busy` and `loading` wait, `network` look after the server, `broken` keep what came, `request` change it, `server`
 * read the log.
 *
 * @typedef {"network" | "unauthorized" | "missing" | "busy" | "loading" | "broken" | "request" | "server"} ErrorKind
 */

/** An error of the API. `message` is the server's own sentence, if there is one. */
export class ApiError extends Error {
  /**
   * @param {ErrorKind} kind
   * @param {string} [message]
   * @param {number | null} [retryAfter_s] how long the server asks to wait
   */
  constructor(kind, message = "", retryAfter_s = null) {
    super(message);
    this.name = "ApiError";
    this.kind = kind;
    this.retryAfter_s = retryAfter_s;
  }
}

/** @type {Record<number, ErrorKind>} */
const KINDS = { 401: "unauthorized", 404: "missing", 429: "busy", 503: "loading" };

const KEY = "minimind.key";

/** @param {string} key kept until the tab is closed */
export const setKey = (key) => void session.set(KEY, key);

export const forgetKey = () => session.remove(KEY);

/**
 * Whether a key can be a server's: printable ASCII. Full-width letters, curly quotes and invisible signs, which come
 * with copying, no header can carry.
 *
 * @param {string} key
 */
export const canBeKey = (key) => /^[ -~]+$/.test(key);

/** Whether a key was entered: then a 401 means that it is a wrong one. */
export const hasKey = () => session.get(KEY) !== null;

/**
 * @param {string} path relative to the page, so that a server below a path prefix works
 * @param {RequestInit} options
 * @returns {Promise<Response>} one with a good status
 * @throws {ApiError}
 */
async function request(path, options) {
  const key = session.get(KEY);
  const headers = { ...options.headers, ...(key === null ? {} : { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers, cache: "no-store" }).catch((error) => {
    throw options.signal?.aborted ? error : new ApiError("network");
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message;
  throw new ApiError(
    KINDS[response.status] ?? (response.status < 500 ? "request" : "server"),
    typeof message === "string" ? message : `HTTP ${response.status}`,
    Number.parseFloat(response.headers.get("Retry-After") ?? "") || null,
  );
}

/**
 * The models that write: one that gives scores has nothing to say.
 *
 * @returns {Promise<Model[]>}
 * @throws {ApiError}
 */
export async function listModels() {
  const response = await request("v1/models", {});
  const body = await response.json().catch(() => null);
  if (!Array.isArray(body?.data)) throw new ApiError("server", "GET /v1/models gave no list");
  return body.data.filter((/** @type {Model} */ { minimind }) => !minimind?.scores);
}

/**
 * What the stock data teaches. Suggestions are no reason to fail: none come where the server cannot say.
 *
 * @returns {Promise<Topic[]>}
 */
export async function listTopics() {
  const body = await request("ui/topics.json", {}).then((response) => response.json()).catch(() => null);
  return Array.isArray(body?.topics) ? body.topics : [];
}

/**
 * The reports of two checkpoints side by side, the newest first; none where the server cannot say.
 *
 * @returns {Promise<Report[]>}
 */
export async function listReports() {
  const body = await request("reports", {}).then((response) => response.json()).catch(() => null);
  return Array.isArray(body?.reports) ? body.reports : [];
}

/**
 * One answer, or how one text goes on, as it comes.
 *
 * @param {ChatRequest | TextRequest} body
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ChatEvent>}
 * @throws {ApiError} `broken` when the stream ends before the answer does
 */
export async function* streamAnswer(body, signal) {
  const response = await request("prompt" in body ? "v1/completions" : "v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.body) throw new ApiError("broken");
  for await (const data of readEvents(response.body, signal)) {
    if (data === "[DONE]") return;
    const chunk = parse(data);
    if (chunk.error) throw new ApiError("broken", String(chunk.error.message ?? ""));
    if (chunk.usage) yield { usage: chunk.usage, decode_s: chunk.minimind?.decode_s };
    const choice = chunk.choices?.[0];
    if (choice?.delta) yield { delta: choice.delta };
    else if (choice?.text) yield { delta: { content: choice.text } };
    if (choice?.finish_reason) yield { finish: choice.finish_reason };
  }
  throw new ApiError("broken");
}

/** @param {string} data @returns {any} */
function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new ApiError("broken", `not JSON: ${data.slice(0, 80)}`);
  }
}

/**
 * The data of server-sent events, whatever the pieces they arrive in.
 *
 * @param {ReadableStream<Uint8Array>} stream
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<string>}
 * @throws {ApiError} `broken` when the connection fails
 */
export async function* readEvents(stream, signal) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  /** @type {string[]} */
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw signal.aborted ? error : new ApiError("broken");
      });
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
