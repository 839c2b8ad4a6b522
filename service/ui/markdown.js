/**
 * A small, safe subset of Markdown: paragraphs, headings, lists, tables, quotes, fenced code, inline code and bold.
 *
 * Links, images and HTML stay the text they are: what a model writes never becomes anything that loads or leads
 * elsewhere. The parser is a fold over lines: a line extends the last block or begins a new one, so that a text that
 * grows at its end changes its last block only. MarkdownView relies on that.
 */

import { h, icon } from "./dom.js";
import { t } from "./i18n.js";

/**
 * @typedef {{depth: number, ordered: boolean, number: number, text: string}} Item
 * @typedef {{type: "paragraph", start: number, text: string}} Paragraph
 * @typedef {{type: "heading", start: number, level: number, text: string}} Heading
 * @typedef {{type: "code", start: number, fence: string, language: string, lines: string[], closed: boolean}} Code
 * @typedef {{type: "list", start: number, items: Item[], gap: boolean}} List
 * @typedef {{type: "quote", start: number, text: string}} Quote
 * @typedef {{type: "table", start: number, head: string[], align: string[], rows: string[][]}} Table
 * @typedef {Paragraph | Heading | Code | List | Quote | Table} Block `start` is its offset in the source
 */

const FENCE = /^ *(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^(#{1,6})\s+(\S.*)$/;
const ITEM = /^(\s*)(?:([-*+•])|(\d{1,9})[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
/** The line below a table's head: it says how each column is set. */
const RULE = /^ *\|?(?: *:?-+:? *\|)+(?: *:?-+:? *)?$/;
const DEEPEST = 3;

/**
 * The blocks of a text, in order.
 *
 * @param {string} source
 * @returns {Block[]}
 */
export function parseBlocks(source) {
  /** @type {Block[]} */
  const blocks = [];
  /** Whether the line before was blank: then a line of text begins a new paragraph. */
  let blank = true;
  let start = 0;
  for (const line of source.split("\n")) {
    blank = addLine(blocks, line, start, blank);
    start += line.length + 1;
  }
  return blocks;
}

/**
 * Adds one line, and says whether it was blank.
 *
 * @param {Block[]} blocks
 * @param {string} line
 * @param {number} start
 * @param {boolean} blank
 * @returns {boolean}
 */
function addLine(blocks, line, start, blank) {
  const last = blocks.at(-1);
  if (last?.type === "code" && !last.closed) {
    const end = line.trim();
    if (end.startsWith(last.fence) && !end.slice(last.fence.length).trim()) last.closed = true;
    else last.lines.push(line);
    return false;
  }
  if (!line.trim()) {
    if (last?.type === "list") last.gap = true;
    return true;
  }

  const fence = FENCE.exec(line);
  if (fence) {
    blocks.push({ type: "code", start, fence: fence[1], language: fence[2].trim().split(/\s/, 1)[0], lines: [], closed: false });
    return false;
  }
  const heading = HEADING.exec(line);
  if (heading) {
    blocks.push({ type: "heading", start, level: heading[1].length, text: heading[2] });
    return false;
  }
  const item = ITEM.exec(line);
  if (item) {
    const indent = item[1].replaceAll("\t", "    ").length;
    const entry = { depth: Math.min(DEEPEST, indent >> 1), ordered: !item[2], number: Number(item[3] ?? 1), text: item[4] };
    if (last?.type === "list" && (entry.depth > 0 || entry.ordered === last.items[0].ordered)) {
      last.items.push(entry);
      last.gap = false;
    } else {
      blocks.push({ type: "list", start, items: [entry], gap: false });
    }
    return false;
  }
  const quote = QUOTE.exec(line);
  if (quote) {
    if (last?.type === "quote" && !blank) last.text += `\n${quote[1]}`;
    else blocks.push({ type: "quote", start, text: quote[1] });
    return false;
  }
  if (last?.type === "table" && !blank && line.includes("|")) {
    last.rows.push(cells(line));
    return false;
  }
  if (last?.type === "paragraph" && !blank && RULE.test(line) && beginTable(blocks, last, cells(line))) return false;
  if (last?.type === "list" && (!last.gap || /^\s{2,}/.test(line))) {
    const entry = last.items[last.items.length - 1];
    entry.text += `\n${line.trim()}`;
    last.gap = false;
    return false;
  }
  if (last?.type === "paragraph" && !blank) last.text += `\n${line}`;
  else blocks.push({ type: "paragraph", start, text: line });
  return false;
}

/**
 * Makes the last line of a paragraph the head of a table, if it has as many cells as the rule below it.
 *
 * @param {Block[]} blocks
 * @param {Paragraph} last
 * @param {string[]} rule
 * @returns {boolean}
 */
function beginTable(blocks, last, rule) {
  const begin = last.text.lastIndexOf("\n") + 1;
  const head = cells(last.text.slice(begin));
  if (head.length !== rule.length) return false;
  const align = rule.map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "left"));
  if (begin === 0) blocks.pop();
  else last.text = last.text.slice(0, begin - 1);
  blocks.push({ type: "table", start: last.start + begin, head, align, rows: [] });
  return true;
}

/**
 * The cells of a table's line. A bar behind a backslash is text.
 *
 * @param {string} line
 */
function cells(line) {
  const bare = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return bare.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/**
 * Inline code and bold, in one pass over the text whatever it holds.
 *
 * @param {string} text
 * @param {boolean} [bold] whether `**` may still open
 * @returns {(Node | string)[]}
 */
export function inline(text, bold = true) {
  /** @type {(Node | string)[]} */
  const nodes = [];
  /** Run lengths of backticks that are known not to close any more. */
  const unclosed = new Set();
  let from = 0;
  let at = 0;
  /** @param {number} begin @param {number} end @param {Node} node */
  const put = (begin, end, node) => {
    if (begin > from) nodes.push(text.slice(from, begin));
    nodes.push(node);
    from = at = end;
  };
  while (at < text.length) {
    if (text[at] === "`") {
      const run = /`+/y;
      run.lastIndex = at;
      const ticks = /** @type {RegExpExecArray} */ (run.exec(text))[0];
      const inner = at + ticks.length;
      const end = unclosed.has(ticks.length) ? -1 : closing(text, inner, ticks.length);
      if (end < 0) {
        unclosed.add(ticks.length);
        at = inner;
      } else {
        put(at, end + ticks.length, h("code", {}, text.slice(inner, end).replace(/^ (.*[^ ].*) $/s, "$1")));
      }
    } else if (bold && text.startsWith("**", at)) {
      const end = text.indexOf("**", at + 3);
      if (end < 0) {
        bold = false;
        at += 2;
      } else if (/\s/.test(text[at + 2]) || /\s/.test(text[end - 1])) {
        at += 2;
      } else {
        put(at, end + 2, h("strong", {}, ...inline(text.slice(at + 2, end), false)));
      }
    } else {
      at += 1;
    }
  }
  if (from < text.length) nodes.push(text.slice(from));
  return nodes;
}

/**
 * Where a run of exactly `length` backticks begins, or -1.
 *
 * @param {string} text
 * @param {number} from
 * @param {number} length
 */
function closing(text, from, length) {
  const runs = /`+/g;
  runs.lastIndex = from;
  for (let run = runs.exec(text); run; run = runs.exec(text)) if (run[0].length === length) return run.index;
  return -1;
}

/**
 * @param {Block} block
 * @returns {HTMLElement}
 */
function draw(block) {
  switch (block.type) {
    case "paragraph":
      return h("p", {}, ...inline(block.text));
    case "heading":
      return h(block.level < 3 ? "h3" : "h4", {}, ...inline(block.text));
    case "list":
      return drawList(block.items, 0, block.items.length);
    case "quote":
      return h("blockquote", {}, h("p", {}, ...inline(block.text)));
    case "table":
      return drawTable(block);
    case "code":
      return h(
        "figure",
        { class: "code" },
        h(
          "figcaption",
          {},
          h("span", {}, block.language),
          h("button", { type: "button", class: "act", "data-copy": "code", "aria-label": t("copyCode"), title: t("copyCode") }, icon("copy")),
        ),
        h("pre", { tabindex: "0" }, h("code", {}, block.lines.join("\n"))),
      );
  }
}

/**
 * Scrolls by itself where it is too wide. A row is as long as it was written, but never longer than the head.
 *
 * @param {Table} table
 */
function drawTable({ head, align, rows }) {
  /** @param {"th" | "td"} tag @param {string[]} texts */
  const row = (tag, texts) =>
    h("tr", {}, ...texts.slice(0, head.length).map((text, column) => h(tag, { class: align[column] }, ...inline(text))));
  const table = h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, ...rows.map((texts) => row("td", texts))));
  return h("div", { class: "table", tabindex: "0" }, table);
}

/**
 * The items from `begin` to `end` as a list; deeper ones become lists inside the item above them.
 *
 * @param {Item[]} items
 * @param {number} begin
 * @param {number} end
 * @returns {HTMLElement}
 */
function drawList(items, begin, end) {
  const { ordered, number, depth } = items[begin];
  const list = ordered ? h("ol", number === 1 ? {} : { start: String(number) }) : h("ul");
  for (let at = begin; at < end; ) {
    let next = at + 1;
    while (next < end && items[next].depth > depth) next += 1;
    list.append(h("li", {}, ...inline(items[at].text), next > at + 1 && drawList(items, at + 1, next)));
    at = next;
  }
  return list;
}

/** Shows a text that grows: only its last block is ever drawn again. */
export class MarkdownView {
  constructor() {
    this.element = h("div", { class: "prose" });
    this.source = "";
    /** Offset up to which the drawn blocks are final, and how many children they are. */
    this.settled = 0;
    this.children = 0;
  }

  /** @param {string} source the whole text: the one before with something after it, or another one */
  update(source) {
    if (source === this.source) return;
    if (!source.startsWith(this.source)) this.settled = this.children = 0;
    this.source = source;

    const tail = parseBlocks(source.slice(this.settled));
    while (this.element.children.length > this.children) this.element.lastElementChild?.remove();
    this.element.append(...tail.map(draw));

    // A line without its end may still turn into another kind of block, so it settles nothing.
    const whole = parseBlocks(source.slice(this.settled, source.lastIndexOf("\n") + 1));
    if (whole.length > 1) {
      this.settled += whole[whole.length - 1].start;
      this.children += whole.length - 1;
    }
  }
}
