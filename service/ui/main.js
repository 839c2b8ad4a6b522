/** The chat page: what happens when. */

/** @import { Message, Model, Report, Topic } from "./api.js" */
/** @import { Answer, Turn } from "./state.js" */
/** @import { ServerState } from "./welcome.js" */

import { ApiError, canBeKey, forgetKey, hasKey, listModels, listReports, listTopics, setKey } from "./api.js";
import { composer } from "./composer.js";
import { ConversationView } from "./conversation.js";
import { byId, h } from "./dom.js";
import { generate } from "./generate.js";
import { language, setLanguage, t, translatePage } from "./i18n.js";
import { shieldInputMethods } from "./ime.js";
import { continuesText, label, partner, preferred, reportOf, runOf, sameWeights } from "./models.js";
import { settingsPanel } from "./settings.js";
import { isOver, load, newTurn, promptText, requestFor, save } from "./state.js";
import { local } from "./storage.js";
import { suggestions } from "./suggest.js";
import { applyTheme, toggleTheme } from "./theme.js";
import { drawChips, drawWelcome } from "./welcome.js";

const LOOK_AGAIN_MS = 3000;
const KEEP_MS = 500;
const TOAST_MS = 8000;

shieldInputMethods();

const state = load();
const { settings } = state;

/** @type {Model[]} */
let models = [];
/** @type {Topic[]} */
let topics = [];
/** @type {Report[]} */
let reports = [];
/** @type {ServerState} */
let server = "loading";
/** Stops the answers that are being written; null when none is. */
/** @type {AbortController | null} */
let running = null;

const pickers = [byId("model-a", HTMLSelectElement), byId("model-b", HTMLSelectElement)];
const compare = byId("compare", HTMLButtonElement);
const clear = byId("clear", HTMLButtonElement);
const report = byId("report", HTMLAnchorElement);
const announcer = byId("announcer", HTMLElement);

const conversation = new ConversationView({
  again,
  edit,
  enterKey: async (turn) => {
    if (await askForKey(hasKey())) again(turn);
  },
  otherModel: async () => {
    await refreshModels();
    pickers[0].focus();
    pickers[0].showPicker?.();
  },
  toolResults: (results) => ask(results),
});
const field = composer({
  send: say,
  stop,
  editLast: () => {
    const last = state.turns.findLast(({ prompt }) => prompt[0].role === "user");
    if (last && !running) conversation.edit(last);
  },
});
const panel = settingsPanel(settings, keepSoon);

// Asking and answering.

/** @param {string} text of the reader @returns {boolean} false when nothing can be asked now */
function say(text) {
  return ask([{ role: "user", content: text }]);
}

/**
 * @param {Message[]} prompt
 * @returns {boolean} false when nothing can be asked now
 */
function ask(prompt) {
  const asked = chosen();
  if (running || !asked.length) return false;
  const turn = newTurn(prompt, asked, settings);
  state.turns.push(turn);
  conversation.follow();
  answer(turn);
  return true;
}

/** @param {Turn} turn asked anew, with the models and settings of now; what came after it is dropped */
function again(turn) {
  edit(turn, null);
}

/**
 * @param {Turn} turn
 * @param {string | null} text the message instead of its own
 */
function edit(turn, text) {
  if (running) return;
  state.turns.length = state.turns.indexOf(turn);
  ask(text === null ? turn.prompt : [{ role: "user", content: text }]);
}

/** @param {Turn} turn the last one */
async function answer(turn) {
  running = new AbortController();
  const { signal } = running;
  keepSoon();
  show();
  announcer.textContent = t("waiting");
  await Promise.all(
    turn.answers.map((each, column) =>
      generate(each, requestFor(state.turns, column, settings), signal, () => {
        conversation.changed(each);
        keepSoon();
      }),
    ),
  );
  running = null;
  show();
  keep();
  announcer.textContent = turn.answers.map(spoken).join(" ");
  await recover(turn.answers);
}

/** @param {Answer} answer @returns {string} how it ended, for those who do not see it */
function spoken({ state: how, model, error, content }) {
  if (error) return t(error.kind, { model, n: 0 });
  return how === "stopped" ? t("stopped") : `${t("finished", { model })} ${content}`;
}

/** @param {Answer[]} answers after whose errors something is to be done */
async function recover(answers) {
  const kinds = new Set(answers.map(({ error }) => error?.kind));
  const turn = state.turns.at(-1);
  if (kinds.has("unauthorized") && turn && (await askForKey(hasKey()))) again(turn);
  else if (kinds.has("missing") || kinds.has("network")) await refreshModels();
}

function stop() {
  running?.abort();
}

// What the page shows.

function show() {
  document.body.toggleAttribute("data-running", running !== null);
  document.body.toggleAttribute("data-compare", settings.compare);
  field.setRunning(running !== null);
  const asked = chosen();
  const suggested = suggestions(asked, topics);
  const before = new Set(state.turns.map(promptText));
  drawChips(running || !state.turns.length || server !== "ready" ? [] : suggested, before, say);
  conversation.show(state.turns);
  field.setKind(asked.length > 0 && asked.every(continuesText));
  panel.show(asked);
  clear.disabled = running !== null || !state.turns.length;
  const shown = reportOf(reports, asked);
  report.hidden = !shown;
  if (shown) report.href = `reports/${encodeURIComponent(shown.name)}/${language()}`;
  compare.setAttribute("aria-pressed", String(settings.compare));
  byId("second-picker", HTMLElement).hidden = !settings.compare;
  document.body.toggleAttribute("data-choice", models.length > 0);
  byId("welcome", HTMLElement).hidden = state.turns.length > 0;
  if (!state.turns.length) drawWelcome(server, asked, suggested, { ask: say, enterKey });
}

