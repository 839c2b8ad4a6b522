/** One answer on the page: thinking, text, tool calls, what went wrong, and what it cost. */

/** @import { ErrorKind, Message, ToolCall } from "./api.js" */
/** @import { Answer, Turn } from "./state.js" */

import { copyButton } from "./copy.js";
import { h, icon, iconButton } from "./dom.js";
import { languageOf, number, seconds, t } from "./i18n.js";
import { MarkdownView } from "./markdown.js";
import { isOver, isText, promptText } from "./state.js";

/** Fewer tokens than this are written too fast to say how fast. */
const MEASURABLE_TOKENS = 20;

/**
 * What a reader can ask for below an answer.
 *
 * @typedef {object} AnswerHandlers
 * @property {(turn: Turn) => void} again
 * @property {(turn: Turn) => void} open opens what was sent for editing
 * @property {(turn: Turn, text: string) => void} edit sends another text in its place
 * @property {(turn: Turn) => void} enterKey
 * @property {() => void} otherModel
 * @property {(results: Message[]) => void} toolResults
 */

/** Shows an answer, and follows it with as little drawing as its growth needs. */
export class AnswerView {
  /**
   * @param {Answer} answer
   * @param {Turn} turn the one it belongs to
   * @param {AnswerHandlers} on
   */
  constructor(answer, turn, on) {
    this.answer = answer;
    this.turn = turn;
    this.on = on;

    this.thought = document.createTextNode("");
    this.thinkingLabel = h("span");
    this.thinking = h(
      "details",
      { class: "thinking", hidden: true },
      h("summary", {}, icon("chevron"), this.thinkingLabel),
      h("div", {}, this.thought),
    );
    this.markdown = new MarkdownView();
    this.continued = document.createTextNode("");
    this.text = answer.continues ? h("p", {}, h("span", { class: "given" }, promptText(turn)), this.continued) : null;
    if (this.text) this.text.lang = languageOf(promptText(turn));
    this.calls = h("div", { class: "calls" });
    this.status = h("div", { class: "status" });
    this.ending = h("div", { class: "ending" });
    this.element = h(
      "article",
      { class: "answer", "aria-label": answer.model },
      h("header", { class: "speaker" }, answer.model),
      this.thinking,
      this.text ? h("div", { class: "prose text" }, this.text) : this.markdown.element,
      this.calls,
      this.status,
      this.ending,
    );
    /** What the status shows, so that it is drawn again only when that changes. */
    this.shown = "";
    this.update();
  }

  update() {
    const { state } = this.answer;
    this.element.dataset.state = state;
    this.element.setAttribute("aria-busy", String(!isOver(this.answer)));
    this.#updateThinking();
    this.#updateContent();
    this.#updateCalls();
    this.#updateStatus();
    if (isOver(this.answer) && !this.ending.hasChildNodes()) this.#end();
  }

