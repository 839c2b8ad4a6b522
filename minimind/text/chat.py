"""Messages into token ids with their loss mask, and the ids of an answer back into a message, as they come.

A conversation is ChatML: <|im_start|>, the role, a new line, the turn, <|im_end|> and a new line. An answer is what the
model thinks, in <think> tags, if it does; what it says; and what it calls, each as JSON in <tool_call> tags. Thoughts
and words have no white space at their ends: so no token of an answer reaches into the prompt, and the prompt that a
server makes is, id for id, the one that was learnt from.

A tokenizer that came with a chat template of its own is asked, and taught, by that (minimind.text.foreign).
"""

from __future__ import annotations

import codecs
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from minimind.config import json_problem
from minimind.language import say
from minimind.text.foreign import render_foreign
from minimind.text.template import MAY_FOLLOW, TOOLS_HEAD, TOOLS_TAIL, Escaping, escaping_for, order_problem
from minimind.text.tokenizer import BOS_TOKEN, EOS_TOKEN, MARKUP_TOKENS, Tokenizer, encodable

Message = Mapping[str, Any]
"""One turn: role, content; an assistant's reasoning_content, tool_calls and learn; a system's tools. See `render`."""

Kind = Literal["reasoning", "content", "tool_call"]

_TAG = re.compile("(" + "|".join(map(re.escape, (BOS_TOKEN, EOS_TOKEN, *MARKUP_TOKENS))) + ")")
_ANSWER = f"{BOS_TOKEN}assistant\n"
_THINKING = {None: "", True: "<think>\n", False: "<think>\n\n</think>\n\n"}
_OPENS: dict[str, Kind] = {"<think>": "reasoning", "<tool_call>": "tool_call"}
_CLOSES: dict[str, Kind] = {"</think>": "reasoning", "</tool_call>": "tool_call"}

# A call as the template writes it; its arguments are handed on as they were written.
_CALL = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:(.*)\}\s*', re.DOTALL)


class Rendered(NamedTuple):
    """Token ids, and for each whether it is a target: what an assistant thinks, says and calls, and its <|im_end|>."""

    ids: list[int]
    loss_mask: list[bool]


def chat_template(tokenizer: Tokenizer) -> str:
    """The template as Jinja, which `Tokenizer.save` writes; transformers makes of it the ids that `render` makes."""
    return tokenizer.chat_template


def render(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    thinking: bool | None = None,
    add_generation_prompt: bool = False,
) -> Rendered:
    """A conversation as token ids. There is no token in front of the first turn.

    messages: each with a role (system, user, assistant, tool) and content, text or null. An assistant's may have
        reasoning_content and tool_calls, a list of {"name", "arguments"} or OpenAI's {"type", "function": {"name",
        "arguments"}}; arguments are an object, or its JSON as text. Where its `learn` is False it is no target. A
        system's may have tools, which come first.
    tools: what can be called, in OpenAI's form: {"type": "function", "function": {"name", ...}}.
    thinking: whether the answer that `add_generation_prompt` asks for begins with its thoughts, has none, or as the
        model likes (None).

    Text that reads like a special token stays text: a joiner goes into it (minimind.text.template).

    Raises ValueError with the number of the message for a shape or an order that a conversation can't have, for a
    tokenizer without the tags, and for what a template that came with a tokenizer refuses.
    """
    if missing := [token for token in MARKUP_TOKENS if token not in tokenizer.special_ids]:
        raise ValueError(
            say(
                "this tokenizer has no special tokens {missing}, which a chat needs; train one",
                missing=" ".join(missing),
            )
        )
    plain = escaping_for(tuple(tokenizer.special_ids))
    written = list(_written(plain, messages, tools, thinking, add_generation_prompt))
    if tokenizer.foreign_template is not None:
        return Rendered(*render_foreign(tokenizer, messages, tools, thinking, add_generation_prompt))
    ids: list[int] = []
    loss_mask: list[bool] = []
    for text, target in written:
        # Other programs find the tags in the whole text and encode what is between them; so does this.
        for piece in filter(None, _TAG.split(text)):
            new = [tokenizer.special_ids[piece]] if _TAG.fullmatch(piece) else tokenizer.encode(piece)
            ids.extend(new)
            loss_mask.extend([target] * len(new))
    return Rendered(ids, loss_mask)