/** @returns {Model[]} the models that a question goes to */
function chosen() {
  const ids = settings.compare ? settings.models : settings.models.slice(0, 1);
  // While the server does not answer, what is known of the last visit has to do.
  return ids.flatMap((id) => known(id) ?? (models.length || !id ? [] : { id }));
}

function translate() {
  translatePage();
  byId("language", HTMLButtonElement).lang = language() === "zh" ? "en" : "zh-CN";
  fillPickers();
  conversation.redraw(state.turns);
  show();
}

// The models.

let looksAgain = 0;

/** Asks which models there are; a server that does not answer is asked again until it does. */
async function refreshModels() {
  clearTimeout(looksAgain);
  try {
    models = await listModels();
    if (models.some(({ minimind }) => minimind?.stock)) topics = await listTopics();
    reports = await listReports();
    server = models.length ? "ready" : "empty";
    fillPickers();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    server = error.kind === "unauthorized" ? "locked" : error.kind === "network" ? "offline" : "loading";
  }
  if (server !== "ready" && server !== "locked") looksAgain = setTimeout(refreshModels, LOOK_AGAIN_MS);
  show();
  if (server === "ready") field.sendNow();
}

function fillPickers() {
  choose();
  pickers.forEach((picker, index) => {
    picker.replaceChildren(...[...Map.groupBy(models, runOf)].map(drawRun));
    picker.value = settings.models[index];
  });
}

/** @param {string} id */
const known = (id) => models.find((model) => model.id === id);

/** Chooses what the reader did not: the newest model that can answer, and beside it what it came from. */
function choose() {
  if (!models.length) return;
  const { picked } = settings;
  if (!known(settings.models[0])) picked[0] = false;
  if (!picked[0] && (!state.turns.length || !known(settings.models[0]))) settings.models[0] = preferred(models)?.id ?? "";
  chooseSecond();
}

function chooseSecond() {
  const [first, second] = settings.models.map(known);
  if (!second) settings.picked[1] = false;
  if (!first || settings.picked[1]) return;
  if (!second || !state.turns.length || sameWeights(first, second)) settings.models[1] = partner(models, first).id;
}

/** @param {[string, Model[]]} run */
function drawRun([run, checkpoints]) {
  const options = checkpoints.map((model) => h("option", { value: model.id }, label(model, models)));
  return options.length > 1 ? h("optgroup", { label: run }, ...options) : options[0];
}

// The key.

function enterKey() {
  askForKey(false);
}

/**
 * Asks for the API key.
 *
 * @param {boolean} wrong whether one was entered that the server does not know
 * @returns {Promise<boolean>} false when the reader closed the question
 */
async function askForKey(wrong) {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const input = byId("key", HTMLInputElement);
  byId("key-why", HTMLElement).textContent = t(wrong ? "keyWrong" : "keyWhy");
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const key = dialog.returnValue === "used" ? input.value.trim() : "";
  input.value = "";
  if (!key) return false;
  if (!canBeKey(key)) return askForKey(true);
  setKey(key);
  await refreshModels();
  if (server !== "locked") return true;
  forgetKey();
  return askForKey(true);
}

// Keeping.

let keeper = 0;
let warned = false;

/** Keeps everything within half a second, however often it is called. */
function keepSoon() {
  keeper ||= setTimeout(keep, KEEP_MS);
}

/** On leaving: a tab in which nothing is new would put an old conversation over that of another tab. */
function keepNew() {
  if (keeper) keep();
}

function keep() {
  clearTimeout(keeper);
  keeper = 0;
  if (save(state)) return;
  if (!warned) toast(t(local.blocked ? "keepsNothing" : "notKept"));
  warned = true;
}

/**
 * @param {string} text
 * @param {string} [label] of a button
 * @param {() => void} [action]
 */
function toast(text, label, action) {
  const box = byId("toast", HTMLElement);
  const button = h("button", { type: "button", class: "quiet", onclick: () => (action?.(), (box.hidden = true)) }, label);
  box.replaceChildren(h("span", {}, text), label ? button : "");
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (box.hidden = true), TOAST_MS);
}
let toastTimer = 0;

// The controls.

pickers.forEach((picker, index) =>
  picker.addEventListener("change", () => {
    settings.models[index] = picker.value;
    settings.picked[index] = true;
    const [first, second] = settings.models.map(known);
    if (index === 0 && first && second && sameWeights(first, second)) settings.picked[1] = false;
    if (index === 0 && first && !settings.picked[1]) settings.models[1] = partner(models, first).id;
    fillPickers();
    show();
    keepSoon();
  }),
);
compare.addEventListener("click", () => {
  settings.compare = !settings.compare;
  show();
  keepSoon();
});
clear.addEventListener("click", () => {
  const before = state.turns;
  const use = (/** @type {Turn[]} */ turns) => {
    state.turns = turns;
    conversation.redraw(turns);
    show();
    keep();
    field.focus();
  };
  use([]);
  toast(t("cleared"), t("undo"), () => use([...before, ...state.turns]));
});
byId("theme", HTMLButtonElement).addEventListener("click", toggleTheme);
byId("language", HTMLButtonElement).addEventListener("click", () => {
  setLanguage(language() === "zh" ? "en" : "zh");
  translate();
});
byId("key-cancel", HTMLButtonElement).addEventListener("click", () => byId("key-dialog", HTMLDialogElement).close());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) stop();
});
// A checkpoint that appeared meanwhile is in the list when the reader comes back.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) keepNew();
  else if (state.turns.every(({ answers }) => answers.every(isOver))) refreshModels();
});
addEventListener("pagehide", keepNew);

applyTheme();
translate();
await refreshModels();
field.focus();
