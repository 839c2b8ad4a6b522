/** Which model is what: the one to begin with, the one to compare it with, and which are the same. */

/** @import { Model, Report } from "./api.js" */

import { t } from "./i18n.js";

/** Whether a model has not learnt to answer, but continues text. @param {Model} model */
export const continuesText = (model) => model.minimind?.chat === false;

/** The run that a model's id names. @param {Model} model */
export const runOf = (model) => model.id.split("@")[0];

/**
 * @param {Model} one
 * @param {Model} other
 */
export function sameWeights(one, other) {
  const [a, b] = [one.minimind?.weights, other.minimind?.weights];
  return one.id === other.id || (one.root !== undefined && one.root === other.root) || (Boolean(a) && a === b);
}

/** @param {Model[]} models the newest first @returns {Model | undefined} the newest that can answer, else the newest */
export const preferred = (models) => models.find((model) => !continuesText(model)) ?? models[0];

/**
 * What a model is compared with, until the reader chooses: what it started from, else an earlier checkpoint of its run,
 * else another model. Itself only where nothing else is there.
 *
 * @param {Model[]} models
 * @param {Model} first
 * @returns {Model}
 */
export function partner(models, first) {
  const others = models.filter((model) => !sameWeights(model, first));
  const step = (/** @type {Model} */ model) => model.minimind?.step ?? 0;
  const earlier = others
    .filter((model) => runOf(model) === runOf(first) && step(model) < step(first))
    .sort((one, other) => step(other) - step(one));
  return others.find(({ root }) => root && root === first.minimind?.parent) ?? earlier[0] ?? others[0] ?? first;
}

/**
 * A model's id, and what a reader should know before choosing it: that it is another one's double, or cannot answer.
 *
 * @param {Model} model
 * @param {Model[]} models
 */
export function label(model, models) {
  const double = models.slice(0, models.indexOf(model)).find((before) => sameWeights(before, model));
  return `${model.id}${double ? ` (= ${double.id})` : ""}${continuesText(model) ? ` · ${t("continues")}` : ""}`;
}

/**
 * The newest report of these models: of both where two are compared, else of what the first has become.
 *
 * @param {Report[]} reports the newest first
 * @param {Model[]} asked
 */
export function reportOf(reports, [first, second]) {
  const pair = [first?.root, second?.root];
  if (second) return reports.find(({ a, b }) => a !== b && pair.includes(a) && pair.includes(b));
  return reports.find(({ b }) => b === first?.root);
}
