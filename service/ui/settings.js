/** The settings panel: a drawer beside the conversation, over it on a narrow screen. */

/** @import { Model } from "./api.js" */
/** @import { Settings } from "./state.js" */

import { byId, h } from "./dom.js";
import { number, t } from "./i18n.js";
import { continuesText } from "./models.js";
import { defaults } from "./state.js";

/** What the slider stands at while nobody knows what a model's own temperature is. */
const TEMPERATURE = 1;

const narrow = matchMedia("(max-width: 900px)");

/**
 * @param {Settings} settings changed in place
 * @param {() => void} changed
 */
export function settingsPanel(settings, changed) {
  const panel = byId("settings", HTMLDialogElement);
  const opener = byId("open-settings", HTMLButtonElement);
  const form = /** @type {HTMLFormElement} */ (panel.querySelector("form"));
  const system = byId("system", HTMLTextAreaElement);
  const temperature = byId("temperature", HTMLInputElement);
  const shownTemperature = byId("temperature-value", HTMLOutputElement);
  const maxTokens = byId("max-tokens", HTMLInputElement);
  const seed = byId("seed", HTMLInputElement);
  const tools = byId("tools", HTMLTextAreaElement);

  /** The models' own temperatures, without repetitions. @type {number[]} */
  let own = [];

  const labels = () => {
    const written = (/** @type {number} */ value) => number(value, { minimumFractionDigits: 1 });
    const { temperature: chosen } = settings;
    shownTemperature.value = chosen === null ? t("ownTemperature", { n: own.map(written).join(" / ") }) : written(chosen);
    temperature.value = String(chosen ?? own[0] ?? TEMPERATURE);
  };
  const fill = () => {
    system.value = settings.system;
    maxTokens.value = String(settings.maxTokens ?? "");
    seed.value = String(settings.seed ?? "");
    tools.value = settings.tools;
    /** @type {RadioNodeList} */ (form.elements.namedItem("thinking")).value = settings.thinking;
    for (const field of [maxTokens, seed, tools]) complain(field, "");
    labels();
  };

  form.addEventListener("input", ({ target }) => {
    settings.system = system.value;
    if (target === temperature) settings.temperature = temperature.valueAsNumber;
    settings.maxTokens = wholeNumber(maxTokens, settings.maxTokens);
    settings.seed = wholeNumber(seed, settings.seed);
    settings.tools = toolList(tools, settings.tools);
    const thinking = /** @type {RadioNodeList} */ (form.elements.namedItem("thinking")).value;
    settings.thinking = thinking === "on" || thinking === "off" ? thinking : "auto";
    labels();
    changed();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("reset", HTMLButtonElement).addEventListener("click", () => {
    const { models, picked, compare, ...rest } = defaults();
    Object.assign(settings, rest);
    fill();
    changed();
  });

  const close = () => panel.close();
  opener.addEventListener("click", () => {
    if (panel.open) {
      close();
      return;
    }
    if (narrow.matches) panel.showModal();
    else panel.show();
    opener.setAttribute("aria-expanded", "true");
  });
  byId("close-settings", HTMLButtonElement).addEventListener("click", close);
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
  });
  panel.addEventListener("close", () => {
    opener.setAttribute("aria-expanded", "false");
    opener.focus();
  });
  // A drawer that was beside the conversation would hide it unasked.
  narrow.addEventListener("change", () => panel.open && close());

  fill();
  return {
    labels,
    /** @param {Model[]} models those that a question goes to */
    show(models) {
      own = [...new Set(models.flatMap(({ minimind }) => minimind?.sampling?.temperature ?? []))];
      const text = models.length > 0 && models.every(continuesText);
      for (const part of form.querySelectorAll("[data-for=chat]")) part.toggleAttribute("hidden", text);
      byId("settings-note", HTMLElement).hidden = !text;
      labels();
    },
  };
}

/**
 * Says under the field what is wrong with it; "" takes that back.
 *
 * @param {HTMLInputElement | HTMLTextAreaElement} field
 * @param {string} message
 */
function complain(field, message) {
  field.setCustomValidity(message);
  field.parentElement?.querySelector(".wrong")?.remove();
  if (message) field.after(h("small", { class: "wrong", role: "alert" }, message));
}

/**
 * What the field holds: a whole number or nothing. Anything else keeps the value before, and is said at the field.
 *
 * @param {HTMLInputElement} field
 * @param {number | null} before
 */
function wholeNumber(field, before) {
  complain(field, "");
  const value = field.valueAsNumber;
  if (field.value === "" && !field.validity.badInput) return null;
  if (Number.isInteger(value) && field.validity.valid) return value;
  const max = field.max || String(2 ** 31 - 1);
  complain(field, t("numberWrong", { min: number(Number(field.min)), max: number(Number(max)) }));
  return before;
}

/**
 * @param {HTMLTextAreaElement} field
 * @param {string} before
 */
function toolList(field, before) {
  complain(field, "");
  if (!field.value.trim()) return "";
  let why = "";
  try {
    if (Array.isArray(JSON.parse(field.value))) return field.value;
  } catch (error) {
    why = error instanceof Error ? error.message : "";
  }
  complain(field, t("toolsWrong", { why }));
  return before;
}
