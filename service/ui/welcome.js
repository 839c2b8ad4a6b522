/** What the page shows before the first message: what the model was taught, or why there is no model to ask. */

/** @import { Model, Topic } from "./api.js" */

import { byId, h, icon } from "./dom.js";
import { language, languageOf, number, t } from "./i18n.js";

/** How many questions are shown at first, at most: one of each topic. */
const SHOWN = 8;

/** @typedef {"ready" | "empty" | "offline" | "loading" | "locked"} ServerState */
/** @typedef {{ask: (question: string) => void, enterKey: () => void}} Handlers */
/** @typedef {{title: string, question: string, rank: number}} Suggestion */

/**
 * @param {ServerState} server
 * @param {Model[]} chosen the models of the pickers
 * @param {Topic[]} topics of the stock data
 * @param {Handlers} on
 */
export function drawWelcome(server, chosen, topics, on) {
  byId("welcome", HTMLElement).replaceChildren(...CONTENT[server](chosen, topics, on));
}

/** @type {Record<ServerState, (chosen: Model[], topics: Topic[], on: Handlers) => Node[]>} */
const CONTENT = {
  ready(chosen, topics, { ask }) {
    const taught = chosen.some(({ minimind }) => minimind?.stock) && topics.length > 0;
    const model = chosen[0]?.id ?? "";
    const lead = chosen.length > 1 ? t("compareLead") : t(taught ? "taughtLead" : "plainLead", { model });
    return [
      h("h1", {}, t(taught ? "greetingTaught" : "greeting")),
      h("p", { class: "lead" }, lead),
      ...(chosen.length === 1 ? [drawFacts(chosen[0])] : []),
      ...(taught ? [drawSuggestions(suggestions(topics), ask)] : []),
    ];
  },
  empty: () => [h("h1", {}, t("noModels")), h("p", { class: "lead" }, t("noModelsLead")), command("make demo")],
  offline: () => [h("h1", {}, t("offline")), h("p", { class: "lead" }, t("offlineLead")), command("minimind serve")],
  loading: () => [h("h1", {}, t("loadingTitle")), h("p", { class: "lead" }, t("loadingLead"))],
  locked: (_chosen, _topics, { enterKey }) => [
    h("h1", {}, t("keyNeeded")),
    h("p", { class: "lead" }, t("keyWhy")),
    h("button", { type: "button", class: "primary", onclick: enterKey }, t("enterKey")),
  ],
};

/**
 * Questions of the topics in the reader's language, or of all if there is none: the shortest of each topic, then the
 * next of each, and so on.
 *
 * @param {Topic[]} topics
 * @returns {Suggestion[]}
 */
function suggestions(topics) {
  const own = topics.filter((topic) => topic.language === language());
  const ranked = (own.length ? own : topics).flatMap((topic) =>
    topic.examples
      .toSorted((one, other) => one.length - other.length)
      .map((question, rank) => ({ title: title(topic), question, rank })),
  );
  return ranked.sort((one, other) => one.rank - other.rank);
}

/** @param {Topic} topic */
const title = ({ title_en, title_zh }) => (language() === "zh" ? title_zh : title_en);

/**
 * Questions to click on: the first few, and the rest on demand.
 *
 * @param {Suggestion[]} all
 * @param {(question: string) => void} ask
 */
function drawSuggestions(all, ask) {
  const draw = (/** @type {Suggestion} */ { title, question }) =>
    h(
      "li",
      {},
      h(
        "button",
        { type: "button", onclick: () => ask(question) },
        h("span", { class: "title" }, title),
        h("span", { class: "question", lang: languageOf(question) }, question),
        icon("right"),
      ),
    );
  const first = all.filter(({ rank }) => rank === 0).slice(0, SHOWN);
  const list = h("ul", { class: "topics" }, ...first.map(draw));
  if (all.length > first.length) {
    const more = () => {
      list.replaceChildren(...all.map(draw));
      list.querySelectorAll("button")[first.length].focus();
    };
    const button = h("button", { type: "button", class: "quiet", onclick: more }, t("moreQuestions", { n: all.length }));
    list.append(h("li", { class: "more" }, button));
  }
  return list;
}

/** @param {string} text */
const command = (text) => h("pre", { class: "command" }, h("code", {}, text));

/** @param {Model} model */
function drawFacts({ minimind = {} }) {
  const { stage, step } = minimind;
  const facts = [stage, step !== undefined && t("factStep", { step: number(step) })].filter(Boolean);
  return h("p", { class: "facts" }, ...facts.map((fact) => h("span", {}, String(fact))));
}
