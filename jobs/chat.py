"""`minimind chat`: talk with a model in the terminal, through a running server or, without one, in this process."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import requests
from rich.console import Console
from rich.markup import escape

from jobs import paths, references
from jobs.runs import list_runs
from jobs.serve import running_url
from jobs.words import language

Message = dict[str, Any]

MAX_TOKENS = 1024
"""Longest answer without a server, in tokens."""

TEMPERATURE = 0.7
"""At 1 a small model strays too often."""


@dataclass(frozen=True)
class Manner:
    """How to answer. thinking: None leaves it to the model."""

    temperature: float = TEMPERATURE
    thinking: bool | None = None


@dataclass(frozen=True)
class Part:
    """What comes of an answer. kind: "reasoning", "content" or "tool_call"."""

    kind: str
    text: str


class Answerer(Protocol):
    """Whoever answers."""

    def models(self) -> list[str]:
        """What can be talked to, the newest first."""

    def answer(self, model: str, messages: Sequence[Message], manner: Manner) -> Iterator[Part]:
        """The answer, as it comes. Closing the iterator stops it. Raises ValueError in words."""


class Server:
    """An OpenAI-compatible server at a URL such as http://127.0.0.1:8000."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._session = requests.Session()
        self._session.trust_env = False
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def models(self) -> list[str]:
        """The ids at /v1/models."""
        with closing(self._ask("GET", "/v1/models")) as response:
            return [card["id"] for card in response.json()["data"]]

    def answer(self, model: str, messages: Sequence[Message], manner: Manner) -> Iterator[Part]:
        """A streamed chat completion."""
        body = {"model": model, "messages": list(messages), "stream": True, "temperature": manner.temperature}
        if manner.thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": manner.thinking}
        with closing(self._ask("POST", "/v1/chat/completions", body)) as response:
            try:
                for line in response.iter_lines(chunk_size=1):
                    if line.startswith(b"data: ") and line != b"data: [DONE]":
                        yield from _parts(json.loads(line[6:]))
            except requests.RequestException:
                raise ValueError(_say("the connection broke off; the answer is incomplete")) from None

    def _ask(self, method: str, path: str, body: Message | None = None) -> requests.Response:
        try:
            response = self._session.request(method, self.url + path, json=body, stream=True, timeout=(5, 600))
        except requests.RequestException:
            raise ValueError(f"{_say('no server answers at')} {self.url}: minimind serve") from None
        if response.ok:
            return response
        with closing(response):
            try:
                raise ValueError(response.json()["error"]["message"])
            except (requests.JSONDecodeError, KeyError, TypeError):
                raise ValueError(f"{self.url}{path}: HTTP {response.status_code}") from None


class InProcess:
    """A model loaded into this process."""

    def __init__(self) -> None:
        self._loaded: tuple[str, Any, Any] | None = None

    def models(self) -> list[str]:
        """The runs that have come to their end, the newest first."""
        rows = list_runs(paths.runs())
        return [row.name for row in rows if row.state.word == "SUCCEEDED" and row.stage != "tokenizer"]

    def answer(self, model: str, messages: Sequence[Message], manner: Manner) -> Iterator[Part]:
        """The answer of an engine with one slot."""
        from minimind.chat import StreamParser, ends_in_thought, render
        from minimind.sampling import SamplingParams

        engine, tokenizer = self._engine(model)
        prompt = render(tokenizer, messages, thinking=manner.thinking, add_generation_prompt=True).ids
        room = engine.context_tokens - len(prompt)
        if room < 1:
            raise ValueError(
                f"{len(prompt)} / {engine.context_tokens} tokens: {_say('the conversation is too long; /new')}"
            )
        stop_ids = (tokenizer.eos_id, tokenizer.pad_id)
        parser = StreamParser(tokenizer, thinking=ends_in_thought(tokenizer, prompt))
        params = SamplingParams(min(room, MAX_TOKENS), temperature=manner.temperature, stop_ids=stop_ids)
        request = engine.add(prompt, params)
        try:
            while engine.busy:
                for event in engine.step():
                    if event.error:
                        raise ValueError(event.error)
                    deltas = parser.push(event.token_id) if event.token_id not in (None, *stop_ids) else []
                    yield from (Part(delta.kind, delta.text) for delta in deltas)
            yield from (Part(delta.kind, delta.text) for delta in parser.finish())
        finally:
            engine.cancel(request)

    def _engine(self, model: str) -> tuple[Any, Any]:
        from minimind.checkpoint import load_model
        from minimind.engine import Engine

        if self._loaded is None or self._loaded[0] != model:
            weights, tokenizer, _ = load_model(references.resolve(model))
            context = min(2048, weights.config.max_position_embeddings)
            self._loaded = (model, Engine(weights, slots=1, context_tokens=context), tokenizer)
        return self._loaded[1], self._loaded[2]


