/** Asks for one answer and fills it in as it comes: waits when the server is busy or loading, keeps what broke off. */

/** @import { ChatEvent, ChatRequest, TextRequest } from "./api.js" */
/** @import { Answer } from "./state.js" */

import { ApiError, streamAnswer } from "./api.js";

const BUSY_S = 5;
const LOADING_S = 2;

/**
 * Returns when the answer is done, stopped or failed; it never throws what the API can throw.
 *
 * @param {Answer} answer
 * @param {ChatRequest | TextRequest} request
 * @param {AbortSignal} signal stops it
 * @param {() => void} changed called after every change of the answer
 */
export async function generate(answer, request, signal, changed) {
  try {
    while (!(await attempt(answer, request, signal, changed)));
  } catch (error) {
    if (signal.aborted) answer.state = "stopped";
    else if (error instanceof ApiError) {
      answer.state = "failed";
      answer.error = { kind: error.kind, message: error.message };
    } else throw error;
  } finally {
    answer.retry = null;
    changed();
  }
}

/**
 * @param {Answer} answer
 * @param {ChatRequest | TextRequest} request
 * @param {AbortSignal} signal
 * @param {() => void} changed
 * @returns {Promise<boolean>} false when it is to be asked again
 */
async function attempt(answer, request, signal, changed) {
  answer.times.asked = Date.now();
  try {
    for await (const event of streamAnswer(request, signal)) {
      receive(answer, event);
      changed();
    }
    answer.state = "done";
    return true;
  } catch (error) {
    if (!(error instanceof ApiError) || (error.kind !== "busy" && error.kind !== "loading")) throw error;
    const wait_s = error.retryAfter_s ?? (error.kind === "busy" ? BUSY_S : LOADING_S);
    answer.retry = { kind: error.kind, until: Date.now() + wait_s * 1000 };
    await countdown(answer, signal, changed);
    return false;
  }
}

/**
 * Waits until `answer.retry.until`, which a click on "try now" may bring forward.
 *
 * @param {Answer} answer
 * @param {AbortSignal} signal
 * @param {() => void} changed
 */
async function countdown(answer, signal, changed) {
  for (;;) {
    changed();
    const left_ms = (answer.retry?.until ?? 0) - Date.now();
    if (left_ms <= 0) break;
    await new Promise((resolve) => setTimeout(resolve, Math.min(left_ms, 200)));
    signal.throwIfAborted();
  }
  answer.retry = null;
  changed();
}

/**
 * @param {Answer} answer
 * @param {ChatEvent} event
 */
export function receive(answer, { delta, finish, usage, decode_s }) {
  if (finish) answer.finish = finish;
  if (usage) answer.usage = usage;
  if (decode_s) answer.decode_s = decode_s;
  if (!delta) return;

  const { content, reasoning_content: reasoning, tool_calls: calls } = delta;
  if (!content && !reasoning && !calls?.length) return;
  const now = Date.now();
  answer.state = "streaming";
  answer.deltas += 1;
  answer.times.first ||= now;
  answer.times.last = now;
  if (reasoning) answer.reasoning += reasoning;
  if (content || calls?.length) answer.times.thought ||= now;
  if (content) answer.content += content;
  for (const call of calls ?? []) {
    const whole = (answer.toolCalls[call.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
    whole.id ||= call.id ?? "";
    whole.function.name += call.function?.name ?? "";
    whole.function.arguments += call.function?.arguments ?? "";
  }
}
