"""`minimind chat`: talk with a model in the terminal, through a running server or, without one, in this process.

A model that has not learnt to answer is not talked with: each line is the beginning of a text, and it goes on.
"""

from __future__ import annotations

import argparse
import codecs
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import requests
from rich.console import Console
from rich.markup import escape

from jobs import paths
from jobs.runs import references
from jobs.runs.directory import RunDirectory
from jobs.serving.keys import read_key
from jobs.serving.serve import running_url
from jobs.terminal.words import language

Message = dict[str, Any]

MAX_TOKENS = 1024
"""Longest answer without a server, in tokens."""

CONTINUED_TOKENS = 128
"""How far a model that only continues text goes on, in tokens: it may know no end."""


@dataclass(frozen=True)
class Model:
    """A model that can be talked to.

    chat: whether it has learnt to answer. temperature: its own, None where that is not known. weights: equal for equal
    weights, "" where they are not known.
    """

    id: str
    chat: bool = True
    temperature: float | None = None
    weights: str = ""


@dataclass(frozen=True)
class Manner:
    """How to answer. None leaves it to the model."""

    temperature: float | None = None
    thinking: bool | None = None


@dataclass(frozen=True)
class Part:
    """What comes of an answer. kind: "reasoning", "content" or "tool_call"."""

    kind: str
    text: str


class Answerer(Protocol):
    """Whoever answers."""

    def models(self) -> list[Model]:
        """What can be talked to: first what has learnt to answer, and the newest of that."""

    def find(self, name: str) -> Model:
        """The model of this name. Raises ValueError that lists what there is."""

    def answer(self, model: str, messages: Sequence[Message], manner: Manner) -> Iterator[Part]:
        """The answer, as it comes. Closing the iterator stops it. Raises ValueError in words."""

    def go_on(self, model: str, text: str, manner: Manner) -> Iterator[Part]:
        """How a text goes on, as `answer` gives an answer."""