def after_calls(tokenizer: Tokenizer, results: Sequence[str]) -> list[int]:
    """What stands between an answer that calls tools, its <|im_end|> included, and the answer that follows: their
    results, one of each call, and the header of the assistant's turn. So that what was written so far, with this behind
    it, is the prompt that `render` makes of the longer conversation, where the answer was written as it writes one.

    Raises ValueError as `render` does.
    """
    calls = [{"name": "f", "arguments": {}} for _ in results]
    called: list[Message] = [{"role": "user", "content": "…"}, {"role": "assistant", "tool_calls": calls}]
    told = [{"role": "tool", "content": result} for result in results]
    rendered = render(tokenizer, [*called, *told], add_generation_prompt=True)
    last = max(at for at, target in enumerate(rendered.loss_mask) if target)
    return rendered.ids[last + 1 :]


def require_renderable(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, add_generation_prompt: bool = False
) -> None:
    """Raise the ValueError that `render` would raise for a conversation, without a tokenizer."""
    for _ in _written(escaping_for(()), messages, tools, None, add_generation_prompt):
        pass


def _written(
    plain: Escaping,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    thinking: bool | None,
    add_generation_prompt: bool,
) -> Iterator[tuple[str, bool]]:
    """The text of a conversation in parts, each with whether it is a target."""
    _require_order(messages, add_generation_prompt)
    system = messages[0] if messages[0]["role"] == "system" else {}
    with _naming("messages.0"):
        instructions = plain.escape(_text(system, "content"))
        own_tools = _tool_lines(plain, _objects(system, "tools"))
    with _naming("tools"):
        yield _system(instructions, own_tools + _tool_lines(plain, tools)), False
    for number, message in enumerate(messages):
        with _naming(f"messages.{number}"):
            content = _text(message, "content")
            match message["role"]:
                case "user":
                    yield f"{BOS_TOKEN}user\n{plain.escape(content)}{EOS_TOKEN}\n", False
                case "assistant":
                    yield _ANSWER, False
                    yield _answer(plain, content, message), bool(message.get("learn", True))
                    yield "\n", False
                case "tool":
                    first = messages[number - 1]["role"] != "tool"
                    last = number + 1 == len(messages) or messages[number + 1]["role"] != "tool"
                    yield f"{BOS_TOKEN}user" if first else "", False
                    yield f"\n<tool_response>\n{plain.escape(content)}\n</tool_response>", False
                    yield f"{EOS_TOKEN}\n" if last else "", False
    if add_generation_prompt:
        yield _ANSWER + _THINKING[thinking], False


@dataclass(frozen=True, slots=True)
class Delta:
    """What an answer grew by. `text` is to be added to what came before of its kind.

    A tool call comes whole, once its JSON is known to be good: text is its arguments as JSON, `index` numbers the calls
    of an answer from 0, `id` is new for each call, `name` is the tool's. The other kinds have none of these.
    """

    kind: Kind
    text: str
    index: int = 0
    id: str | None = None
    name: str | None = None


