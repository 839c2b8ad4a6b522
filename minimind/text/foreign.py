"""A chat template that came with a tokenizer: its own Jinja, run in jinja2's sandbox as transformers runs it.

A model understands the words it was trained with: upstream MiniMind's name tools and thoughts otherwise than
`minimind.text.template` does. What the template makes of a conversation is encoded as transformers would encode it, but
for one thing: the name of a control token, such as <|im_end|>, that stands in a message stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from minimind.language import say
from minimind.text.tokenizer import BOS_TOKEN, EOS_TOKEN, MARKUP_TOKENS, Tokenizer

_EMPTY: tuple[Any, ...] = (None, "", [])
_STAND_INS = range(0xF0000, 0xFFFFE)
"""Private characters, which stand for the names of control tokens while the template runs."""


def render_foreign(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    thinking: bool | None,
    add_generation_prompt: bool,
) -> tuple[list[int], list[bool]]:
    """What `minimind.text.chat.render` gives, by the tokenizer's own template. A target is what stands between the
    header of an assistant's turn and its <|im_end|>, which is one too.

    thinking: handed to the template as enable_thinking and, as upstream MiniMind's calls it, open_thinking.

    Raises ValueError for a template that can't be run, that refuses the conversation, or, where nothing is asked, that
    does not write one turn in ChatML for each of the assistant's messages.
    """
    offered = [*(messages[0].get("tools") or ()), *tools]
    conversation = [_without_empty(message) for message in messages]
    control = [name for name in tokenizer.special_ids if name not in MARKUP_TOKENS]
    names = _stand_ins(control, [conversation, offered])
    switch = {} if thinking is None else {"enable_thinking": thinking, "open_thinking": thinking}
    text = _run(
        tokenizer.foreign_template or "",
        {
            "messages": _replaced(conversation, names),
            "tools": _replaced(offered, names) or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **tokenizer.named_tokens,
            **switch,
        },
    )
    learn = [bool(message.get("learn", True)) for message in messages if message["role"] == "assistant"]
    ids, mask, turns = _labelled(tokenizer, text, names, learn)
    if not add_generation_prompt and turns != len(learn):
        raise ValueError(
            say(
                "the chat template that came with this tokenizer wrote {turns} turns that begin with "
                "{bos_token}assistant for {count} answers, so what is to be learnt can't be told. "
                "Remove chat_template from tokenizer_config.json (and chat_template.jinja) to train "
                "with MiniMind's own template",
                turns=turns,
                bos_token=BOS_TOKEN,
                count=len(learn),
            )
        )
    return ids, mask


def _labelled(
    tokenizer: Tokenizer, text: str, names: Mapping[str, str], learn: Sequence[bool]
) -> tuple[list[int], list[bool], int]:
    """The ids of a text, which of them are targets, and how many turns of the assistant's begin in it.

    names: special token -> what stands for it in the text where it is no special token. learn: of each such turn,
    whether it is learnt from.
    """
    ids: list[int] = []
    mask: list[bool] = []
    before, turn, speaking = "", -1, False
    for piece in filter(None, _any_of(tuple(tokenizer.special_ids)).split(text)):
        header = 0
        if piece in tokenizer.special_ids:
            new = [tokenizer.special_ids[piece]]
        else:
            new = tokenizer.encode(_replaced(piece, {stand_in: name for name, stand_in in names.items()}))
            if before == BOS_TOKEN and piece.startswith("assistant\n"):
                turn, speaking = turn + 1, True
                header = _tokens_of(tokenizer, new, len("assistant\n"))
        target = speaking and turn < len(learn) and learn[turn]
        ids += new
        mask += [target and number >= header for number in range(len(new))]
        speaking = speaking and piece != EOS_TOKEN
        before = piece
    return ids, mask, turn + 1


def _without_empty(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as its author would write it: other templates ask whether a field is there."""
    kept = {name: value for name, value in message.items() if name not in ("learn", "tools")}
    if message["role"] != "assistant":
        kept["content"] = message.get("content") or ""
    if calls := kept.get("tool_calls"):
        kept["tool_calls"] = [_with_object(call) for call in calls]
    optional = ("reasoning_content", "tool_calls")
    return {name: value for name, value in kept.items() if name not in optional or value not in _EMPTY}


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call with its arguments as an object, which is what templates are written for; OpenAI's API has their JSON."""
    if call.get("function"):
        return {**call, "function": _with_object(call["function"])}
    arguments = call.get("arguments") or {}
    return {**call, "arguments": json.loads(arguments) if isinstance(arguments, str) else arguments}


def _stand_ins(names: Iterable[str], content: Any) -> dict[str, str]:
    """For each name that occurs in the content, a character that does not."""
    whole = json.dumps(content, ensure_ascii=False)
    free = (chr(code) for code in _STAND_INS if chr(code) not in whole)
    return dict(zip([name for name in names if name in whole], free, strict=False))


def _replaced(value: Any, replacements: Mapping[str, str]) -> Any:
    """The value with every text in it changed."""
    if not replacements:
        return value
    if isinstance(value, str):
        for old, new in replacements.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, Mapping):
        return {_replaced(key, replacements): _replaced(item, replacements) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(item, replacements) for item in value]
    return value


def _tokens_of(tokenizer: Tokenizer, ids: Sequence[int], size_bytes: int) -> int:
    """How many of the first ids have the first `size_bytes` bytes; one that reaches beyond them counts."""
    count = 0
    while size_bytes > 0:
        size_bytes -= len(tokenizer.decode_bytes([ids[count]]))
        count += 1
    return count


@lru_cache(maxsize=8)
def _any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")")


def _run(source: str, variables: Mapping[str, Any]) -> str:
    try:
        return _compiled(source)(variables)
    except Exception as error:  # noqa: BLE001  # a template is a program and may raise anything: told in words
        what = (
            say("refuses it")
            if isinstance(error, _RefusalError)
            else say("fails with {type}", type=type(error).__name__)
        )
        raise ValueError(
            say("messages: the chat template that came with this model {what}: {error}", what=what, error=error)
        ) from None


class _RefusalError(jinja2.TemplateError):
    """What a template says with raise_exception."""


class _Generation(Extension):
    """{% generation %}: marks answers for trainers; the text is what stands inside."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=8)
def _compiled(source: str) -> Callable[[Mapping[str, Any]], str]:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment.from_string(source).render


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise _RefusalError(message)