class Server:
    """An OpenAI-compatible server at a URL such as http://127.0.0.1:8000."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/").removesuffix("/v1")
        self._session = requests.Session()
        self._session.trust_env = False
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def models(self) -> list[Model]:
        """What is at /v1/models. Servers of other makers say no more than the ids."""
        with closing(self._ask("GET", "/v1/models")) as response:
            try:
                return [_model(card) for card in response.json()["data"] or ()]
            except (requests.JSONDecodeError, LookupError, TypeError, AttributeError):
                raise ValueError(f"{self.url}/v1/models: {_say('no list of models')}") from None

    def find(self, name: str) -> Model:
        """The model of this name; of a run's @latest and @best what is said of the run."""
        run, _, which = name.partition("@")
        for model in self.models():
            if model.id == name or (which in ("latest", "best") and model.id.partition("@")[0] == run):
                return replace(model, id=name)
        with closing(self._ask("GET", f"/v1/models/{quote(name, safe='')}")) as response:
            return _model(response.json())

    def answer(self, model: str, messages: Sequence[Message], manner: Manner) -> Iterator[Part]:
        """A streamed chat completion."""
        more = {} if manner.thinking is None else {"chat_template_kwargs": {"enable_thinking": manner.thinking}}
        return self._stream("/v1/chat/completions", {"model": model, "messages": list(messages), **more}, manner)

    def go_on(self, model: str, text: str, manner: Manner) -> Iterator[Part]:
        """A streamed completion."""
        body = {"model": model, "prompt": text, "max_tokens": CONTINUED_TOKENS, "add_special_tokens": True}
        return self._stream("/v1/completions", body, manner)

    def _stream(self, path: str, body: Message, manner: Manner) -> Iterator[Part]:
        how = {} if manner.temperature is None else {"temperature": manner.temperature}
        with closing(self._ask("POST", path, {**body, **how, "stream": True})) as response:
            try:
                for line in response.iter_lines(chunk_size=1):
                    data = line.removeprefix(b"data:").strip()
                    if line.startswith(b"data:") and data != b"[DONE]":
                        yield from _parts(json.loads(data))
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

    def __init__(self, place: Callable[[str], Path] = paths.absolute) -> None:
        """place: the absolute form of a folder's path."""
        self._place = place
        self._loaded: tuple[str, Any, Any, Any] | None = None

    def models(self) -> list[Model]:
        """The checkpoints of all runs."""
        from jobs.serving.models import model_cards

        return [
            Model(card.id, card.chat, card.sampling["temperature"], card.weights) for card in model_cards(paths.runs())
        ]

    def find(self, name: str) -> Model:
        """The model of a run, or of a folder with a slash in it."""
        from jobs.serving.models import learnt_to_answer
        from minimind.checkpoint import read_sampling

        folder = self._folder(name)
        run = RunDirectory(folder.parent.parent)
        sampling = read_sampling(folder)
        return Model(name, not run.exists or learnt_to_answer(run), sampling.temperature if sampling else None)

    def _folder(self, name: str) -> Path:
        return references.resolve(str(self._place(name)) if paths.is_path(name) else name)

    def answer(self, model: str, messages: Sequence[Message], manner: Manner) -> Iterator[Part]:
        """The answer of an engine with one slot."""
        from minimind.chat import StreamParser, ends_in_thought, render

        _, tokenizer, _ = self._engine(model)
        prompt = render(tokenizer, messages, thinking=manner.thinking, add_generation_prompt=True).ids
        parser = StreamParser(tokenizer, thinking=ends_in_thought(tokenizer, prompt))
        for token_id in self._generate(model, prompt, MAX_TOKENS, manner):
            yield from (Part(delta.kind, delta.text) for delta in parser.push(token_id))
        yield from (Part(delta.kind, delta.text) for delta in parser.finish())

    def go_on(self, model: str, text: str, manner: Manner) -> Iterator[Part]:
        """The continuation of an engine with one slot."""
        from jobs.stages.pretrain import beginning

        _, tokenizer, _ = self._engine(model)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a token may be half a character
        for token_id in self._generate(model, beginning(tokenizer, text), CONTINUED_TOKENS, manner):
            yield Part("content", decoder.decode(tokenizer.decode_bytes((token_id,))))
        yield Part("content", decoder.decode(b"", final=True))

    def _generate(self, model: str, prompt: list[int], most: int, manner: Manner) -> Iterator[int]:
        """The ids of the answer, without the one that ends it. Raises ValueError for an answer that fails."""
        from minimind.sampling import SamplingParams

        engine, tokenizer, sampling = self._engine(model)
        room = engine.context_tokens - len(prompt)
        if room < 1:
            raise ValueError(
                f"{len(prompt)} / {engine.context_tokens} tokens: {_say('the conversation is too long; /new')}"
            )
        how = sampling if manner.temperature is None else {**sampling, "temperature": manner.temperature}
        stop_ids = (tokenizer.eos_id, tokenizer.pad_id)
        request = engine.add(prompt, SamplingParams(min(room, most), stop_ids=stop_ids, **how))
        try:
            while engine.busy:
                for event in engine.step():
                    if event.error:
                        raise ValueError(event.error)
                    if event.token_id is not None and event.token_id not in stop_ids:
                        yield event.token_id
        finally:
            engine.cancel(request)

    def _engine(self, model: str) -> tuple[Any, Any, dict[str, Any]]:
        from dataclasses import asdict

        from minimind.checkpoint import load_model, read_sampling
        from minimind.engine import Engine
        from minimind.sampling import Sampling

        if self._loaded is None or self._loaded[0] != model:
            folder = self._folder(model)
            weights, tokenizer, _ = load_model(folder)
            context = min(2048, weights.config.max_position_embeddings)
            engine = Engine(weights, slots=1, context_tokens=context)
            self._loaded = (model, engine, tokenizer, asdict(read_sampling(folder) or Sampling()))
        return self._loaded[1:]


