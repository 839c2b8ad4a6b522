"""Reading: markup, languages, themes, keyboard, small screens, long answers."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from service.web import PAGE_HEADERS
from tests.browser import scripted
from tests.browser.chat import Chat
from tests.browser.conftest import OpenChat
from tests.browser.scripted import Call, Gate, Reasoning, ScriptedServer

MARKUP = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "[click](javascript:document.title='owned') ![](http://127.0.0.1:9/x.png) <b>bold</b> &lt;i&gt;"
)
TOPICS = [
    {
        "language": language,
        "title_en": f"topic {number}",
        "title_zh": f"主题{number}",
        "examples": ["A longer one: " + form.format(number, 0), *(form.format(number, turn) for turn in rounds)],
    }
    for language, form in (("en", "Question {}.{}?"), ("zh", "问题{}.{}？"))
    for number, rounds in ((1, (1, 2)), (2, (1,)), (3, (1, 2)), (4, (1,)))
]
CONTRAST = """([theme, pairs]) => {
  document.documentElement.dataset.theme = theme;
  const probe = document.body.appendChild(document.createElement("i"));
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const luminance = (name) => {
    probe.style.color = `var(--${name})`;
    canvas.fillStyle = getComputedStyle(probe).color;
    canvas.fillRect(0, 0, 1, 1);
    const linear = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((byte) => {
      const value = byte / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  return pairs.map(([ink, paper]) => {
    const [low, high] = [luminance(ink), luminance(paper)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
}"""


def test_what_a_model_writes_stays_text(chat: Chat, server: ScriptedServer) -> None:
    server.answer(
        Reasoning(MARKUP), f"{MARKUP}\n\n# {MARKUP}\n\n- {MARKUP}\n\n```html\n{MARKUP}\n```", Call("f", MARKUP)
    )
    chat.ask_and_wait(MARKUP)
    assert chat.page.title() == "MiniMind"
    assert chat.page.locator("main :is(img, script, a, b, iframe)").count() == 0
    expect(chat.bubbles).to_have_text(MARKUP)
    expect(chat.prose.locator("p").first).to_have_text(MARKUP)
    expect(chat.prose.locator("pre")).to_have_text(MARKUP)
    chat.page.reload()
    expect(chat.prose.locator("p").first).to_have_text(MARKUP)
    assert chat.page.title() == "MiniMind"


def test_the_page_itself_forbids_foreign_and_inline_code(chat: Chat) -> None:
    page = (scripted.UI / "index.html").read_text("utf-8")
    assert "Content-Security-Policy" in page
    chat.run(
        """() => {
          const script = document.createElement("script");
          script.textContent = "document.title = 'owned'";
          document.body.append(script);
        }"""
    )
    assert chat.page.title() == "MiniMind"
    blocked = [complaint for complaint in chat.complaints if "Content Security Policy" in complaint]
    assert blocked == chat.complaints != []
    chat.complaints.clear()
    # The tests' server forbids what the real one forbids.
    assert set(scripted.CSP.split("; ")) <= set(PAGE_HEADERS["Content-Security-Policy"].split("; "))


def test_markdown(chat: Chat, server: ScriptedServer) -> None:
    server.answer("# Title\nOne **two** `three`\nfour\n\n1. a\n   - b\n2. c\n\n```py\nx = 1\n```\nend\n\n> said\n> so")
    chat.ask_and_wait("q")
    assert chat.prose.evaluate("node => [...node.children].map((child) => child.tagName)") == [
        "H3",
        "P",
        "OL",
        "FIGURE",
        "P",
        "BLOCKQUOTE",
    ]
    expect(chat.prose.locator("strong")).to_have_text("two")
    expect(chat.prose.locator("p code")).to_have_text("three")
    expect(chat.prose.locator("ol > li > ul > li")).to_have_text("b")
    expect(chat.prose.locator("figcaption")).to_have_text("py")
    expect(chat.prose.locator("blockquote")).to_have_text("said\nso")


def test_tables(chat: Chat, server: ScriptedServer) -> None:
    server.answer("Look:\n| a | b\\|c |\n|:-:|--:|\n| **1** | 2 | 3 |\n| 4 |\nend\n\nno | table\n---|---|---\n")
    chat.ask_and_wait("q")
    expect(chat.prose.locator("p").first).to_have_text("Look:")
    expect(chat.prose.locator("th")).to_have_text(["a", "b|c"])
    expect(chat.prose.locator("td")).to_have_text(["1", "2", "4"])
    expect(chat.prose.locator("td strong")).to_have_text("1")
    assert chat.prose.locator("th").evaluate_all("all => all.map((cell) => getComputedStyle(cell).textAlign)") == [
        "center",
        "right",
    ]
    expect(chat.prose.locator("p").nth(1)).to_have_text("end")
    expect(chat.prose.locator("table")).to_have_count(1)


@pytest.mark.parametrize(
    ("locale", "lang", "placeholder"),
    [("en-GB", "en", "Write a message"), ("zh-TW", "zh-CN", "输入消息"), ("fr-FR", "en", "Write a message")],
)
def test_the_browsers_language_decides(open_chat: OpenChat, locale: str, lang: str, placeholder: str) -> None:
    chat = open_chat(locale=locale)
    expect(chat.page.locator("html")).to_have_attribute("lang", lang)
    expect(chat.field).to_have_attribute("placeholder", placeholder)


def test_the_readers_language_is_kept(chat: Chat) -> None:
    chat.button("切换到中文").click()
    expect(chat.field).to_have_attribute("placeholder", "输入消息")
    chat.page.reload()
    expect(chat.page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(chat.button("设置")).to_be_visible()


def test_a_chinese_answer_on_an_english_page_is_set_as_chinese(chat: Chat, server: ScriptedServer) -> None:
    server.answer("天空是蓝色的。")
    chat.ask_and_wait("用中文回答")
    expect(chat.prose).to_have_attribute("lang", "zh-CN")
    expect(chat.bubbles).to_have_attribute("lang", "zh-CN")


def paper(chat: Chat) -> str:
    return str(chat.run("getComputedStyle(document.documentElement).backgroundColor"))


def test_dark_and_light_follow_the_system_until_the_reader_chooses(open_chat: OpenChat) -> None:
    light, dark = paper(open_chat(color_scheme="light")), paper(open_chat(color_scheme="dark"))
    assert light != dark
    chat = open_chat(color_scheme="light")
    chat.button("Light or dark").click()
    assert paper(chat) == dark
    chat.page.reload()
    assert paper(chat) == dark
    chat.button("Light or dark").click()
    assert paper(chat) == light
    chat.page.emulate_media(color_scheme="dark")
    assert paper(chat) == dark


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_can_be_read(chat: Chat, theme: str) -> None:
    pairs = [(ink, paper) for ink in ("ink", "muted", "accent") for paper in ("paper", "surface", "sunken", "tint")]
    pairs += [("on-accent", "accent"), ("warm", "warm-tint"), ("ink", "warm-tint"), ("paper", "ink")]
    ratios = dict(zip(pairs, chat.run(CONTRAST, [theme, pairs]), strict=True))
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}  # WCAG AA


def test_the_keyboard(chat: Chat, server: ScriptedServer) -> None:
    chat.field.press_sequentially("one")
    chat.field.press("Shift+Enter")
    chat.field.press_sequentially("two")
    chat.field.press("Enter")
    expect(chat.bubbles).to_have_text("one\ntwo", use_inner_text=True)
    chat.wait_done()
    # Everything can be reached, and shows that it is.
    reached = set()
    for _ in range(30):
        chat.page.keyboard.press("Tab")
        name, outline = chat.run(
            "() => { const at = document.activeElement; "
            "return [at.getAttribute('aria-label') ?? at.id, getComputedStyle(at).outlineStyle] }"
        )
        reached.add(name)
        assert outline != "none" or name in {"Your message", ""}, name
    assert {"Model", "Compare two models", "New conversation", "Light or dark", "Settings"} <= reached
    assert {"Copy", "Edit and send again", "Answer again", "Your message"} <= reached


def test_escape_closes_the_settings_and_gives_the_focus_back(chat: Chat) -> None:
    panel = chat.open_settings()
    panel.get_by_label("System prompt").press("Escape")
    expect(panel).to_be_hidden()
    expect(chat.page.locator("#open-settings")).to_be_focused()
    expect(chat.page.locator("#open-settings")).to_have_attribute("aria-expanded", "false")


class InputMethod:
    """Composes as an input method does, with events that the browser trusts."""

    def __init__(self, chat: Chat) -> None:
        self._session = chat.page.context.new_cdp_session(chat.page)

    def compose(self, text: str) -> None:
        self._session.send(
            "Input.imeSetComposition", {"text": text, "selectionStart": len(text), "selectionEnd": len(text)}
        )

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self._session.send(
                "Input.dispatchKeyEvent", {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            )

    def take(self, text: str) -> None:
        self._session.send("Input.insertText", {"text": text})


ESCAPE, ENTER = ("Escape", 27), ("Enter", 13)


def test_enter_that_takes_a_candidate_of_an_input_method_does_not_send(chat: Chat, server: ScriptedServer) -> None:
    method = InputMethod(chat)
    chat.field.focus()
    method.compose("nihao")
    method.press(*ENTER)
    press = "(init) => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, ...init}))"
    chat.run(press, {"key": "Enter", "keyCode": 229})  # Safari, after the composition
    expect(chat.field).to_have_value("nihao")
    method.take("你好")
    expect(chat.field).to_have_value("你好")
    assert chat.answers.count() == 0
    chat.field.press("Enter")
    expect(chat.bubbles).to_have_text("你好")


@pytest.mark.parametrize("key", [ESCAPE, ENTER])
def test_an_editor_stays_open_while_an_input_method_composes(
    chat: Chat, server: ScriptedServer, key: tuple[str, int]
) -> None:
    chat.ask_and_wait("mine")
    chat.field.press("ArrowUp")
    editor = chat.page.locator(".editor textarea")
    method = InputMethod(chat)
    method.compose("nihao")
    method.press(*key)
    expect(editor).to_have_value("minenihao")
    method.take("你好")
    expect(editor).to_have_value("mine你好")
    assert len(server.requests) == 1
    editor.press("Escape")
    expect(chat.bubbles).to_have_text("mine")


@pytest.mark.parametrize("width", [1280, 600])  # beside the conversation, and over it
def test_settings_stay_open_while_an_input_method_composes(open_chat: OpenChat, width: int) -> None:
    chat = open_chat(viewport={"width": width, "height": 800})
    panel = chat.open_settings()
    system = panel.get_by_label("System prompt")
    system.focus()
    method = InputMethod(chat)
    method.compose("nihao")
    method.press(*ESCAPE)
    expect(panel).to_be_visible()
    method.take("你好")
    expect(system).to_have_value("你好")
    system.press("Escape")
    expect(panel).to_be_hidden()


def test_an_answer_goes_on_while_an_input_method_composes(chat: Chat, server: ScriptedServer) -> None:
    gate = Gate()
    server.answer("So ", gate, "far.")
    chat.ask("go")
    gate.wait_reached()
    method = InputMethod(chat)
    chat.field.focus()
    method.compose("nihao")
    method.press(*ESCAPE)
    gate.open()
    expect(chat.prose).to_have_text("So far.")
    expect(chat.field).to_have_value("nihao")


def test_what_is_being_typed_survives_another_language(chat: Chat, server: ScriptedServer) -> None:
    server.answer(Call("f", "{}"))
    chat.ask_and_wait("mine")
    chat.page.get_by_label("f: What does it give?").fill("21")
    chat.field.press("ArrowUp")
    editor = chat.page.locator(".editor textarea")
    editor.fill("other")
    chat.field.focus()
    chat.field.press("ArrowUp")  # again
    expect(editor).to_have_value("other")
    chat.button("切换到中文").click()
    expect(editor).to_have_value("other")
    expect(chat.page.locator(".results textarea")).to_have_value("21")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("width", [320, 375])
def test_a_phone(open_chat: OpenChat, server: ScriptedServer, locale: str, width: int) -> None:
    server.models[0] = {"id": "a-run-with-a-rather-long-name-20261124@12000", "minimind": {"stock": True}}
    server.topics = TOPICS
    chat = open_chat(viewport={"width": width, "height": 667}, locale=locale, is_mobile=True, has_touch=True)

    def fits() -> None:
        assert chat.run("document.documentElement.scrollWidth") <= width
        assert chat.run("document.querySelector('#scroller').scrollWidth") <= width

    fits()
    chat.page.locator("#compare").tap()
    server.answer("wide " * 30 + "```\n" + "x" * 300 + "\n```\n" + "y" * 300)
    chat.ask("w" * 200)
    expect(chat.answers).to_have_count(2)
    chat.wait_done()
    fits()
    first, second = (chat.answers.nth(index).bounding_box() for index in (0, 1))
    assert first
    assert second
    assert first["y"] + first["height"] <= second["y"]
    panel = chat.open_settings()
    box = panel.bounding_box()
    assert box
    assert box["width"] == width
    fits()
    panel.locator("#close-settings").tap()
    expect(panel).to_be_hidden()


@pytest.mark.parametrize(
    ("locale", "titles", "second", "more", "facts"),
    [
        ("en-GB", "topic {}", "Question 2.1?", "Show all 10 questions", ["sft", "step 1,200"]),
        ("zh-CN", "主题{}", "问题2.1？", "显示全部 10 个问题", ["sft", "第 1,200 步"]),
    ],
)
def test_what_the_model_was_taught_can_be_asked_with_a_click(
    open_chat: OpenChat, server: ScriptedServer, locale: str, titles: str, second: str, more: str, facts: list[str]
) -> None:
    server.models[0]["minimind"] = {"stage": "sft", "step": 1200, "stock": True}
    server.topics = TOPICS
    chat = open_chat(locale=locale)
    welcome = chat.page.locator("#welcome")
    expect(welcome.locator(".facts span")).to_have_text(facts)
    # One question of each topic comes first, the shortest.
    expect(welcome.locator(".title")).to_have_text([titles.format(number) for number in (1, 2, 3, 4)])
    chat.button(more).click()
    questions = welcome.locator(".topics button")
    expect(questions).to_have_count(10)
    expect(questions.nth(4)).to_be_focused()
    questions.nth(1).click()
    expect(chat.bubbles).to_have_text(second)
    expect(welcome).to_be_hidden()
    chat.wait_done()
    assert server.requests[0]["messages"] == [{"role": "user", "content": second}]


def test_no_topics_are_claimed_of_a_model_that_was_not_taught_them(chat: Chat, server: ScriptedServer) -> None:
    server.models[1]["minimind"] = {"stage": "sft", "step": 200, "stock": True}
    server.topics = [topic for topic in TOPICS if topic["language"] == "zh"]
    chat.page.reload()
    picker, welcome = chat.page.locator("#model-a"), chat.page.locator("#welcome")
    picker.select_option("sft@200")
    # They are all in Chinese: better than nothing.
    expect(welcome.locator(".question").first).to_have_text("问题1.1？")
    picker.select_option("sft")
    expect(welcome.locator("h1")).to_have_text("What would you like to ask?")
    expect(welcome.locator(".topics")).to_have_count(0)


def test_names_from_the_server_stay_text(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[0] = {"id": MARKUP, "minimind": {"stage": MARKUP, "stock": True}}
    server.topics = [{"language": "en", "title_en": MARKUP, "title_zh": MARKUP, "examples": [MARKUP]}]
    chat = open_chat()
    chat.page.locator(".topics button").click()
    chat.wait_done()
    assert chat.page.title() == "MiniMind"
    expect(chat.page.locator(".speaker")).to_have_text(MARKUP)


SMALL = """() => [...document.querySelectorAll("button, select, input, textarea, summary, .topics button")]
  .filter((node) => node.checkVisibility() && !node.closest("dialog:not([open])"))
  .map((node) => [node.outerHTML.slice(0, 80), node.getBoundingClientRect()])
  .filter(([, box]) => box.width < 44 || box.height < 44)
  .map(([name, box]) => [name, box.width, box.height])"""


def test_a_finger_hits_everything(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[0]["minimind"] = {"stock": True}
    server.topics = TOPICS
    chat = open_chat(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert chat.run(SMALL) == []
    server.answer(Reasoning("hm"), "```py\nx = 1\n```", Call("f", "{}"))
    chat.ask_and_wait("q")
    assert chat.run(SMALL) == []
    chat.open_settings().get_by_text("Tools the model may call").tap()
    assert chat.run(SMALL) == []


def test_nothing_moves_for_a_reader_who_wants_it_still(open_chat: OpenChat, server: ScriptedServer) -> None:
    chat = open_chat(reduced_motion="reduce")
    gate = Gate()
    server.answer(gate)
    chat.ask("q")
    style = chat.answer.locator(".dots i").first.evaluate(
        "node => [getComputedStyle(node).animationIterationCount, parseFloat(getComputedStyle(node).animationDuration)]"
    )
    assert style[0] == "1"
    assert style[1] < 0.001
    gate.open()
    chat.wait_done()


def scroll(chat: Chat) -> dict[str, Any]:
    script = """() => { const s = document.querySelector("#scroller");
        return { top: s.scrollTop, end: s.scrollHeight - s.clientHeight } }"""
    return dict(chat.run(script))


def test_the_page_follows_a_reader_at_the_end_and_no_other(chat: Chat, server: ScriptedServer) -> None:
    first, second, third = Gate(), Gate(), Gate()
    lines = "line\n\n" * 60
    server.answer(lines, first, lines, second, lines, third)
    chat.ask("q")
    first.wait_reached()
    expect(chat.prose.locator("p")).to_have_count(60)
    at = scroll(chat)
    assert at["end"] - at["top"] < 2

    chat.page.locator("#scroller").hover()
    chat.page.mouse.wheel(0, -600)
    jump = chat.button("To the latest")
    expect(jump).to_be_visible()
    before = scroll(chat)["top"]
    first.open()
    expect(chat.prose.locator("p")).to_have_count(120)
    assert scroll(chat)["top"] == before

    jump.click()
    expect(jump).to_be_hidden()
    second.open()
    expect(chat.prose.locator("p")).to_have_count(180)
    at = scroll(chat)
    assert at["end"] - at["top"] < 2
    third.open()


def test_a_reader_who_has_asked_nothing_is_not_scrolled(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[0]["minimind"] = {"stock": True}
    server.topics = TOPICS
    chat = open_chat(viewport={"width": 1280, "height": 480})
    chat.open_settings()
    chat.page.set_viewport_size({"width": 1280, "height": 400})
    chat.run("() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    at = scroll(chat)
    assert at["top"] == 0
    assert at["end"] > 50
    expect(chat.page.locator("#jump")).to_be_hidden()
    server.answer("line\n\n" * 60)
    chat.ask_and_wait("q")
    at = scroll(chat)
    assert at["end"] - at["top"] < 2


def test_a_token_draws_nothing_that_is_final(chat: Chat, server: ScriptedServer) -> None:
    chat.ask_and_wait("before")
    gate = Gate()
    server.answer("one\n\ntwo\n\nthree", gate, *([" more"] * 300))
    chat.ask("q")
    gate.wait_reached()
    expect(chat.prose.locator("p")).to_have_count(3)
    chat.run(
        """() => {
          window.touched = 0;
          const watch = new MutationObserver((changes) => (window.touched += changes.length));
          const all = { subtree: true, childList: true, characterData: true, attributes: true };
          watch.observe(document.querySelector(".turn"), all);
          const paragraphs = document.querySelectorAll(".turn:last-child .prose > p");
          for (const paragraph of [...paragraphs].slice(0, -1)) watch.observe(paragraph, all);
          window.kept = paragraphs[0];
        }"""
    )
    gate.open()
    chat.wait_done()
    expect(chat.prose.locator("p").last).to_have_text("three" + " more" * 300)
    assert chat.run("window.touched") == 0
    assert chat.run("window.kept.isConnected")


def test_screen_readers_hear_the_answer_once_it_is_there(chat: Chat, server: ScriptedServer) -> None:
    announcer = chat.page.locator("#announcer")
    gate = Gate()
    server.answer("The answer.", gate)
    chat.ask("q")
    gate.wait_reached()
    expect(announcer).to_have_text("Reading the question")
    gate.open()
    expect(announcer).to_have_text("sft has answered. The answer.")
    names = chat.page.locator("button, input, select, textarea, dialog, [role=log]").evaluate_all(
        "nodes => nodes.filter((node) => !(node.ariaLabel || node.labels?.length || node.textContent.trim() "
        "|| node.getAttribute('aria-labelledby'))).map((node) => node.outerHTML)"
    )
    assert names == []