@dataclass
class Conversation:
    """What has been said, and how to go on."""

    answerer: Answerer
    model: str
    system: str = ""
    manner: Manner = Manner()
    turns: list[Message] = field(default_factory=list)

    @property
    def messages(self) -> list[Message]:
        """All of it, with the system prompt in front."""
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.turns]

    def ask(self, text: str, console: Console) -> None:
        """Say something and show the answer as it comes. Ctrl-C stops it; what had come stays said."""
        self.turns.append({"role": "user", "content": text})
        said: dict[str, str] = {}
        parts = self.answerer.answer(self.model, self.messages, self.manner)
        try:
            for part in parts:
                if part.kind == "content" and said.get("reasoning") and not said.get("content"):
                    console.print("\n")
                said[part.kind] = said.get(part.kind, "") + part.text
                style = None if part.kind == "content" else "dim italic" if part.kind == "reasoning" else "cyan"
                console.print(part.text, end="", style=style, markup=False, highlight=False, soft_wrap=True)
            console.print()
        except KeyboardInterrupt:
            console.print(f"\n[dim]{_say('stopped')}[/]", markup=True)
        except ValueError as error:
            console.print(f"\n[red]{escape(str(error))}[/]", markup=True)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        if said:
            answer: Message = {"role": "assistant", "content": said.get("content", "")}
            if reasoning := said.get("reasoning"):
                answer["reasoning_content"] = reasoning
            self.turns.append(answer)
        else:
            self.turns.pop()  # unanswered: asking again begins where this began

    def command(self, line: str, console: Console) -> bool:
        """A line that begins with a slash. False: leave."""
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        match name:
            case "exit" | "quit" | "q":
                return False
            case "help" | "?":
                console.print(_say(_HELP))
            case "new":
                self.turns.clear()
                console.print(_say("A new conversation."))
            case "model":
                known = self.answerer.models()
                if rest:
                    self.model = rest
                else:
                    console.print("  ".join(known) or _say("There is no model yet: minimind train"))
                console.print(f"{_say('model')}: {self.model}")
            case "system":
                self.system = rest
                self.turns.clear()
                console.print(f"{_say('system prompt')}: {rest or _say('none')}", markup=False)
            case "think":
                if rest in ("on", "off", "auto"):
                    self.manner = replace(self.manner, thinking={"on": True, "off": False, "auto": None}[rest])
                shown = {True: "on", False: "off", None: "auto"}[self.manner.thinking]
                console.print(f"{_say('thinking')}: {shown}   (/think on|off|auto)")
            case "temperature":
                try:
                    self.manner = replace(self.manner, temperature=temperature(rest)) if rest else self.manner
                except ValueError as error:
                    console.print(f"[red]{escape(str(error))}[/]", markup=True)
                console.print(f"{_say('temperature')}: {self.manner.temperature}")
            case _:
                console.print(f"/{name}: {_say('no such command')}; /help", markup=False)
        return True


