/** What the page shows before the first message: what can be asked, or why there is no model to ask. */

/** @import { Model } from "./api.js" */
/** @import { Suggestion } from "./suggest.js" */

import { copyButton } from "./copy.js";
import { byId, h, icon } from "./dom.js";
import { languageOf, number, t } from "./i18n.js";
import { continuesText, runOf, sameWeights } from "./models.js";

/** How many suggestions are shown at first, at most: one of each topic. */
const SHOWN = 8;
/** How many stay under the last answer. */
const CHIPS = 3;
const PORT = "8000";

/** @typedef {"ready" | "empty" | "offline" | "loading" | "locked"} ServerState */
/** @typedef {{ask: (text: string) => void, enterKey: () => void}} Handlers */

/**
 * @param {ServerState} server
 * @param {Model[]} chosen the models of the pickers
 * @param {Suggestion[]} suggested for them
 * @param {Handlers} on
 */
export function drawWelcome(server, chosen, suggested, on) {
  byId("welcome", HTMLElement).replaceChildren(...CONTENT[server](chosen, suggested, on));
}

/** @type {Record<ServerState, (chosen: Model[], suggested: Suggestion[], on: Handlers) => Node[]>} */
const CONTENT = {
  ready(chosen, suggested, { ask }) {
    const text = chosen.length > 0 && chosen.every(continuesText);
    const kind = text ? "text" : suggested.length ? "taught" : "plain";
    const [first, second] = chosen;
    const lead = second ? compareLead(first, second) : t(`${kind}Lead`, { model: first?.id ?? "" });
    return [
      h("h1", {}, t(`${kind}Greeting`)),
      h("p", { class: "lead" }, lead),
      ...(chosen.length === 1 ? [drawFacts(first)] : []),
      ...(suggested.length ? [drawSuggestions(suggested, ask)] : []),
      ...(text ? drawTeaching(first) : []),
    ];
  },
  empty: () => [h("h1", {}, t("noModels")), h("p", { class: "lead" }, t("noModelsLead")), command("make demo")],
  offline: () => [h("h1", {}, t("offline")), h("p", { class: "lead" }, t("offlineLead")), command(startCommand())],
  loading: () => [h("h1", {}, t("loadingTitle")), h("p", { class: "lead" }, t("loadingLead"))],
  locked: (_chosen, _suggested, { enterKey }) => [
    h("h1", {}, t("keyNeeded")),
    h("p", { class: "lead" }, t("keyWhy")),
    h("button", { type: "button", class: "primary", onclick: enterKey }, t("enterKey")),
  ],
};

/**
 * @param {Model} first
 * @param {Model} second
 */
function compareLead(first, second) {
  if (sameWeights(first, second)) return t("compareSame");
  return t(continuesText(first) === continuesText(second) ? "compareLead" : "compareKinds", {
    model: (continuesText(first) ? first : second).id,
  });
}

/** The commands that start a server where this page looks for it. */
function startCommand() {
  const { hostname, port, protocol } = location;
  const here = /^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname);
  const at = port || (protocol === "https:" ? "443" : "80");
  const flags = `${here ? "" : " --host 0.0.0.0"}${at === PORT ? "" : ` --port ${at}`}`;
  return `. .venv/bin/activate\nminimind serve${flags}`;
}

/**
 * Suggestions to click on: the first few, and the rest on demand.
 *
 * @param {Suggestion[]} all
 * @param {(text: string) => void} ask
 */
function drawSuggestions(all, ask) {
  const draw = (/** @type {Suggestion} */ { title, text }) =>
    h(
      "li",
      {},
      h(
        "button",
        { type: "button", onclick: () => ask(text) },
        title && h("span", { class: "title" }, title),
        h("span", { class: "question", lang: languageOf(text) }, text),
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

/**
 * The next suggestions, under the last answer.
 *
 * @param {Suggestion[]} suggested
 * @param {Set<string>} asked what was sent already
 * @param {(text: string) => void} ask
 */
export function drawChips(suggested, asked, ask) {
  const next = suggested.filter(({ text }) => !asked.has(text)).slice(0, CHIPS);
  const list = byId("chips", HTMLUListElement);
  list.hidden = next.length === 0;
  list.replaceChildren(
    ...next.map(({ text }) =>
      h("li", {}, h("button", { type: "button", class: "quiet", lang: languageOf(text), onclick: () => ask(text) }, text)),
    ),
  );
}

/** @param {string} text one command a line */
const command = (text) =>
  h("div", { class: "command" }, h("pre", { tabindex: "0" }, h("code", {}, text)), copyButton(() => text));

/** How a model that continues text learns to answer. @param {Model} model */
const drawTeaching = (model) => [
  h("p", { class: "lead teach" }, t("teachLead")),
  command(`minimind train sft --from_weight ${runOf(model)} --data_path YOUR.jsonl`),
];

/** @param {Model} model */
function drawFacts({ minimind = {} }) {
  const { stage, step } = minimind;
  const facts = [stage, step !== undefined && t("factStep", { step: number(step) })].filter(Boolean);
  return h("p", { class: "facts" }, ...facts.map((fact) => h("span", {}, String(fact))));
}
