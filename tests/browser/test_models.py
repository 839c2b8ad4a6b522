"""Which model the page takes, what it says of it, and models that have not learnt to answer."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.chat import Chat
from tests.browser.conftest import OpenChat
from tests.browser.scripted import Finish, Gate, ScriptedServer

TOPICS = [
    {
        "language": "en",
        "title_en": title,
        "title_zh": title,
        "examples": examples,
    }
    for title, examples in (
        ("symbols", ["What is the symbol for silicon ?", "What is the symbol for gold? Thanks."]),
        ("sums", ["What is 15 minus 7", "How much is 2 plus 2? Please answer briefly."]),
        ("talk", ["hi", "hello", "hey"]),
        ("poems", ["Recite a poem by Li Bai."]),
    )
]


def card(root: str, name: str = "", *, chat: bool = True, parent: str | None = None, **more: Any) -> dict[str, Any]:
    """A model as /v1/models has it. name: another one than that of its checkpoint."""
    step = root.partition("@")[2]
    minimind = {
        "stage": "sft" if chat else "pretrain",
        "step": int(step),
        "chat": chat,
        "stock": False,
        "parent": parent,
        "weights": root,
        "sampling": {"temperature": 0.2 if chat else 0.8, "top_k": 0, "top_p": 1.0},
    }
    return {"id": name or root, "root": root, "minimind": minimind | more}


BASE = [card("base@9", "base", chat=False), card("base@9", chat=False), card("base@5", chat=False)]
SFT = [card("talk@8", "talk", parent="base@9"), card("talk@8", parent="base@9"), card("talk@4", parent="base@9")]


def options(picker: Locator) -> list[str]:
    return picker.locator("option").all_inner_texts()


@pytest.fixture
def base(open_chat: OpenChat, server: ScriptedServer) -> Chat:
    """The page of a server that has base models only."""
    server.models[:] = BASE
    return open_chat()


def test_a_model_that_can_answer_comes_before_a_newer_one_that_cannot(
    open_chat: OpenChat, server: ScriptedServer
) -> None:
    server.models[:] = BASE + SFT
    chat = open_chat()
    expect(chat.page.locator("#model-a")).to_have_value("talk")
    expect(chat.field).to_have_attribute("placeholder", "Write a message")
    # What is another name of the same weights says so, and so does what cannot answer.
    assert options(chat.page.locator("#model-a")) == [
        "base · continues text",
        "base@9 (= base) · continues text",
        "base@5 · continues text",
        "talk",
        "talk@8 (= talk)",
        "talk@4",
    ]


def test_a_reward_model_is_not_offered(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[:] = [card("reward@9", "reward", chat=False, stage="reward", scores=True, sampling={}), SFT[0]]
    assert options(open_chat().page.locator("#model-a")) == ["talk"]


def test_a_newer_model_is_taken_until_the_reader_chose_or_asked(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[:] = SFT
    chat = open_chat()
    picker = chat.page.locator("#model-a")
    server.models.insert(0, card("newer@1", "newer"))
    chat.come_back()
    expect(picker).to_have_value("newer")
    chat.ask_and_wait("hi")
    server.models.insert(0, card("newest@1", "newest"))
    chat.come_back()
    expect(picker.locator("option").first).to_have_text("newest")
    expect(picker).to_have_value("newer")  # not in the middle of a conversation
    chat.button("New conversation").click()
    picker.select_option("talk")
    chat.come_back()
    chat.page.reload()
    expect(picker).to_have_value("talk")


@pytest.mark.parametrize(
    ("models", "first", "second"),
    [
        (SFT + BASE, "talk", "base"),  # what it started from
        (SFT, "talk", "talk@4"),  # else an earlier checkpoint
        ([*SFT[:2], card("other@3", "other")], "talk", "other"),  # else another one, never the same weights
        ([card("copy@8", "copy", weights="talk@8"), SFT[0], card("old@1", "old")], "copy", "old"),
        (BASE, "base", "base@5"),
    ],
)
def test_what_a_model_is_compared_with(
    open_chat: OpenChat, server: ScriptedServer, models: list[dict[str, Any]], first: str, second: str
) -> None:
    server.models[:] = models
    chat = open_chat()
    chat.button("Compare two models").click()
    expect(chat.page.locator("#model-a")).to_have_value(first)
    expect(chat.page.locator("#model-b")).to_have_value(second)


def test_the_second_model_follows_the_first_until_it_is_chosen(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[:] = [*SFT, *BASE, card("more@2", "more", parent="talk@4")]
    chat = open_chat()
    first, second = (chat.page.locator(f"#model-{name}") for name in "ab")
    first.select_option("more")
    chat.button("Compare two models").click()
    expect(second).to_have_value("talk@4")
    second.select_option("base")
    first.select_option("talk")
    expect(second).to_have_value("base")
    second.select_option("talk@8")
    expect(chat.page.locator("#welcome .lead")).to_contain_text("A and B are the same weights")
    first.select_option("talk@8")
    expect(second).to_have_value("base")  # what it started from: the same twice says nothing


def test_a_model_that_continues_text_says_so_and_what_teaches_it(base: Chat) -> None:
    welcome = base.page.locator("#welcome")
    expect(welcome.locator("h1")).to_have_text("It continues text")
    expect(welcome).to_contain_text("base has only read so far, and cannot answer yet.")
    expect(welcome.locator(".command")).to_have_text("minimind train sft --from_weight base --data_path YOUR.jsonl")
    expect(welcome.locator(".question").first).to_have_text("The capital of France is")
    expect(base.field).to_have_attribute("placeholder", "Begin a text")
    base.button("切换到中文").click()
    expect(welcome.locator("h1")).to_have_text("它只会续写")
    expect(welcome.locator(".question").first).to_have_text("中国的首都是")
    expect(base.field).to_have_attribute("placeholder", "写个开头")
    assert options(base.page.locator("#model-a"))[0] == "base · 续写"


def test_a_text_and_how_it_goes_on_are_one_text(base: Chat, server: ScriptedServer) -> None:
    gate = Gate()
    server.answer(" Paris", gate, ", **the** city", Finish("length"))
    base.ask("The capital of France is")
    expect(base.prose).to_have_text("The capital of France is Paris")
    gate.open()
    base.wait_done()
    expect(base.prose).to_have_text("The capital of France is Paris, **the** city")  # no markup: it is plain text
    expect(base.bubbles).to_have_count(0)
    expect(base.answer).not_to_contain_text("Cut off")
    (request,) = server.requests
    assert (request["prompt"], request["max_tokens"]) == ("The capital of France is", 128)
    assert request["add_special_tokens"] is True
    assert request["stream_options"] == {"include_usage": True}
    assert not {"messages", "temperature"} & set(request)

    server.answer(" of light", Finish("stop"))
    base.button("Go on").click()
    expect(base.prose).to_have_text("The capital of France is Paris, **the** city of light")
    expect(base.answers).to_have_count(1)
    expect(base.button("Go on")).to_have_count(0)
    assert server.requests[1]["prompt"] == "The capital of France is Paris, **the** city"
    # A text that follows has nothing to do with it.
    base.ask_and_wait("Once")
    assert server.requests[2]["prompt"] == "Once"
    base.page.reload()
    expect(base.answers.first.locator(".prose")).to_have_text("The capital of France is Paris, **the** city of light")


@pytest.mark.parametrize("how", ["button", "ArrowUp"])
def test_the_beginning_of_a_text_can_be_edited(base: Chat, server: ScriptedServer, how: str) -> None:
    server.answer(" was")
    base.ask_and_wait("There")
    if how == "button":
        base.button("Edit and send again").click()
    else:
        base.field.press("ArrowUp")
    editor = base.page.locator(".editor textarea")
    expect(editor).to_have_value("There")
    editor.fill("Here")
    if how == "button":
        base.button("Edit and send again").click()  # once more: what was typed stays
        expect(editor).to_have_value("Here")
    server.answer(" is")
    editor.press("Enter")
    expect(base.prose).to_have_text("Here is")


def test_settings_of_a_model_that_continues_text(base: Chat, server: ScriptedServer) -> None:
    panel = base.open_settings()
    expect(panel).to_contain_text("it has no system prompt, no thinking and no tools")
    for name in ("System prompt", "Always"):
        expect(panel.get_by_label(name)).to_be_hidden()
    expect(panel.locator("#temperature-value")).to_have_text("0.8 (the model's own)")
    panel.get_by_label("Longest answer").fill("7")
    panel.get_by_label("Temperature").fill("0.3")
    expect(panel.locator("#temperature-value")).to_have_text("0.3")
    base.ask_and_wait("Once")
    assert (server.requests[0]["max_tokens"], server.requests[0]["temperature"]) == (7, 0.3)


def test_the_temperature_is_the_models_own_until_the_reader_says(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[:] = SFT + BASE
    chat = open_chat()
    panel = chat.open_settings()
    value = panel.locator("#temperature-value")
    expect(value).to_have_text("0.2 (the model's own)")
    expect(panel.get_by_label("Temperature")).to_have_value("0.2")
    panel.get_by_label("System prompt").fill("Be brief.")  # changes nothing else
    chat.ask_and_wait("hi")
    assert "temperature" not in server.requests[0]
    panel.get_by_label("Temperature").fill("1.1")
    chat.ask_and_wait("hi")
    assert server.requests[1]["temperature"] == 1.1
    chat.button("Back to the defaults").click()
    expect(value).to_have_text("0.2 (the model's own)")
    chat.button("Compare two models").click()
    expect(value).to_have_text("0.2 / 0.8 (the model's own)")


def test_a_conversation_and_a_text_side_by_side(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[:] = SFT + BASE
    chat = open_chat()
    chat.button("Compare two models").click()
    server.answer("Paris.", model="talk")
    server.answer(" It is", Finish("length"), model="base")
    chat.ask("What is the capital?")
    expect(chat.answers).to_have_count(2)
    chat.wait_done()
    expect(chat.bubbles).to_have_text("What is the capital?")
    expect(chat.answers.locator(".prose")).to_have_text(["Paris.", "What is the capital? It is"])
    expect(chat.button("Go on")).to_have_count(0)
    asked = {request["model"]: request for request in server.requests}
    assert asked["base"]["prompt"] == asked["talk"]["messages"][0]["content"]
    # The model that answers is not told what the other one wrote.
    chat.button("Compare two models").click()
    chat.page.locator("#model-a").select_option("base")
    chat.ask_and_wait("Once")
    chat.page.locator("#model-a").select_option("talk")
    chat.ask_and_wait("And Italy?")
    said = [message["content"] for message in server.requests[-1]["messages"]]
    assert said == ["What is the capital?", "Paris.", "And Italy?"]


def test_suggestions_are_questions_and_stay_under_the_last_answer(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[:] = [card("talk@8", "talk", stock=True), *BASE]
    server.topics = TOPICS
    chat = open_chat()
    shown = chat.page.locator("#welcome .question")
    expect(shown).to_have_text(["What is the symbol for gold?", "What is 15 minus 7?", "Recite a poem by Li Bai."])
    shown.first.click()
    chips = chat.page.locator("#chips button")
    chat.wait_done()
    expect(chips).to_have_text(["What is 15 minus 7?", "Recite a poem by Li Bai.", "What is the symbol for silicon?"])
    gate = Gate()
    server.answer("8", gate)
    chips.first.click()
    expect(chat.bubbles).to_have_text(["What is the symbol for gold?", "What is 15 minus 7?"])
    expect(chips).to_have_count(0)
    gate.open()
    expect(chips.first).to_have_text("Recite a poem by Li Bai.")
    # The conversation is sent whole.
    assert len(server.requests[1]["messages"]) == 3
    chat.page.locator("#model-a").select_option("base")
    expect(chips).to_have_text(["The capital of France is", "Once upon a time", "Water is made of"])
    chat.button("New conversation").click()
    expect(chips).to_have_count(0)


def test_the_page_links_to_the_report_of_the_model_that_is_asked(open_chat: OpenChat, server: ScriptedServer) -> None:
    server.models[:] = [*SFT, *BASE]
    server.reports[:] = [
        {"name": "talk@8-vs-talk@4", "a": "talk@4", "b": "talk@8"},
        {"name": "talk@8-vs-base@9", "a": "base@9", "b": "talk@8"},
    ]
    chat = open_chat()
    link = chat.page.get_by_role("link", name="What changed: the report")
    expect(link).to_have_attribute("href", "reports/talk%408-vs-talk%404/en")
    chat.button("Compare two models").click()  # with what it started from
    expect(link).to_have_attribute("href", "reports/talk%408-vs-base%409/en")
    chat.page.locator("#model-b").select_option("base@5")
    expect(link).to_be_hidden()
    chat.button("Compare two models").click()
    chat.button("切换到中文").click()
    expect(chat.page.locator("#report")).to_have_attribute("href", "reports/talk%408-vs-talk%404/zh")
    chat.page.locator("#model-a").select_option("base")
    expect(chat.page.locator("#report")).to_be_hidden()
