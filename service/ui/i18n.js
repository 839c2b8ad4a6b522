/** The page's words in English and Chinese. The browser's language decides until the reader does. */

/** @typedef {"en" | "zh"} Language */
/** @typedef {Record<string, string | number>} Values */

import { local } from "./storage.js";

const KEY = "minimind.language";

/** @type {Record<Language, Record<string, string>>} */
const TEXTS = {
  en: {
    skip: "Skip to the message field",
    tools: "Tools",
    model: "Model",
    secondModel: "Second model",
    compare: "Compare two models",
    report: "What changed: the report",
    clear: "New conversation",
    theme: "Light or dark",
    switchLanguage: "切换到中文",
    otherLanguage: "中",
    settings: "Settings",
    close: "Close",
    conversation: "Conversation",
    jump: "To the latest",

    system: "System prompt",
    systemHint: "Who the model should be, and how it should answer. Empty: nothing is said.",
    temperature: "Temperature",
    ownTemperature: "{n} (the model's own)",
    textSettings: "This model continues text, so it has no system prompt, no thinking and no tools.",
    temperatureHint: "0 always takes the likeliest token. Higher is livelier, and wrong more often.",
    maxTokens: "Longest answer",
    automatic: "automatic",
    seed: "Seed",
    random: "random",
    lengthHint: "In tokens. The same seed with the same settings gives the same answer.",
    thinkingSwitch: "Thinking before answering",
    thinkingAuto: "As it likes",
    thinkingOn: "Always",
    thinkingOff: "Never",
    toolsField: "Tools the model may call",
    toolsHint: "A JSON list in OpenAI's form. Nothing is run: you see the call and type in what it gives.",
    toolsWrong: "This is not a JSON list. {why}",
    numberWrong: "A whole number from {min} to {max}, or nothing.",
    reset: "Back to the defaults",

    prompt: "Your message",
    promptHint: "Write a message",
    send: "Send",
    stop: "Stop (Esc)",
    keys: "Enter sends, Shift + Enter starts a new line, ↑ edits the last message.",
    honest: "A small model makes things up. Check what matters.",

    plainGreeting: "What would you like to ask?",
    taughtGreeting: "Ask what it was taught",
    textGreeting: "It continues text",
    textLead: "{model} has only read so far, and cannot answer yet. Begin a sentence, and it goes on.",
    teachLead: "This teaches it to answer:",
    continues: "continues text",
    beginHint: "Begin a text",
    goOn: "Go on",
    tryAlso: "Suggestions",
    taughtLead: "{model} learned about these. Pick a question, or write your own.",
    plainLead: "{model} is ready.",
    moreQuestions: "Show all {n} questions",
    compareLead: "Both models get the same prompt and the same seed.",
    compareSame: "A and B are the same weights, so both will say the same. Choose another one for comparison.",
    compareKinds: "Both get the same prompt and the same seed. {model} only continues text.",
    noModels: "No model yet",
    noModelsLead: "Train one, and it appears here without a restart. This makes a first one:",
    offline: "The server does not answer",
    offlineLead: "Is it still running? This page looks again every few seconds. To start it:",
    loadingTitle: "The server is getting ready",
    loadingLead: "It is loading. This page goes on by itself as soon as it answers.",
    keyNeeded: "This server asks for a key",
    factStep: "step {step}",

    you: "You",
    edit: "Edit and send again",
    copy: "Copy",
    copyCode: "Copy the code",
    copied: "Copied",
    copyFailed: "The browser did not allow copying.",
    again: "Answer again",
    save: "Send",
    cancel: "Cancel",
    editHint: "What comes after this message is dropped.",

    waiting: "Reading the question",
    thinkingNow: "Thinking",
    thought: "Thought for {s} s",
    thoughtCut: "Thinking, not finished",
    toolCall: "Calls {name}",
    toolWaits: "What does it give?",
    toolResult: "{name} gave",
    toolSend: "Hand over",
    tokens: "{n} tokens",
    tokensOne: "{n} token",
    tokensAbout: "about {n} tokens",
    tokensAboutOne: "about {n} token",
    speed: "{n} tokens/s",
    first: "First token after {s} s, {total} s in all, {prompt} tokens read",
    seedIs: "seed {seed}",
    cut: "Cut off at the longest length allowed.",
    stopped: "Stopped.",
    empty: "The model answered with nothing.",
    finished: "{model} has answered.",

    busy: "The server is busy. Next try in {n} s.",
    loading: "The model is being loaded. It answers as soon as it is ready.",
    retryNow: "Try now",
    retry: "Try again",
    network: "The server does not answer. Is it still running?",
    broken: "The answer broke off in the middle. What came is kept.",
    unauthorized: "The server wants a key.",
    enterKey: "Enter the key",
    missing: "There is no model “{model}” on this server any more.",
    otherModel: "Choose another",
    request: "The server did not accept this request.",
    server: "Something went wrong in the server.",
    serverSays: "It says: {message}",

    keyTitle: "API key",
    keyWhy: "This server is open to others, so it asks for the key it was started with. It is kept until you close this tab.",
    keyWrong: "The server does not know this key. Is it the value of MINIMIND_API_KEY?",
    keyUse: "Use it",
    cleared: "A new conversation.",
    undo: "Bring the old one back",
    keepsNothing: "This browser keeps nothing for this page. The conversation is lost when it closes.",
    notKept: "This conversation is too long for the browser to keep. It is lost when the page closes.",
    themeLight: "Light",
    themeDark: "Dark",
  },
  zh: {
    skip: "跳到输入框",
    tools: "工具",
    model: "模型",
    secondModel: "第二个模型",
    compare: "两个模型对比",
    report: "变化报告：哪里变好，哪里变差",
    clear: "新对话",
    theme: "浅色 / 深色",
    switchLanguage: "Switch to English",
    otherLanguage: "EN",
    settings: "设置",
    close: "关闭",
    conversation: "对话",
    jump: "回到最新",

    system: "系统提示词",
    systemHint: "模型是谁、该怎样回答。留空则什么也不说。",
    temperature: "温度",
    ownTemperature: "{n}（模型自带）",
    textSettings: "这个模型只会续写，没有系统提示词、思考和工具。",
    temperatureHint: "0 总是取最可能的词元；越高越活泼，也越容易出错。",
    maxTokens: "回答上限",
    automatic: "自动",
    seed: "随机种子",
    random: "随机",
    lengthHint: "上限按词元计。种子和设置都相同，回答就相同。",
    thinkingSwitch: "先思考再回答",
    thinkingAuto: "随模型",
    thinkingOn: "总是",
    thinkingOff: "从不",
    toolsField: "模型可调用的工具",
    toolsHint: "OpenAI 格式的 JSON 列表。不会真的运行：你看到调用，再填入结果。",
    toolsWrong: "这不是 JSON 列表。{why}",
    numberWrong: "请填 {min} 到 {max} 的整数，或留空。",
    reset: "恢复默认",

    prompt: "你的消息",
    promptHint: "输入消息",
    send: "发送",
    stop: "停止（Esc）",
    keys: "Enter 发送，Shift + Enter 换行，↑ 修改上一条。",
    honest: "小模型会编造，重要的事请核对。",

    plainGreeting: "想问点什么？",
    taughtGreeting: "问问它学过的",
    textGreeting: "它只会续写",
    textLead: "{model} 目前只读过文本，还不会对话。你写个开头，它接着写。",
    teachLead: "用这条命令教会它回答：",
    continues: "续写",
    beginHint: "写个开头",
    goOn: "接着写",
    tryAlso: "建议",
    taughtLead: "{model} 学过下面这些。点一个问题，或自己写。",
    plainLead: "{model} 已就绪。",
    moreQuestions: "显示全部 {n} 个问题",
    compareLead: "两个模型会收到相同的问题和相同的随机种子。",
    compareSame: "A 和 B 是同一份权重，回答会一样。请换一个来比较。",
    compareKinds: "两个模型会收到相同的内容和相同的随机种子。{model} 只会续写。",
    noModels: "还没有模型",
    noModelsLead: "训练一个，它就会出现在这里，不必重启。这条命令做出第一个模型：",
    offline: "服务器没有响应",
    offlineLead: "它还在运行吗？本页每隔几秒会再看一次。启动它：",
    loadingTitle: "服务器正在准备",
    loadingLead: "正在加载，一就绪本页就会自动继续。",
    keyNeeded: "这台服务器需要密钥",
    factStep: "第 {step} 步",

    you: "你",
    edit: "修改并重新发送",
    copy: "复制",
    copyCode: "复制代码",
    copied: "已复制",
    copyFailed: "浏览器不允许复制。",
    again: "重新回答",
    save: "发送",
    cancel: "取消",
    editHint: "这条消息之后的内容会被丢弃。",

    waiting: "正在读题",
    thinkingNow: "思考中",
    thought: "思考了 {s} 秒",
    thoughtCut: "思考未完成",
    toolCall: "调用 {name}",
    toolWaits: "它返回什么？",
    toolResult: "{name} 返回",
    toolSend: "交给模型",
    tokens: "{n} 词元",
    tokensAbout: "约 {n} 词元",
    speed: "{n} 词元/秒",
    first: "{s} 秒后出第一个词元，共 {total} 秒，读入 {prompt} 词元",
    seedIs: "种子 {seed}",
    cut: "到达长度上限，回答被截断。",
    stopped: "已停止。",
    empty: "模型的回答是空的。",
    finished: "{model} 答完了。",

    busy: "服务器正忙，{n} 秒后再试。",
    loading: "模型正在加载，就绪后马上回答。",
    retryNow: "现在就试",
    retry: "再试一次",
    network: "服务器没有响应。它还在运行吗？",
    broken: "回答中途断开了，已收到的部分保留。",
    unauthorized: "服务器需要密钥。",
    enterKey: "输入密钥",
    missing: "这台服务器上已经没有模型“{model}”了。",
    otherModel: "换一个模型",
    request: "服务器没有接受这个请求。",
    server: "服务器内部出错了。",
    serverSays: "它说：{message}",

    keyTitle: "API 密钥",
    keyWhy: "这台服务器对外开放，需要启动时设定的密钥。关闭标签页后密钥即被丢弃。",
    keyWrong: "服务器不认识这个密钥。它是 MINIMIND_API_KEY 的值吗？",
    keyUse: "使用",
    cleared: "已开始新对话。",
    undo: "恢复原来的对话",
    keepsNothing: "浏览器不允许本页保存数据。关闭页面后对话会丢失。",
    notKept: "对话太长，浏览器存不下。关闭页面后会丢失。",
    themeLight: "浅色",
    themeDark: "深色",
  },
};

