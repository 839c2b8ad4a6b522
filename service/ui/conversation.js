/** The conversation on the page: turns, edits in place, and scrolling that follows only who wants to follow. */

/** @import { AnswerHandlers } from "./answer.js" */
/** @import { Answer, Turn } from "./state.js" */

import { AnswerView } from "./answer.js";
import { isSendKey } from "./composer.js";
import { copy, copyButton } from "./copy.js";
import { byId, h, iconButton } from "./dom.js";
import { languageOf, t } from "./i18n.js";
import { isText } from "./state.js";

/** How near to the end, in pixels, counts as being there. */
const AT_END = 40;

/** @typedef {Omit<AnswerHandlers, "open">} Handlers */

/** The list of turns. Between two frames any number of changes costs one drawing. */
export class ConversationView {
  /** @param {Handlers} on */
  constructor(on) {
    this.on = on;
    this.element = byId("conversation", HTMLElement);
    this.scroller = byId("scroller", HTMLElement);
    this.jump = byId("jump", HTMLButtonElement);
    /** @type {Map<Turn, HTMLElement>} */
    this.turns = new Map();
    /** @type {Map<Answer, AnswerView>} */
    this.answers = new Map();
    /** @type {Set<Answer>} */
    this.stale = new Set();
    this.follows = true;

    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.jump.addEventListener("click", () => this.follow());
    new ResizeObserver(() => this.#keepUp()).observe(this.scroller);
    this.element.addEventListener("click", copyCode);
  }

  /**
   * Shows these turns: those that are new are drawn, those that are gone leave, the rest stays untouched.
   *
   * @param {Turn[]} turns
   */
  show(turns) {
    for (const [turn, element] of this.turns) {
      if (turns.includes(turn)) continue;
      element.remove();
      this.turns.delete(turn);
      for (const answer of turn.answers) this.answers.delete(answer);
    }
    for (const turn of turns) {
      if (this.turns.has(turn)) continue;
      const element = this.#draw(turn);
      this.turns.set(turn, element);
      this.element.append(element);
    }
    this.#keepUp();
  }

  /**
   * Draws everything anew, in another language say. What is being typed in it stays.
   *
   * @param {Turn[]} turns
   */
  redraw(turns) {
    const typed = turns.map((turn) => {
      const element = this.turns.get(turn);
      const values = [...(element?.querySelectorAll("textarea") ?? [])].map(({ value }) => value);
      return { turn, values, edited: Boolean(element?.querySelector(".editor")) };
    });
    this.show([]);
    this.show(turns);
    for (const { turn, values, edited } of typed) {
      if (edited) this.edit(turn);
      const fields = this.turns.get(turn)?.querySelectorAll("textarea") ?? [];
      fields.forEach((field, index) => (field.value = values[index] ?? field.value));
    }
  }

  /** @param {Answer} answer drawn again in the next frame */
  changed(answer) {
    if (!this.stale.size) requestAnimationFrame(() => this.#frame());
    this.stale.add(answer);
  }

  /** Goes to the end, and stays there while it grows. */
  follow() {
    this.follows = true;
    this.#keepUp();
  }

  /**
   * Opens the turn's message for editing; one that is being edited stays as it is.
   *
   * @param {Turn} turn
   */
  edit(turn) {
    this.turns.get(turn)?.querySelector(".prompt:not(.editor)")?.replaceWith(this.#drawEditor(turn));
    this.turns.get(turn)?.querySelector("textarea")?.focus();
  }

  #frame() {
    for (const answer of this.stale) this.answers.get(answer)?.update();
    this.stale.clear();
    this.#keepUp();
  }

  #keepUp() {
    if (this.follows && this.turns.size) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#scrolled();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.follows = !this.turns.size || scrollHeight - clientHeight - scrollTop < AT_END;
    this.jump.hidden = this.follows;
  }

  /** @param {Turn} turn */
  #draw(turn) {
    const on = { ...this.on, open: (/** @type {Turn} */ turn) => this.edit(turn) };
    const views = turn.answers.map((answer) => new AnswerView(answer, turn, on));
    for (const view of views) this.answers.set(view.answer, view);
    return h(
      "section",
      { class: views.length > 1 ? "turn versus" : "turn" },
      this.#drawPrompt(turn),
      h("div", { class: "answers" }, ...views.map((view) => view.element)),
    );
  }

  /** @param {Turn} turn */
  #drawPrompt(turn) {
    const [message] = turn.prompt;
    // The answer shows it, as the beginning of one text; here is the place of its editor.
    if (isText(turn)) return h("div", { class: "prompt", hidden: true });
    if (message.role === "tool") return h("div", { class: "prompt" }, ...turn.prompt.map(drawResult));
    const text = message.content;
    return h(
      "div",
      { class: "prompt" },
      h("span", { class: "unseen" }, t("you")),
      h("p", { class: "bubble", lang: languageOf(text) }, text),
      h("footer", { class: "actions" }, copyButton(() => text), iconButton("pencil", t("edit"), () => this.edit(turn), "edit")),
    );
  }

  /** @param {Turn} turn */
  #drawEditor(turn) {
    const before = turn.prompt[0].content;
    const field = h("textarea", { class: "bubble", rows: "1", "aria-label": t("edit"), lang: languageOf(before) });
    field.value = before;
    const cancel = () => {
      form.replaceWith(this.#drawPrompt(turn));
      byId("prompt", HTMLTextAreaElement).focus();
    };
    /** @param {Event} event */
    const send = (event) => {
      event.preventDefault();
      if (field.value.trim()) this.on.edit(turn, field.value.trim());
    };
    field.addEventListener("keydown", (event) => {
      if (isSendKey(event)) send(event);
      if (event.key !== "Escape") return;
      event.stopPropagation();
      cancel();
    });
    const form = h(
      "form",
      { class: "prompt editor", onsubmit: send },
      field,
      h(
        "div",
        { class: "buttons" },
        h("small", {}, t("editHint")),
        h("button", { type: "button", class: "quiet", onclick: cancel }, t("cancel")),
        h("button", { class: "primary" }, t("save")),
      ),
    );
    return form;
  }
}

/** @param {import("./api.js").Message} message of a tool */
function drawResult({ name, content }) {
  return h(
    "section",
    { class: "call result" },
    h("header", {}, t("toolResult", { name: name ?? "" })),
    h("pre", { tabindex: "0" }, h("code", {}, content)),
  );
}

/** @param {Event} event a click on a code block's copy button */
function copyCode(event) {
  const button = event.target instanceof Element ? event.target.closest("[data-copy=code]") : null;
  if (button instanceof HTMLElement) copy(button, button.closest("figure")?.querySelector("pre")?.textContent ?? "");
}
