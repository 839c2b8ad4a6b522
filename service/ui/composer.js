/** The message field. */

import { byId } from "./dom.js";
import { t } from "./i18n.js";

/** Whether a key press sends. Those of an input method do not come here, see ime.js. @param {KeyboardEvent} event */
export const isSendKey = (event) => event.key === "Enter" && !event.shiftKey;

/**
 * Wires the field and its two buttons.
 *
 * @param {object} on
 * @param {(text: string) => boolean} on.send false when it cannot be sent now: then the text stays, see sendNow
 * @param {() => void} on.stop
 * @param {() => void} on.editLast
 */
export function composer(on) {
  const form = byId("composer", HTMLFormElement);
  const field = byId("prompt", HTMLTextAreaElement);
  const send = byId("send", HTMLButtonElement);
  const stop = byId("stop", HTMLButtonElement);

  let early = false; // the text as it stands was sent before there was a model to ask

  const typed = () => {
    early = false;
    send.disabled = !field.value.trim();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (!text) return;
    if (!on.send(text)) {
      early = stop.hidden; // not while an answer is being written: then it waits for the reader
      return;
    }
    field.value = "";
    typed();
  });
  field.addEventListener("input", typed);
  field.addEventListener("keydown", (event) => {
    if (isSendKey(event)) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "ArrowUp" && !field.value) {
      event.preventDefault();
      on.editLast();
    }
  });
  stop.addEventListener("click", on.stop);
  typed();

  return {
    focus: () => field.focus(),
    /** Sends what the reader sent too early and has not touched since. */
    sendNow() {
      if (early) form.requestSubmit();
    },
    /** @param {boolean} text a text is to be begun, not a message written */
    setKind(text) {
      field.dataset.placeholder = text ? "beginHint" : "promptHint";
      field.placeholder = t(field.dataset.placeholder);
    },
    /** @param {boolean} running an answer is being written: the button stops it */
    setRunning(running) {
      const focused = document.activeElement === send || document.activeElement === stop;
      send.hidden = running;
      stop.hidden = !running;
      if (focused) (running ? stop : field).focus();
    },
  };
}