class StreamParser:
    """An answer's token ids into what is thought, said and called, as they come.

    Only a tag's own id is a tag: "<think>" in letters is text. A delta never has a special token, half a character (its
    bytes wait for the rest; what never becomes one shows as U+FFFD) or white space at either end of the whole. A call
    that isn't the template's JSON comes as content. How text is cut into ids doesn't change what the deltas add up to.

    thinking: the prompt ended in an open <think>.
    """

    def __init__(self, tokenizer: Tokenizer, thinking: bool = False) -> None:
        self._tokenizer = tokenizer
        self._special = {token_id: token for token, token_id in tokenizer.special_ids.items()}
        self._plain = escaping_for(tuple(tokenizer.special_ids))
        self._inside: Kind = "reasoning" if thinking else "content"
        self._texts: dict[Kind, _Text] = {"reasoning": _Text(self._plain), "content": _Text(self._plain)}
        self._call = bytearray()
        self._calls = 0

    def push(self, token_id: int) -> list[Delta]:
        """What the next id adds; often nothing yet."""
        tag = self._special.get(token_id)
        if tag is None:
            data = self._tokenizer.decode_bytes([token_id])
            if self._inside == "tool_call":
                self._call += data
                return []
            return _deltas(self._inside, self._texts[self._inside].add(data))
        if tag not in _OPENS and _CLOSES.get(tag) != self._inside:
            return []
        deltas = self.finish()
        self._inside = _OPENS.get(tag, "content")
        return deltas

    def finish(self) -> list[Delta]:
        """What was held back, once no id follows. A call without its closing tag counts if its JSON is whole."""
        if self._inside != "tool_call":
            return _deltas(self._inside, self._texts[self._inside].end())
        data, self._call = bytes(self._call), bytearray()
        call = read_call(self._plain.unescape(data.decode("utf-8", errors="replace")))
        if call is None:
            content = self._texts["content"]
            return _deltas("content", content.add(data) + content.end())
        name, arguments = call
        self._calls += 1
        return [Delta("tool_call", arguments, self._calls - 1, f"call_{uuid.uuid4().hex}", name)]


def ends_in_thought(tokenizer: Tokenizer, prompt: Sequence[int]) -> bool:
    """Whether an answer to this prompt begins inside a thought: the prompt's last tag of any kind is <think>."""
    special = {token_id: token for token, token_id in tokenizer.special_ids.items()}
    return next((special[token_id] for token_id in reversed(prompt) if token_id in special), "") == "<think>"


def parse(tokenizer: Tokenizer, ids: Iterable[int], thinking: bool = False) -> dict[str, Any]:
    """An answer's token ids as a whole message: content, reasoning_content and tool_calls in OpenAI's form."""
    parser = StreamParser(tokenizer, thinking)
    deltas = [delta for token_id in ids for delta in parser.push(token_id)] + parser.finish()
    return {
        "role": "assistant",
        "content": "".join(delta.text for delta in deltas if delta.kind == "content"),
        "reasoning_content": "".join(delta.text for delta in deltas if delta.kind == "reasoning"),
        "tool_calls": [
            {"id": delta.id, "type": "function", "function": {"name": delta.name, "arguments": delta.text}}
            for delta in deltas
            if delta.kind == "tool_call"
        ],
    }


class _Text:
    """Bytes of one kind, as they come, into the text that is certain."""

    def __init__(self, plain: Escaping) -> None:
        self._plain = plain
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = False  # whether there was anything but white space
        self._held = ""  # may be the beginning of a broken name
        self._spaces = ""  # may be the end

    def add(self, data: bytes) -> str:
        text = self._held + self._decoder.decode(data)
        certain = len(text) - self._plain.unfinished(text)
        self._held = text[certain:]
        return self._trimmed(text[:certain])

    def end(self) -> str:
        """The rest before a tag, where nothing can be completed any more; more may follow after it."""
        text = self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        return self._trimmed(text)

    def _trimmed(self, text: str) -> str:
        text = self._spaces + self._plain.unescape(text)
        text = text if self._begun else text.lstrip()
        body = text.rstrip()
        self._begun = self._begun or bool(body)
        self._spaces = text[len(body) :]
        return body


def _deltas(kind: Kind, text: str) -> list[Delta]:
    return [Delta(kind, text)] if text else []


def read_call(text: str) -> tuple[str, str] | None:
    """The name and the arguments, as they were written, of a call as the template writes it; None if it isn't one."""
    match = _CALL.fullmatch(text)
    if match is None:
        return None
    try:
        name: str = json.loads(match[1])
        name.encode()  # JSON can write half a surrogate pair
        _require_json_object(match[2])
    except ValueError:
        return None
    return (name, match[2].strip()) if name else None


@contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(say("{name}: {value}", name=where, value=error)) from None