  #updateThinking() {
    const { reasoning, times, state } = this.answer;
    if (!reasoning) return;
    if (this.thinking.hidden) {
      this.thinking.hidden = false;
      this.thinking.lang = languageOf(reasoning);
    }
    this.thought.appendData(reasoning.slice(this.thought.length));
    const thinks = state === "streaming" && !times.thought;
    this.thinking.classList.toggle("live", thinks);
    const label = thinks
      ? t("thinkingNow")
      : times.thought
        ? t("thought", { s: seconds(Math.max(100, times.thought - times.first)) })
        : t("thoughtCut");
    if (this.thinkingLabel.textContent !== label) this.thinkingLabel.textContent = label;
  }

  #updateContent() {
    const { content } = this.answer;
    if (!content) return;
    if (this.text) {
      this.continued.appendData(content.slice(this.continued.length));
      return;
    }
    if (!this.markdown.element.lang) this.markdown.element.lang = languageOf(content);
    this.markdown.update(content);
  }

  #updateCalls() {
    this.answer.toolCalls.forEach((call, index) => {
      const card = this.calls.children[index] ?? this.calls.appendChild(drawCall(call));
      const code = /** @type {HTMLElement} */ (card.querySelector("code"));
      const written = isOver(this.answer) ? indented(call.function.arguments) : call.function.arguments;
      if (code.textContent !== written) code.textContent = written;
    });
  }

  /** What is being waited for, while there is nothing to read yet. */
  #updateStatus() {
    const { state, retry } = this.answer;
    const left_s = retry ? Math.max(0, Math.ceil((retry.until - Date.now()) / 1000)) : 0;
    const shown = state === "waiting" ? `${retry?.kind ?? "reading"} ${retry?.kind === "busy" ? left_s : ""}` : "";
    if (shown === this.shown) return;
    this.shown = shown;
    if (!shown) {
      this.status.replaceChildren();
      return;
    }
    const text = retry ? t(retry.kind, { n: left_s }) : t("waiting");
    const dots = h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    this.status.replaceChildren(dots, h("span", { class: retry ? "" : "unseen" }, text));
    if (retry) {
      const now = () => (retry.until = 0);
      this.status.append(h("button", { type: "button", class: "quiet", onclick: now }, t("retryNow")));
    }
  }

  #end() {
    const { answer, turn, on } = this;
    const { state, error, finish } = answer;
    const note =
      state === "stopped" ? t("stopped")
      : finish === "length" && !answer.continues ? t("cut")
      : state === "done" && !answer.content && !answer.toolCalls.length ? t("empty")
      : "";
    if (note) this.ending.append(h("p", { class: "note" }, note));
    if (error) this.ending.append(this.#drawError(error));
    if (answer.toolCalls.length && turn.answers.length === 1) this.ending.append(drawResults(answer.toolCalls, on.toolResults));
    const footer = h("footer", { class: "actions" });
    const whole = answer.continues ? promptText(turn) + answer.content : answer.content;
    if (answer.content) footer.append(copyButton(() => whole));
    if (isText(turn)) footer.append(iconButton("pencil", t("edit"), () => on.open(turn), "edit"));
    if (!error) footer.append(iconButton("again", t("again"), () => on.again(turn), "again"));
    if (answer.deltas) footer.append(drawCost(answer, turn.seed));
    if (isText(turn) && turn.answers.length === 1 && finish === "length") {
      const more = () => on.edit(turn, whole);
      footer.append(h("button", { type: "button", class: "quiet again", onclick: more }, t("goOn")));
    }
    if (footer.hasChildNodes()) this.ending.append(footer);
  }

  /** @param {{kind: ErrorKind, message: string}} error */
  #drawError({ kind, message }) {
    const { turn, on, answer } = this;
    const says = message && kind !== "missing" && kind !== "unauthorized";
    const [label, action] =
      kind === "unauthorized" ? [t("enterKey"), () => on.enterKey(turn)]
      : kind === "missing" ? [t("otherModel"), on.otherModel]
      : [t("retry"), () => on.again(turn)];
    return h(
      "div",
      { class: "error" },
      icon("warning"),
      h("div", {}, h("p", {}, t(kind, { model: answer.model, n: 0 })), says && h("p", { class: "detail" }, t("serverSays", { message }))),
      h("button", { type: "button", class: "quiet retry", onclick: action }, label),
    );
  }
}

/** @param {ToolCall} call */
function drawCall(call) {
  return h(
    "section",
    { class: "call" },
    h("header", {}, icon("wrench"), h("span", {}, t("toolCall", { name: call.function.name }))),
    h("pre", { tabindex: "0" }, h("code")),
  );
}

/**
 * Where the reader types what the called tools give.
 *
 * @param {ToolCall[]} calls
 * @param {(results: Message[]) => void} send
 */
function drawResults(calls, send) {
  const fields = calls.map(({ function: { name } }) =>
    h("textarea", { rows: "1", class: "mono", placeholder: t("toolWaits"), "aria-label": `${name}: ${t("toolWaits")}` }),
  );
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    send(
      calls.map(({ id, function: { name } }, index) => ({
        role: "tool",
        name,
        content: fields[index].value,
        tool_call_id: id,
      })),
    );
  };
  return h("form", { class: "results", onsubmit: submit }, ...fields, h("button", { class: "quiet" }, t("toolSend")));
}

/**
 * Tokens, speed and seed. The speed is that of writing, from the first token to the last, as the server measured it: here
 * only the pieces could be timed in which they came.
 *
 * @param {Answer} answer
 * @param {number} seed
 */
function drawCost({ usage, deltas, times, decode_s }, seed) {
  const tokens = usage?.completion_tokens ?? deltas;
  const measurable = Boolean(usage) && tokens >= MEASURABLE_TOKENS && decode_s > 0;
  const parts = [
    t(usage ? "tokens" : "tokensAbout", { n: number(tokens) }),
    measurable && t("speed", { n: number((tokens - 1) / decode_s, { maximumSignificantDigits: 2 }) }),
    t("seedIs", { seed: String(seed) }),
  ].filter(Boolean);
  const prompt = usage ? number(usage.prompt_tokens) : "–";
  const title = t("first", { s: seconds(times.first - times.asked), total: seconds(times.last - times.asked), prompt });
  return h("span", { class: "cost", title }, ...parts.map((part) => h("span", {}, String(part))));
}

/** @param {string} json indented if it is complete */
function indented(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
