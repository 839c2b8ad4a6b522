"""The page's modules by themselves, in the browser that runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.chat import Chat
from tests.browser.conftest import new_page
from tests.browser.scripted import Listening, ScriptedServer

DOCUMENT = """Intro with **bold**, `code` and a stray ** here
second line

# Heading
* one
* two
  1. deep
  2. deeper
     continued
* three

- after a gap

1) other
2) kind
text right after

```python
def f():

    return "```not the end"
```
Before
| a | b |
|---|--:|
| 1 | `2` |
| 3 |
after it
> said
> so

> again
~~~
open fence
"""
MODULE = "async ([name, argument]) => { const ui = await import(`/ui/${name}.js`); return (%s)(ui, argument); }"


@pytest.fixture(scope="module")
def chat(browser: Browser, scripted: Listening) -> Iterator[Chat]:
    """A page whose modules are called; nothing here changes it."""
    scripted.app = ScriptedServer().app
    chat = Chat(new_page(browser), set())
    chat.open(scripted.address)
    yield chat
    chat.leave()
    chat.page.context.close()
    assert chat.complaints == []


def call(chat: Chat, module: str, script: str, argument: Any = None) -> Any:
    return chat.run(MODULE % script, [module, argument])


def test_a_text_that_grows_ends_up_as_if_it_had_come_at_once(chat: Chat) -> None:
    different = call(
        chat,
        "markdown",
        """({ MarkdownView }, source) => {
          const whole = new MarkdownView();
          whole.update(source);
          const different = [];
          for (let size = 1; size <= 40; size += 1) {
            const view = new MarkdownView();
            for (let end = 0; end < source.length + size; end += size) view.update(source.slice(0, end));
            if (view.element.innerHTML !== whole.element.innerHTML) different.push(size);
          }
          return different;
        }""",
        DOCUMENT,
    )
    assert different == []


def test_at_every_moment_it_shows_what_a_new_view_would(chat: Chat) -> None:
    different = call(
        chat,
        "markdown",
        """({ MarkdownView }, source) => {
          const view = new MarkdownView();
          const different = [];
          for (let end = 1; end <= source.length; end += 1) {
            const fresh = new MarkdownView();
            fresh.update(source.slice(0, end));
            view.update(source.slice(0, end));
            if (view.element.innerHTML !== fresh.element.innerHTML) different.push(end);
          }
          return different;
        }""",
        DOCUMENT,
    )
    assert different == []


def test_another_text_replaces_the_one_before(chat: Chat) -> None:
    shown = call(
        chat,
        "markdown",
        """({ MarkdownView }) => {
          const view = new MarkdownView();
          view.update("one\\n\\ntwo\\n\\nthree");
          view.update("other");
          return view.element.innerHTML;
        }""",
    )
    assert shown == "<p>other</p>"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a **b** c", "a <strong>b</strong> c"),
        ("**`x`** y", "<strong><code>x</code></strong> y"),
        ("`a ** b` ** c", "<code>a ** b</code> ** c"),
        ("``a`b`` `c", "<code>a`b</code> `c"),
        ("2 ** 3 ** 4", "2 ** 3 ** 4"),
        ("**open", "**open"),
        ("****", "****"),
        ("中**文**字", "中<strong>文</strong>字"),
        ("<i>&", "&lt;i&gt;&amp;"),
    ],
)
def test_inline(chat: Chat, text: str, html: str) -> None:
    script = (
        "({ inline }, text) => { const p = document.createElement('p'); p.append(...inline(text)); return p.innerHTML }"
    )
    assert call(chat, "markdown", script, text) == html


@pytest.mark.parametrize(
    "piece", ["**a ", "`", "``` ", "- ", "# #", "** **", "`a ``b ", "  - x\n", "1. \n\n", "~~~`", "|-", "> "]
)
def test_no_text_takes_long(chat: Chat, piece: str) -> None:
    """A text of 200,000 characters is read in a blink, whatever it repeats: a model may loop on anything."""
    milliseconds = call(
        chat,
        "markdown",
        """({ parseBlocks, inline }, piece) => {
          const text = piece.repeat(200_000 / piece.length);
          const begin = performance.now();
          for (const block of parseBlocks(text)) inline(block.text ?? "");
          return performance.now() - begin;
        }""",
        piece,
    )
    assert milliseconds < 2000


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_arrive_whole_however_the_bytes_are_cut(chat: Chat, size: int) -> None:
    stream = ': note\n\ndata: {"a": "中文 🙂"}\r\n\r\nevent: x\ndata: one\ndata:two\n\ndata: [DONE]\n\ndata: cut'
    events = call(
        chat,
        "api",
        """async ({ readEvents }, [bytes, size]) => {
          const source = new ReadableStream({
            start(controller) {
              const whole = new Uint8Array(bytes);
              for (let at = 0; at < bytes.length; at += size) controller.enqueue(whole.slice(at, at + size));
              controller.close();
            },
          });
          const events = [];
          for await (const event of readEvents(source, new AbortController().signal)) events.push(event);
          return events;
        }""",
        [list(stream.encode()), size],
    )
    assert events == ['{"a": "中文 🙂"}', "one\ntwo", "[DONE]"]


def test_every_text_is_there_in_both_languages(chat: Chat) -> None:
    texts = call(chat, "i18n", "({ texts }) => texts()")
    plain = {language: {key for key in keys if not key.endswith("One")} for language, keys in texts.items()}
    assert plain["en"] == plain["zh"]
    for key in plain["en"]:
        holes = [sorted(part.split("}")[0] for part in texts[name][key].split("{")[1:]) for name in ("en", "zh")]
        assert holes[0] == holes[1], key
    missing = "({ t }) => { try { t('nothing') } catch (error) { return error.message } }"
    assert call(chat, "i18n", missing) == "no text 'nothing' in 'en'"


def test_one_is_singular(chat: Chat) -> None:
    assert call(chat, "i18n", "({ t }) => [t('tokens', { n: 1 }), t('tokens', { n: 2 })]") == ["1 token", "2 tokens"]


def test_deltas_of_one_tool_call_are_put_together(chat: Chat) -> None:
    calls = chat.run(
        """async () => {
          const { newAnswer } = await import("/ui/state.js");
          const { receive } = await import("/ui/generate.js");
          const answer = newAnswer("m");
          const pieces = [{ id: "c", function: { name: "f", arguments: "" } }, { function: { arguments: '{"x"' } },
                          { function: { arguments: ": 1}" } }];
          for (const piece of pieces) receive(answer, { delta: { tool_calls: [{ index: 0, ...piece }] } });
          return answer.toolCalls;
        }"""
    )
    assert calls == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"x": 1})}}]