@dataclass
class Conversation:
    """What has been said, and how to go on. failed: whether a question got no answer."""

    answerer: Answerer
    model: Model
    system: str = ""
    manner: Manner = Manner()
    turns: list[Message] = field(default_factory=list)
    failed: bool = False

    @property
    def messages(self) -> list[Message]:
        """All of it, with the system prompt in front."""
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.turns]

    def ask(self, text: str, console: Console) -> None:
        """Say something and show the answer as it comes; a model that continues text gets `text` as a beginning.

        Ctrl-C stops it; what had come stays said.
        """
        if not self.model.chat:
            _show(text, console)
            self._show(self.answerer.go_on(self.model.id, text, self.manner), console)
            return
        self.turns.append({"role": "user", "content": text})
        said = self._show(self.answerer.answer(self.model.id, self.messages, self.manner), console)
        if said:
            answer: Message = {"role": "assistant", "content": said.get("content", "")}
            if reasoning := said.get("reasoning"):
                answer["reasoning_content"] = reasoning
            self.turns.append(answer)
        else:
            self.turns.pop()  # unanswered: asking again begins where this began

    def _show(self, parts: Iterator[Part], console: Console) -> dict[str, str]:
        """Shows what comes, and gives it by kind."""
        said: dict[str, str] = {}
        try:
            for part in parts:
                if part.kind == "content" and said.get("reasoning") and not said.get("content"):
                    console.print("\n")
                said[part.kind] = said.get(part.kind, "") + part.text
                _show(part.text, console, _STYLES.get(part.kind))
            console.print()
        except KeyboardInterrupt:
            console.print(f"\n[dim]{_say('stopped')}[/]", markup=True)
        except ValueError as error:
            self.failed = True
            console.print(f"\n[red]{escape(str(error))}[/]", markup=True)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        return said

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
                self._choose(rest, console)
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
                console.print(f"{_say('temperature')}: {self._temperature()}   (/temperature X|auto)")
            case _:
                console.print(f"/{name}: {_say('no such command')}; /help", markup=False)
        return True

    def _choose(self, name: str, console: Console) -> None:
        """Take the model of this name, or without one show what there is."""
        try:
            if name:
                self.model = self.answerer.find(name)
            else:
                _list(self.answerer.models(), console)
        except ValueError as error:
            console.print(f"[red]{escape(str(error))}[/]", markup=True)
        console.print(f"{_say('model')}: {self.model.id}")
        if name and not self.model.chat:
            introduce(self.model, console)

    def _temperature(self) -> str:
        if self.manner.temperature is not None:
            return str(self.manner.temperature)
        own = "" if self.model.temperature is None else f"{self.model.temperature:g} "
        return f"{own}({_say('of the model')})"


_STYLES = {"reasoning": "dim italic", "tool_call": "cyan"}


def _show(text: str, console: Console, style: str | None = None) -> None:
    console.print(text, end="", style=style)


def _list(models: Sequence[Model], console: Console) -> None:
    """One line for each model: what it is, and of which it is another name."""
    first: dict[str, str] = {}
    for model in models:
        same = first.setdefault(model.weights, model.id) if model.weights else model.id
        notes = [*([f"{_say('the same as')} {same}"] if same != model.id else [])]
        notes += [] if model.chat else [_say("continues text")]
        note = f"   [dim]{escape(', '.join(notes))}[/]" if notes else ""
        console.print(f"  {escape(model.id)}{note}", markup=True)
    if not models:
        console.print(_say(_NO_MODEL))


def introduce(model: Model, console: Console) -> None:
    """Says what a model is that has not learnt to answer, and what teaches it."""
    run = model.id.partition("@")[0]
    console.print(f"[yellow]{_say('It has not learnt to answer: it goes on with the text you begin.')}[/]", markup=True)
    console.print(f"{_say('To teach it')}: minimind train sft --from_weight {run} --data_path YOUR.jsonl")


def temperature(text: str) -> float | None:
    """The number in a text; None of "auto". Raises ValueError for one that is no temperature."""
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise ValueError(f"{_say('temperature')} {text!r}: {_say('a number from 0 (always the likeliest word) to 2')}")
    return value


def add_parser(verbs: argparse._SubParsersAction[Any], place: Callable[[str], Path] = paths.absolute) -> None:
    """The verb `chat`. place: the absolute form of a path on the command line."""
    parser = verbs.add_parser("chat", help="talk with a model in the terminal")
    parser.add_argument(
        "model",
        nargs="?",
        help="a run, run@step, run@latest, run@best, or a checkpoint's ./folder (default: the newest that has learnt "
        "to answer)",
    )
    parser.add_argument("--url", help="a server (default: the running one; without one the model is loaded here)")
    parser.add_argument("--system", default="", help="system prompt")
    parser.add_argument(
        "--temperature",
        metavar="X",
        default="auto",
        help="0 always takes the likeliest word, 2 is the wildest (default: auto, what the model's checkpoint says)",
    )
    parser.set_defaults(command=chat, place=place)


