"""`minimind chat`, over a server and without one."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from jobs import chat
from jobs.chat import Conversation, InProcess, Manner, Part, Server
from minimind.model import MiniMind
from minimind.tokenizer import Tokenizer
from tests import taught
from tests.browser.scripted import Call, CutOff, ErrorEvent, Gate, Reasoning, Refusal, ScriptedServer, Step, listening
from tests.unit.service.conftest import Served

LIKELIEST = Manner(temperature=0)


class Terminal:
    """A console that shows its text, with lines that the user types."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.console = Console(file=io.StringIO(), width=100)
        self._monkeypatch = monkeypatch

    def types(self, *lines: str) -> None:
        typed = iter(lines)

        def line(prompt: str = "") -> str:
            try:
                return next(typed)
            except StopIteration:
                raise EOFError from None

        self._monkeypatch.setattr(self.console, "input", line)

    @property
    def shows(self) -> str:
        file = self.console.file
        assert isinstance(file, io.StringIO)
        return file.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("MINIMIND_LANG", "en")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return Terminal(monkeypatch)


def arguments(**given: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    chat.add_parser(parser.add_subparsers())
    return argparse.Namespace(**(vars(parser.parse_args(["chat"])) | given))


def test_over_a_real_server(served: Served, terminal: Terminal) -> None:
    terminal.types(taught.CAPITAL, "", "/new", taught.PRIME, "/model nobody", taught.CAPITAL, "/exit", taught.COUNT)
    assert chat.chat(arguments(url=served.address, temperature="0"), terminal.console) == 0
    assert terminal.shows.splitlines()[1] == "Paris."
    assert "Only 1 and 7 divide it.\n\nYes.\n" in terminal.shows
    assert "model 'nobody': there is no run" in terminal.shows
    assert taught.COUNTED not in terminal.shows


def test_without_a_server_the_model_is_loaded_here(
    home: Path, known_by_heart: tuple[MiniMind, Tokenizer], terminal: Terminal
) -> None:
    taught.write_run(home / "runs", "taught", *known_by_heart)
    taught.write_run(home / "runs", "young", *known_by_heart, state="RUNNING")
    assert InProcess().models() == ["taught"]
    terminal.types(taught.CAPITAL_ZH, "/new", taught.COUNT, "/new", "x" * 40_000)
    assert chat.chat(arguments(temperature="0"), terminal.console) == 0
    assert "in this process" in terminal.shows
    assert f"巴黎。\nA new conversation.\n{taught.COUNTED}\n" in terminal.shows
    assert "the conversation is too long; /new" in terminal.shows


def test_without_a_model_it_says_how_to_get_one(home: Path, terminal: Terminal) -> None:
    with pytest.raises(ValueError, match="minimind train"):
        chat.chat(arguments(), terminal.console)


@pytest.fixture
def scripted() -> Iterator[tuple[ScriptedServer, Server]]:
    server = ScriptedServer(key="a-key")
    with listening(server.app) as there:
        yield server, Server(f"{there.address}/v1/", "a-key")


def said(answerer: Server, manner: Manner = LIKELIEST) -> list[Part]:
    return list(answerer.answer("sft", [{"role": "user", "content": "hi"}], manner))


def test_what_a_server_streams_comes_in_parts(scripted: tuple[ScriptedServer, Server]) -> None:
    server, answerer = scripted
    assert answerer.models() == ["sft", "sft@200"]
    server.answer(Reasoning("hm"), "巴", "黎", Call("f", "{}"))
    parts = said(answerer, Manner(temperature=0.5, thinking=True))
    assert parts == [
        Part("reasoning", "hm"),
        Part("content", "巴"),
        Part("content", "黎"),
        Part("tool_call", "f"),
        Part("tool_call", "{}"),
    ]
    said(answerer)
    hot, plain = server.requests
    assert (hot["temperature"], hot["chat_template_kwargs"]) == (0.5, {"enable_thinking": True})
    assert plain["temperature"] == 0
    assert "chat_template_kwargs" not in plain


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Refusal(429, "come again"), "come again"),
        (ErrorEvent("the replica is gone"), "the replica is gone"),
        (CutOff(), "the connection broke off"),
    ],
)
def test_what_goes_wrong_is_a_sentence(scripted: tuple[ScriptedServer, Server], step: Step, words: str) -> None:
    server, answerer = scripted
    server.answer(step)
    with pytest.raises(ValueError, match=words):
        said(answerer)
    with pytest.raises(ValueError, match="a key is needed"):
        Server(answerer.url, "another").models()
    with pytest.raises(ValueError, match=r"no server answers at http://127.0.0.1:1"):
        Server("http://127.0.0.1:1").models()


def test_ctrl_c_stops_an_answer_and_keeps_what_had_come(
    scripted: tuple[ScriptedServer, Server], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, answerer = scripted
    gate = Gate()
    server.answer("begun", gate, "never")
    show = terminal.console.print

    def interrupted(*what: object, **how: object) -> None:
        show(*what, **how)  # type: ignore[arg-type]
        if what == ("begun",):
            raise KeyboardInterrupt

    monkeypatch.setattr(terminal.console, "print", interrupted)
    conversation = Conversation(answerer, "sft", manner=LIKELIEST)
    conversation.ask("hi", terminal.console)
    assert server.hung_up.wait(20)
    assert conversation.turns[-1] == {"role": "assistant", "content": "begun"}
    assert "stopped" in terminal.shows
    server.answer(Refusal(500, "a [bug]"))
    conversation.ask("again", terminal.console)
    assert "a [bug]" in terminal.shows
    assert len(conversation.turns) == 2  # the question that nothing answered is taken back


def test_commands(scripted: tuple[ScriptedServer, Server], terminal: Terminal) -> None:
    _, answerer = scripted
    conversation = Conversation(answerer, "sft")
    for line in ("/temperature 1.5", "/think on", "/system Be [brief].", "/model", "/model sft@200", "/help", "/dance"):
        assert conversation.command(line, terminal.console)
    assert conversation.manner == Manner(temperature=1.5, thinking=True)
    assert conversation.messages == [{"role": "system", "content": "Be [brief]."}]
    assert conversation.model == "sft@200"
    for words in (
        "temperature: 1.5",
        "thinking: on",
        "Be [brief].",
        "sft  sft@200",
        "/temperature X",
        "/dance: no such",
    ):
        assert words in terminal.shows
    assert not conversation.command("/quit", terminal.console)


@pytest.mark.parametrize("text", ["hot", "-1", "2.5", "nan", "inf"])
def test_a_bad_temperature_is_refused(text: str, terminal: Terminal, scripted: tuple[ScriptedServer, Server]) -> None:
    with pytest.raises(ValueError, match=f"temperature '{text}': a number from 0"):
        chat.chat(arguments(temperature=text), terminal.console)
    conversation = Conversation(scripted[1], "sft")
    conversation.command(f"/temperature {text}", terminal.console)
    assert conversation.manner == Manner()
    assert "a number from 0" in terminal.shows
