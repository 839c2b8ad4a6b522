/** Builds DOM nodes. Text goes in as text nodes only: nothing in this page ever parses HTML. */

/**
 * @typedef {Node | string | null | undefined | false} Child
 */

/**
 * An element with attributes and children.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | boolean | ((event: any) => void)>} [attributes] `onclick` and its like take a
 *     function; `true` and `false` set and leave out an attribute.
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * A drawing of the sprite in index.html.
 *
 * @param {string} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/**
 * A button that shows an icon and says its name to a screen reader and in a tooltip.
 *
 * @param {string} name of the icon
 * @param {string} label
 * @param {(event: Event) => void} onclick
 * @param {string} [classes]
 */
export function iconButton(name, label, onclick, classes = "") {
  return h("button", { type: "button", class: `act ${classes}`, "aria-label": label, title: label, onclick }, icon(name));
}

/**
 * The element of index.html with this id.
 *
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind the class it must have
 * @returns {Kind}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`index.html has no ${kind.name} #${id}`);
  return element;
}
