/** What to ask, to click on: questions that a model was taught, beginnings for one that continues text. */

/** @import { Model, Topic } from "./api.js" */

import { continuesText } from "./models.js";
import { language } from "./i18n.js";

/** @typedef {{title: string, text: string, rank: number}} Suggestion `rank`: 0 for the first of its topic */

/** Beginnings that any text could have. @type {Record<import("./i18n.js").Language, string[]>} */
const BEGINNINGS = {
  en: ["The capital of France is", "Once upon a time", "Water is made of", "The best thing about spring is"],
  zh: ["中国的首都是", "从前有一座山，", "水的化学式是", "春天来了，"],
};

/**
 * Suggestions for these models; none where nobody knows what they learnt.
 *
 * @param {Model[]} chosen
 * @param {Topic[]} topics of the stock data
 * @returns {Suggestion[]}
 */
export function suggestions(chosen, topics) {
  if (chosen.length && chosen.every(continuesText)) {
    return BEGINNINGS[language()].map((text) => ({ title: "", text, rank: 0 }));
  }
  return chosen.some(({ minimind }) => minimind?.stock) ? questions(topics) : [];
}

/**
 * Questions of the topics in the reader's language, or of all if there is none: the shortest of each topic, then the
 * next of each, and so on.
 *
 * @param {Topic[]} topics
 * @returns {Suggestion[]}
 */
function questions(topics) {
  const own = topics.filter((topic) => topic.language === language());
  const ranked = (own.length ? own : topics).flatMap((topic) =>
    [...new Set(topic.examples.filter(invites).map(tidy))]
      .sort((one, other) => one.length - other.length)
      .map((text, rank) => ({ title: language() === "zh" ? topic.title_zh : topic.title_en, text, rank })),
  );
  return ranked.sort((one, other) => one.rank - other.rank);
}

/** The longest text that is a greeting, and no question: "hello", "你好呀". */
const GREETING = 8;

/** @param {string} text */
const invites = (text) => text.length > GREETING || /[?？]$/.test(text);

/**
 * An example as a person would write it who wants to know. The data's examples also test a model: with thanks and
 * instructions after the question, a blank before its mark, or no mark at all.
 *
 * @param {string} text
 */
function tidy(text) {
  const [question] = text.trim().match(/^[^?？]+[?？]/) ?? [text.trim()];
  if (/[?？]$/.test(question)) return question.replace(/\s+(?=[?？]$)/, "");
  if (/^(what|which|who|where|when|how|is|are)\b/i.test(question)) return `${question}?`;
  return /[几吗呢哪谁]|什么|多少|是不是/.test(question) && !/[。！]$/.test(question) ? `${question}？` : question;
}