def temperature(text: str) -> float:
    """The number in a text. Raises ValueError for one that is no temperature."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise ValueError(f"{_say('temperature')} {text!r}: {_say('a number from 0 (always the likeliest word) to 2')}")
    return value


def add_parser(verbs: argparse._SubParsersAction[Any]) -> None:
    """The verb `chat`."""
    parser = verbs.add_parser("chat", help="talk with a model in the terminal")
    parser.add_argument("model", nargs="?", help="a run, run@step, run@latest or run@best (default: the newest)")
    parser.add_argument("--url", help="a server (default: the running one; without one the model is loaded here)")
    parser.add_argument("--system", default="", help="system prompt")
    parser.add_argument(
        "--temperature",
        metavar="X",
        default=str(TEMPERATURE),
        help=f"0 always takes the likeliest word, 2 is the wildest (default: {TEMPERATURE})",
    )
    parser.set_defaults(command=chat)


def chat(args: argparse.Namespace, console: Console) -> int:
    """Lines from the terminal, one after the other, until /exit or Ctrl-D."""
    manner = Manner(temperature(args.temperature))
    address = args.url or running_url()
    answerer: Answerer = Server(address, os.environ.get("MINIMIND_API_KEY")) if address else InProcess()
    known = answerer.models()
    if not known and args.model is None:
        raise ValueError(_say("There is no model yet: minimind train"))
    conversation = Conversation(answerer, args.model or known[0], args.system, manner)
    where = escape(address or _say("in this process"))
    console.print(f"[bold]{escape(conversation.model)}[/]  [dim]{where}   {_say('/help')}[/]", markup=True)
    prompt = "[bold green]> [/]" if sys.stdin.isatty() else ""
    while True:
        try:
            line = console.input(prompt).strip()
        except EOFError:
            return 0
        if line.startswith("/"):
            if not conversation.command(line, console):
                return 0
        elif line:
            conversation.ask(line, console)


def _parts(chunk: Message) -> Iterator[Part]:
    if "error" in chunk:
        raise ValueError(chunk["error"]["message"])
    for choice in chunk["choices"]:
        delta = choice["delta"]
        for kind, text in (("reasoning", delta.get("reasoning_content")), ("content", delta.get("content"))):
            if text:
                yield Part(kind, text)
        for call in delta.get("tool_calls") or ():
            yield Part("tool_call", call["function"].get("name", "") + call["function"].get("arguments", ""))


_HELP = """\
/model [NAME]          show the models, or take another one
/system TEXT           give the model a role, and begin anew
/think on|off|auto     let the model think before it answers
/temperature X         0 always takes the likeliest word, 2 is the wildest
/new                   forget what was said
/exit                  leave (also Ctrl-D); Ctrl-C stops an answer"""

_ZH = {
    _HELP: """\
/model [名称]          列出模型，或切换模型
/system 文本           设置系统提示词，并重新开始对话
/think on|off|auto     回答前是否先思考
/temperature X         采样温度：0 总选最可能的词，2 最随意
/new                   清空对话
/exit                  退出（也可按 Ctrl-D）；Ctrl-C 停止当前回答""",
    "stopped": "已停止",
    "model": "模型",
    "system prompt": "系统提示词",
    "thinking": "思考",
    "temperature": "采样温度",
    "a number from 0 (always the likeliest word) to 2": "应为 0（总选最可能的词）到 2 之间的数",
    "none": "无",
    "/help": "输入 /help 查看命令",
    "in this process": "在本进程中运行",
    "no such command": "没有这个命令",
    "A new conversation.": "已开始新对话。",
    "There is no model yet: minimind train": "还没有模型：请先用 minimind train 训练",
    "no server answers at": "服务没有响应：",
    "the connection broke off; the answer is incomplete": "连接中断，回答不完整",
    "the conversation is too long; /new": "对话太长，请输入 /new 重新开始",
}


def _say(text: str) -> str:
    return _ZH[text] if language() == "zh" else text
