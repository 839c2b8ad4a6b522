/** Dark or light: the system's until the reader chooses. */

import { local } from "./storage.js";

const KEY = "minimind.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** @returns {"light" | "dark"} what is shown now */
export function theme() {
  const kept = local.get(KEY);
  return kept === "light" || kept === "dark" ? kept : dark.matches ? "dark" : "light";
}

/** Shows the kept choice; with none, the style sheet follows the system by itself. */
export function applyTheme() {
  const kept = local.get(KEY);
  if (kept) document.documentElement.dataset.theme = kept;
  else delete document.documentElement.dataset.theme;
}

/** The other one. A choice that is the system's own is forgotten, so that the page follows the system again. */
export function toggleTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  if ((next === "dark") === dark.matches) local.remove(KEY);
  else local.set(KEY, next);
  applyTheme();
}
