"""`minimind chat`, over a server and without one."""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI, Response

from jobs.commands import chat
from jobs.commands.arguments import Parser
from jobs.commands.program import HERE
from jobs.runs.directory import RunDirectory
from jobs.serving.answerer import Manner, Model, Part
from jobs.serving.conversation import Conversation
from jobs.serving.in_process import InProcess
from jobs.serving.remote import Server
from jobs.terminal.console import Terminal
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from tests import taught
from tests.browser.scripted import Call, CutOff, ErrorEvent, Gate, Reasoning, Refusal, ScriptedServer, Step, listening
from tests.unit.service.conftest import Served

LIKELIEST = Manner(temperature=0)
SFT = Model("sft")
BASE = {
    "id": "base",
    "minimind": {"stage": "pretrain", "chat": False, "weights": "b", "sampling": {"temperature": 0.8}},
}


class Typed:
    """A console that shows its text, with lines that the user types."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.console = Terminal(file=io.StringIO(), width=100)
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
def terminal(monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.setenv("MINIMIND_LANG", "en")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return Typed(monkeypatch)


def arguments(**given: str | None) -> argparse.Namespace:
    parser = Parser()
    chat.add_chat(parser, HERE)
    return argparse.Namespace(**(vars(parser.parse_args([])) | given))


def test_over_a_real_server(served: Served, terminal: Typed) -> None:
    terminal.types(
        taught.CAPITAL, "", "/new", taught.PRIME, "/model nobody", "/new", taught.CAPITAL, "/exit", taught.COUNT
    )
    assert (
        chat.chat(arguments(url=served.address.removeprefix("http://"), temperature="0"), HERE, terminal.console) == 0
    )
    assert terminal.shows.splitlines()[1] == "Paris."
    assert "Only 1 and 7 divide it.\n\nYes.\n" in terminal.shows
    # The model before stays.
    assert re.search(
        r"model 'nobody': .*models: young@latest.*\nmodel: young@latest\n.*\nParis\.\n", terminal.shows, re.DOTALL
    )
    assert taught.COUNTED not in terminal.shows
    for name in ("taught@10", "young@latest", "young@best"):
        assert Server(served.address).find(name).id == name


def test_without_a_server_the_model_is_loaded_here(
    home: Path, known_by_heart: tuple[MiniMind, Tokenizer], terminal: Typed
) -> None:
    taught.write_run(home / "runs", "taught", *known_by_heart)
    taught.write_run(home / "runs", "young", *known_by_heart, state="RUNNING")
    assert [model.id for model in InProcess().models()] == ["young@latest", "young@10", "taught", "taught@10"]
    assert InProcess().find("taught") == Model("taught", temperature=1.0)
    terminal.types(taught.CAPITAL_ZH, "/new", taught.COUNT, "/new", "x" * 40_000)
    assert chat.chat(arguments(model="taught", temperature="0"), HERE, terminal.console) == 1  # one got no answer
    assert "in this process" in terminal.shows
    assert f"巴黎。\nA new conversation.\n{taught.COUNTED}\n" in terminal.shows
    assert "the conversation is too long; /new" in terminal.shows


def test_without_a_model_it_says_how_to_get_one(home: Path, terminal: Typed) -> None:
    with pytest.raises(ValueError, match="minimind train"):
        chat.chat(arguments(), HERE, terminal.console)


@pytest.fixture
def scripted() -> Iterator[tuple[ScriptedServer, Server]]:
    server = ScriptedServer(key="a-key")
    with listening(server.app) as there:
        yield server, Server(f"{there.address}/v1/", "a-key")


def said(answerer: Server, manner: Manner = LIKELIEST) -> list[Part]:
    return list(answerer.answer("sft", [{"role": "user", "content": "hi"}], manner))


def test_what_a_server_streams_comes_in_parts(scripted: tuple[ScriptedServer, Server]) -> None:
    server, answerer = scripted
    assert answerer.models() == [SFT, Model("sft@200")]
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
    said(answerer, Manner())
    assert "temperature" not in server.requests[-1]


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


@contextmanager
def another_makers_server(models: str, events: str = "") -> Iterator[Server]:
    """A server that answers so, whatever it is asked."""
    app = FastAPI()
    app.add_api_route("/v1/models", lambda: Response(models))
    app.add_api_route("/v1/chat/completions", lambda: Response(events), methods=["POST"])
    with listening(app) as there:
        yield Server(there.address)


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        (
            'data: {"choices": [{"delta": {"content": null, "reasoning": "hm"}}]}\n\ndata: {"usage": {}}\n\n',
            [Part("reasoning", "hm")],
        ),
        ('data: {"choices": [{"delta": null, "finish_reason": "stop"}], "error": null}\n\n', []),
        ('data:{"choices":[{"delta":{"content":"yes"}}]}\n\ndata:[DONE]\n\n', [Part("content", "yes")]),
        (
            'data: {"choices": [{"delta": {"tool_calls": [{"function": {"name": null, "arguments": "{}"}}]}}]}\n\n',
            [Part("tool_call", "{}")],
        ),
    ],
)
def test_a_server_of_another_maker_may_leave_out_what_is_empty(events: str, parts: list[Part]) -> None:
    with another_makers_server('{"object": "list", "data": null}', events) as server:
        assert server.models() == []
        assert list(server.answer("m", [], Manner())) == parts


def test_errors_of_another_makers_server_are_sentences() -> None:
    with another_makers_server("<html>", 'data: {"error": "no room"}\n\n') as server:
        with pytest.raises(ValueError, match="/v1/models: no list of models"):
            server.models()
        with pytest.raises(ValueError, match="^no room$"):
            list(server.answer("m", [], Manner()))


def test_ctrl_c_stops_an_answer_and_keeps_what_had_come(
    scripted: tuple[ScriptedServer, Server], terminal: Typed, monkeypatch: pytest.MonkeyPatch
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
    conversation = Conversation(answerer, SFT, manner=LIKELIEST)
    conversation.ask("hi", terminal.console)
    assert server.hung_up.wait(20)
    assert conversation.turns[-1] == {"role": "assistant", "content": "begun"}
    assert "stopped" in terminal.shows
    server.answer(Refusal(500, "a [bug]"))
    conversation.ask("again", terminal.console)
    assert "a [bug]" in terminal.shows
    assert len(conversation.turns) == 2  # the question that nothing answered is taken back


def test_commands(scripted: tuple[ScriptedServer, Server], terminal: Typed) -> None:
    _, answerer = scripted
    conversation = Conversation(answerer, SFT)
    for line in ("/temperature 1.5", "/think on", "/system Be [brief].", "/model", "/model sft@200", "/help", "/dance"):
        assert conversation.command(line, terminal.console)
    assert conversation.manner == Manner(temperature=1.5, thinking=True)
    assert conversation.messages == [{"role": "system", "content": "Be [brief]."}]
    assert conversation.model == Model("sft@200")
    for words in (
        "temperature: 1.5",
        "thinking: on",
        "Be [brief].",
        "  sft\n  sft@200\n",
        "/temperature X",
        "/dance: no such",
    ):
        assert words in terminal.shows
    assert not conversation.command("/quit", terminal.console)


@pytest.mark.parametrize("text", ["hot", "-1", "2.5", "nan", "inf"])
def test_a_bad_temperature_is_refused(text: str, terminal: Typed, scripted: tuple[ScriptedServer, Server]) -> None:
    with pytest.raises(ValueError, match=f"temperature '{text}': a number from 0"):
        chat.chat(arguments(temperature=text), HERE, terminal.console)
    conversation = Conversation(scripted[1], SFT)
    conversation.command(f"/temperature {text}", terminal.console)
    assert conversation.manner == Manner()
    assert "a number from 0" in terminal.shows


@pytest.mark.parametrize("there", ["server", "process"])
def test_an_unknown_model_is_an_error_at_once(
    served: Served, terminal: Typed, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "running_url", lambda: served.address if there == "server" else None)
    with pytest.raises(ValueError, match=r"nosuch.*there is n|no run 'nosuch'"):
        chat.chat(arguments(model="nosuch"), HERE, terminal.console)
    assert terminal.shows == ""


def test_a_model_that_continues_text_says_so_and_does(scripted: tuple[ScriptedServer, Server], terminal: Typed) -> None:
    server, answerer = scripted
    server.models.append(BASE)
    server.models.append({"id": "base@9", "minimind": BASE["minimind"]})
    conversation = Conversation(answerer, SFT)
    conversation.command("/model", terminal.console)
    assert "  base   continues text\n  base@9   the same as base, continues text\n" in terminal.shows
    conversation.command("/model base", terminal.console)
    assert "It has not learnt to answer" in terminal.shows
    assert "minimind train sft --from_weight base --data_path" in terminal.shows
    server.answer(" Paris", ".")
    conversation.ask("The capital of France is", terminal.console)
    assert terminal.shows.endswith("The capital of France is Paris.\n")
    (request,) = server.requests
    assert (request["prompt"], request["add_special_tokens"]) == ("The capital of France is", True)
    assert not {"messages", "temperature"} & set(request)
    assert conversation.turns == []
    conversation.command("/temperature", terminal.console)
    assert "temperature: 0.8 (of the model)" in terminal.shows


def test_a_base_model_in_this_process(home: Path, known_by_heart: tuple[MiniMind, Tokenizer], terminal: Typed) -> None:
    run = RunDirectory(home / "runs" / "base")
    run.create({"stage": {"kind": "pretrain"}})
    taught.write_run(home / "runs", "base", *known_by_heart)
    taught.write_run(home / "runs", "taught", *known_by_heart)
    taught.write_run(home / "runs", "base", *known_by_heart, steps=(20,))  # the newest, and yet not the first
    terminal.types(taught.CAPITAL, "/model base", "user\n" + taught.CAPITAL)
    assert chat.chat(arguments(temperature="0"), HERE, terminal.console) == 0
    assert terminal.shows.startswith("taught ")
    assert "\nParis.\nmodel: base\nIt has not learnt to answer" in terminal.shows
    assert "user\n" + taught.CAPITAL in terminal.shows.partition("model: base")[2]


def test_control_signs_of_a_model_do_not_reach_the_terminal(
    scripted: tuple[ScriptedServer, Server], terminal: Typed
) -> None:
    server, answerer = scripted
    server.answer("a\x1b", "[2J\x1b]0;owned\x07b\r\x08\x9b1A\u0085c\nd")
    conversation = Conversation(answerer, SFT)
    conversation.ask("hi", terminal.console)
    assert terminal.shows == "a[2J]0;ownedb1Ac\nd\n"
    assert conversation.turns[-1]["content"].startswith("a\x1b[2J")  # what it said is what it said


@pytest.mark.parametrize(
    ("encoding", "typed", "words"),
    [
        ("utf-8:strict", b"\xc4\xe3\nhi\n", "not all text in UTF-8 (0xc4)"),
        ("ascii:strict", "你\nhi\n".encode(), "not all text in ASCII (0xe4)"),
        ("gbk:strict", b"\xff\nhi\n", "not all text in GBK (0xff)"),
    ],
)
@pytest.mark.slow
def test_bytes_that_are_no_text_end_nothing(
    scripted: tuple[ScriptedServer, Server], encoding: str, typed: bytes, words: str
) -> None:
    """A whole process, some 3 s: what is read and written are the real streams."""
    server, answerer = scripted
    server.answer("笑 \U0001f600 é")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "MINIMIND_LANG": "en", "MINIMIND_API_KEY": " a-key\r"}
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "chat", "--url", answerer.url],
        input=typed,
        capture_output=True,
        env=environment,
        timeout=120,
        check=False,
    )
    name = encoding.partition(":")[0]
    shown = done.stdout.decode(name)
    assert words in shown
    assert "笑 \U0001f600 é".encode(name, "replace").decode(name) in shown
    assert (done.returncode, done.stderr) == (1, b"")
    assert [request["messages"][-1]["content"] for request in server.requests] == ["hi"]


@pytest.mark.parametrize("key", ["我的密钥一二三四五", "abc\u200bdefgh", "tab\tinside"])
def test_a_key_that_cannot_be_sent_is_named_and_not_repeated(
    terminal: Typed, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("MINIMIND_API_KEY", key)
    with pytest.raises(ValueError, match="MINIMIND_API_KEY: sign") as told:
        chat.chat(arguments(url="http://127.0.0.1:1"), HERE, terminal.console)
    assert key not in str(told.value)
