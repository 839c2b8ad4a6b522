/** What the page shows before the first message: what the model was taught, or why there is no model to ask. */

/** @import { Model, Topic } from "./api.js" */

import { byId, h, icon } from "./dom.js";
import { language, number, t } from "./i18n.js";

/** How many topics are shown at first. */
const SHOWN = 8;

/** @typedef {"ready" | "empty" | "offline" | "loading" | "locked"} ServerState */

/**
 * @param {ServerState} server
 * @param {Model[]} chosen the models of the pickers
 * @param {object} on
 * @param {(question: string) => void} on.ask
 * @param {() => void} on.enterKey
 */
export function drawWelcome(server, chosen, on) {
  byId("welcome", HTMLElement).replaceChildren(...CONTENT[server](chosen, on));
}

/** @type {Record<ServerState, (chosen: Model[], on: {ask: (question: string) => void, enterKey: () => void}) => Node[]>} */
const CONTENT = {
  ready(chosen, { ask }) {
    const topics = questions(chosen);
    const model = chosen[0]?.id ?? "";
    const lead = chosen.length > 1 ? t("compareLead") : t(topics.length ? "taughtLead" : "plainLead", { model });
    return [
      h("h1", {}, t(topics.length ? "greetingTaught" : "greeting")),
      h("p", { class: "lead" }, lead),
      ...chosen.length === 1 ? [drawFacts(chosen[0])] : [],
      drawTopics(topics, ask),
    ];
  },
  empty: () => [h("h1", {}, t("noModels")), h("p", { class: "lead" }, t("noModelsLead")), command("make demo")],
  offline: () => [h("h1", {}, t("offline")), h("p", { class: "lead" }, t("offlineLead")), command("minimind serve")],
  loading: () => [h("h1", {}, t("loadingTitle")), h("p", { class: "lead" }, t("loadingLead"))],
  locked: (_, { enterKey }) => [
    h("h1", {}, t("keyNeeded")),
    h("p", { class: "lead" }, t("keyWhy")),
    h("button", { type: "button", class: "primary", onclick: enterKey }, t("enterKey")),
  ],
};

/**
 * The topics as questions to click on: the first few, and the rest on demand.
 *
 * @param {string[]} topics
 * @param {(question: string) => void} ask
 */
function drawTopics(topics, ask) {
  const draw = (/** @type {string[]} */ titles) =>
    titles.map((title) =>
      h("li", {}, h("button", { type: "button", onclick: () => ask(title) }, h("span", {}, title), icon("right"))),
    );
  const list = h("ul", { class: "topics" }, ...draw(topics.slice(0, SHOWN)));
  if (topics.length > SHOWN) {
    const all = () => {
      list.replaceChildren(...draw(topics));
      list.querySelectorAll("button")[SHOWN].focus();
    };
    list.append(
      h("li", { class: "more" }, h("button", { type: "button", class: "quiet", onclick: all }, t("moreTopics", { n: topics.length }))),
    );
  }
  return list;
}

/** @param {string} text */
const command = (text) => h("pre", { class: "command" }, h("code", {}, text));

/** @param {Model} model */
function drawFacts({ minimind = {} }) {
  const { stage, step, parameters } = minimind;
  const facts = [
    stage,
    step !== undefined && t("factStep", { step: number(step) }),
    parameters !== undefined &&
      t("factParameters", { n: number(parameters, { notation: "compact", maximumSignificantDigits: 3 }) }),
  ].filter(Boolean);
  return h("p", { class: "facts" }, ...facts.map((fact) => h("span", {}, String(fact))));
}

/**
 * The topics of the chosen models, each once.
 *
 * @param {Model[]} models
 */
function questions(models) {
  const titles = models.flatMap(({ minimind }) => minimind?.topics ?? []).map(title);
  return [...new Set(titles)].filter(Boolean);
}

/** @param {Topic} topic */
const title = ({ title_en = "", title_zh = "" }) => (language() === "zh" ? title_zh || title_en : title_en || title_zh);