def _require_order(messages: Sequence[Message], add_generation_prompt: bool) -> None:
    if not messages:
        raise ValueError(say("messages is empty: a conversation has at least one message"))
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ValueError(
                say(
                    "messages.{number} is a {type}: a message has a role and content",
                    number=number,
                    type=type(message).__name__,
                )
            )
    roles = [message.get("role") for message in messages]
    if problem := order_problem([str(role) for role in roles]):
        raise ValueError(say("{name}: {value}", name="messages", value=problem))
    if add_generation_prompt and "assistant" not in MAY_FOLLOW[str(roles[-1])]:
        raise ValueError(
            say(
                "messages: turn {number}, the last, is {role}; an answer follows a user's turn or a tool's",
                number=len(roles),
                role=roles[-1],
            )
        )


def _text(message: Message, field: str) -> str:
    value = message.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(say("{field} is a {type}; allowed are text and null", field=field, type=type(value).__name__))
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            say(
                "{field}: character {start} is half a surrogate pair; remove it, or write the whole character",
                field=field,
                start=error.start,
            )
        ) from None
    return value


def _objects(message: Message, field: str) -> list[Mapping[str, Any]]:
    value = message.get(field)
    if value is None or value == "":
        return []
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
        raise ValueError(say("{field} must be a list of objects, or null", field=field))
    return list(value)


def _tool_lines(plain: Escaping, tools: Sequence[Mapping[str, Any]]) -> str:
    for number, tool in enumerate(tools):
        _require_name(tool, say("tool {number}", number=number))
    return "".join(f"{plain.escape(_json(tool))}\n" for tool in tools)


def _system(instructions: str, tool_lines: str) -> str:
    """The system turn; none where there is nothing to say."""
    tools = TOOLS_HEAD + tool_lines + TOOLS_TAIL if tool_lines else ""
    text = "\n\n".join(filter(None, [instructions, tools]))
    return f"{BOS_TOKEN}system\n{text}{EOS_TOKEN}\n" if text else ""


def _answer(plain: Escaping, content: str, message: Message) -> str:
    """An assistant's turn without its header."""
    content = plain.escape(content.strip())
    reasoning = plain.escape(_text(message, "reasoning_content").strip())
    calls = [_tool_call(plain, call, number) for number, call in enumerate(_objects(message, "tool_calls"))]
    thoughts = f"<think>\n{reasoning}\n</think>\n\n" if reasoning else ""
    return thoughts + "\n".join(filter(None, [content, *calls])) + EOS_TOKEN


def _tool_call(plain: Escaping, call: Mapping[str, Any], number: int) -> str:
    where = f"tool_calls.{number}"
    function = _require_name(call, where)
    arguments = function.get("arguments")
    if arguments is None or arguments == "":
        text = "{}"
    elif isinstance(arguments, str):
        with _naming(f"{where}: arguments"):
            _require_json_object(encodable(arguments))
        text = arguments
    elif isinstance(arguments, Mapping):
        text = _json(arguments)
    else:
        raise ValueError(
            say(
                "{where}: arguments is a {type}; allowed are an object or its JSON",
                where=where,
                type=type(arguments).__name__,
            )
        )
    name = plain.escape(_json(function["name"]))
    return f'<tool_call>\n{{"name": {name}, "arguments": {plain.escape(text)}}}\n</tool_call>'


def _require_name(call: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The part of a tool or a tool call that has its name."""
    function = call.get("function") or call
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ValueError(
            say("{where} has no name: {{'name': ...}} is needed, or {{'function': {{'name': ...}}}}", where=where)
        )
    return function


def _json(value: Any) -> str:
    try:
        return encodable(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except RecursionError:
        raise ValueError(say("objects that are nested too deeply")) from None


def _require_json_object(text: str) -> None:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(say("JSON that is nested too deeply")) from None
    except ValueError as error:
        raise ValueError(say("not JSON: {error}", error=json_problem(error))) from None
    if not isinstance(value, dict):
        raise ValueError(say("a JSON object is needed, not {type}", type=type(value).__name__))


def _no_constant(name: str) -> None:
    raise ValueError(say("{name} is no JSON", name=name))
