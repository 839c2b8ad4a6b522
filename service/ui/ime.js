/** Input methods (Chinese, Japanese, Korean): while one composes, every key is its own. */

/**
 * Whether a key press belongs to an input method. Safari reports the Enter that takes a candidate after the composition
 * has ended, with the code 229.
 *
 * @param {KeyboardEvent} event
 */
const composes = (event) => event.isComposing || event.keyCode === 229;

/**
 * Keeps those key presses from the whole page: Enter would send half a word, Escape would close what is typed into. A
 * dialog closes on Escape by itself, so that is prevented too.
 */
export function shieldInputMethods() {
  const shield = (/** @type {KeyboardEvent} */ event) => {
    if (!composes(event)) return;
    event.stopImmediatePropagation();
    if (event.key === "Escape") event.preventDefault();
  };
  addEventListener("keydown", shield, { capture: true });
}
