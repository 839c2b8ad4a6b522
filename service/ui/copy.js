/** Copying, and saying so. */

import { iconButton, icon } from "./dom.js";
import { t } from "./i18n.js";

const SHOWN_MS = 1600;

/**
 * Copies, and shows on the button that it did.
 *
 * @param {HTMLElement} button
 * @param {string} text
 */
export async function copy(button, text) {
  const copied = await write(text);
  button.replaceChildren(icon(copied ? "check" : "cross"));
  button.title = t(copied ? "copied" : "copyFailed");
  setTimeout(() => {
    button.replaceChildren(icon("copy"));
    button.title = button.getAttribute("aria-label") ?? "";
  }, SHOWN_MS);
}

/**
 * @param {string} text
 * @returns {Promise<boolean>}
 */
async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeFromSelection(text);
  }
}

/**
 * The old way: browsers have no clipboard object on plain http, and a home cluster is served so.
 *
 * @param {string} text
 */
function writeFromSelection(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  const before = document.activeElement;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (before instanceof HTMLElement) before.focus();
  return copied;
}

/** @param {() => string} text asked for when it is pressed */
export function copyButton(text) {
  return iconButton("copy", t("copy"), (event) => copy(/** @type {HTMLElement} */ (event.currentTarget), text()));
}