def chat(args: argparse.Namespace, console: Console) -> int:
    """Lines from the terminal, one after the other, until /exit or Ctrl-D.

    Gives 1 if a question that did not come from a terminal got no answer. Raises ValueError for a model, server or
    setting that there is not.
    """
    manner = Manner(temperature(args.temperature))
    a_folder = args.model is not None and paths.is_path(args.model)  # which no server knows
    address = args.url or (None if a_folder else running_url())
    answerer: Answerer = Server(address, read_key(os.environ)) if address else InProcess(args.place)
    if args.model is not None:
        model = answerer.find(args.model)
    else:
        known = answerer.models()
        if not known:
            raise ValueError(_say(_NO_MODEL))
        model = known[0]
    conversation = Conversation(answerer, model, args.system, manner)
    _be_lenient()
    where = escape(address or _say("in this process"))
    console.print(f"[bold]{escape(model.id)}[/]  [dim]{where}   {_say('/help')}[/]", markup=True)
    if not model.chat:
        introduce(model, console)
    prompt = "[bold green]> [/]" if sys.stdin.isatty() else ""
    while True:
        try:
            line = console.input(prompt).strip()
        except EOFError:
            break
        if broken := _undecodable(line):
            conversation.failed = True
            console.print(f"[red]{broken}[/]", markup=True)
        elif line.startswith("/"):
            if not conversation.command(line, console):
                break
        elif line:
            conversation.ask(line, console)
    return int(conversation.failed and not sys.stdin.isatty())


def _be_lenient() -> None:
    """Bytes that are no text must not end the conversation: such a line is refused."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def _undecodable(line: str) -> str:
    """What is wrong with a line that holds bytes which are no text; "" of any other."""
    bad = next((sign for sign in line if "\ud800" <= sign <= "\udfff"), None)
    if bad is None:
        return ""
    byte = f" (0x{ord(bad) & 0xFF:02x})" if "\udc80" <= bad <= "\udcff" else ""
    encoding = str(getattr(sys.stdin, "encoding", None) or "utf-8").upper()
    return f"{_say('That line was not sent: it is not all text in')} {encoding}{byte}. {_say('Check the terminal.')}"


def _model(card: Message) -> Model:
    """A model of /v1/models."""
    more = card.get("minimind") or {}
    own = (more.get("sampling") or {}).get("temperature")
    return Model(card["id"], more.get("chat", True) is not False, own, more.get("weights", ""))


def _parts(chunk: Message) -> Iterator[Part]:
    """What an event of a stream brings. Other servers leave out what is empty, or send null."""
    if error := chunk.get("error"):
        raise ValueError(error["message"] if isinstance(error, dict) else str(error))
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or choice
        texts = (
            ("reasoning", delta.get("reasoning_content") or delta.get("reasoning")),
            ("content", delta.get("content")),
            ("content", delta.get("text")),
        )
        for kind, text in texts:
            if text:
                yield Part(kind, text)
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            yield Part("tool_call", (function.get("name") or "") + (function.get("arguments") or ""))


_NO_MODEL = "There is no model yet: minimind train"

_HELP = """\
/model [NAME]          show the models, or take another one
/system TEXT           give the model a role, and begin anew
/think on|off|auto     let the model think before it answers
/temperature X         0 always takes the likeliest word, 2 is the wildest; auto: what the model's checkpoint says
/new                   forget what was said
/exit                  leave (also Ctrl-D); Ctrl-C stops an answer"""

_ZH = {
    _HELP: """\
/model [名称]          列出模型，或切换模型
/system 文本           设置系统提示词，并重新开始对话
/think on|off|auto     回答前是否先思考
/temperature X         采样温度：0 总选最可能的词，2 最随意；auto 用检查点自带的值
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
    _NO_MODEL: "还没有模型：请先用 minimind train 训练",
    "of the model": "模型自带",
    "the same as": "等同于",
    "continues text": "只会续写",
    "It has not learnt to answer: it goes on with the text you begin.": "它还不会对话，只会续写：你写开头，它接着写。",
    "To teach it": "教会它回答",
    "That line was not sent: it is not all text in": "这一行没有发送，其中有些字节不是这种编码的文字：",
    "Check the terminal.": "请检查终端的编码设置。",
    "no server answers at": "服务没有响应：",
    "no list of models": "没有返回模型列表",
    "the connection broke off; the answer is incomplete": "连接中断，回答不完整",
    "the conversation is too long; /new": "对话太长，请输入 /new 重新开始",
}


def _say(text: str) -> str:
    return _ZH[text] if language() == "zh" else text