/** @type {Language} */
let current = chosen();

/** @returns {Language} */
function chosen() {
  const kept = local.get(KEY);
  if (kept === "en" || kept === "zh") return kept;
  return navigator.languages.find((name) => /^(zh|en)\b/i.test(name))?.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** @returns {Language} */
export const language = () => current;

/** @param {Language} name */
export function setLanguage(name) {
  current = name;
  local.set(KEY, name);
}

/**
 * The text of a key, with `{name}` replaced by the values. Where a language has a word for one of a thing, it is the
 * text of the key with "One" after it.
 *
 * @param {string} key
 * @param {Values} [values]
 */
export function t(key, values = {}) {
  const one = values.n === 1 || values.n === "1" ? TEXTS[current][`${key}One`] : undefined;
  const text = one ?? TEXTS[current][key];
  if (text === undefined) throw new Error(`no text '${key}' in '${current}'`);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** Puts the words into what index.html marks with data-text, data-label and data-placeholder. */
export function translatePage() {
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  for (const node of marked("text")) node.textContent = t(node.dataset.text ?? "");
  for (const node of marked("placeholder")) node.setAttribute("placeholder", t(node.dataset.placeholder ?? ""));
  for (const node of marked("label")) {
    const label = t(node.dataset.label ?? "");
    node.setAttribute("aria-label", label);
    if (node instanceof HTMLButtonElement) node.title = label;
  }
}

/** @param {string} name @returns {NodeListOf<HTMLElement>} */
const marked = (name) => document.querySelectorAll(`[data-${name}]`);

/**
 * A number as the reader writes it: 1,234.
 *
 * @param {number} value
 * @param {Intl.NumberFormatOptions} [options]
 */
export const number = (value, options = {}) => new Intl.NumberFormat(current === "zh" ? "zh-CN" : "en", options).format(value);

/** @param {number} ms @returns {string} seconds with one digit, two below a second */
export const seconds = (ms) => number(ms / 1000, { maximumFractionDigits: ms < 1000 ? 2 : 1 });

/**
 * The language a text is set in, for fonts and line breaks; what a model writes need not be the page's.
 *
 * @param {string} text
 * @returns {"zh-CN" | "en"}
 */
export const languageOf = (text) => (/\p{Script=Han}/u.test(text.slice(0, 400)) ? "zh-CN" : "en");

/** Every text of both languages: for the test that they have the same keys. */
export const texts = () => TEXTS;
