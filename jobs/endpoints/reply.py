"""A chat completion in our words: what is thought, said and called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from minimind.evaluation.asking import Reply
from minimind.language import say


def read_reply(answer: Mapping[str, Any], seconds: float) -> Reply:
    """What came, in our words; seconds: how long it took. Raises LookupError, TypeError, ValueError or AttributeError,
    whichever comes of an answer that is not as OpenAI's are.
    """
    choice = answer["choices"][0]
    message = choice.get("message") or {}  # none where a filter kept it back
    made = [call["function"] for call in message.get("tool_calls") or ()]
    calls = [(str(call["name"]), _arguments(call.get("arguments"))) for call in made]
    content, thought = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
    thinking, text = _thought(_text(content))
    return Reply(
        text=text + "".join(arguments for _, arguments in calls if not _is_json(arguments)),
        thinking=_text(thought) or _thought_parts(content) or thinking,
        calls=tuple(call for call in calls if _is_json(call[1])),
        finish=str(choice.get("finish_reason") or "stop"),
        tokens=tokens_of(answer, "completion"),
        logprob=None,
        seconds=seconds,
    )


def tokens_of(answer: Mapping[str, Any], what: Literal["prompt", "completion", "total"]) -> int | None:
    """How many tokens the server counted; None where it does not say."""
    usage = answer.get("usage")
    count = usage.get(f"{what}_tokens") if isinstance(usage, dict) else None
    return count if type(count) is int and count >= 0 else None


def _text(content: Any) -> str:
    """What a message says: a text, or a list of parts of which some are texts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if part.get("type", "text") == "text")
    if not isinstance(content, str | None):
        raise ValueError(say("its content is no text: {content}", content=repr(content)[:60]))
    return content or ""


def _thought_parts(content: Any) -> str:
    """What a model thought, where its server puts that among the parts of its answer (Mistral)."""
    parts = content if isinstance(content, list) else []
    return "".join(_text(part.get("thinking")) for part in parts if part.get("type") == "thinking")


def _thought(text: str) -> tuple[str, str]:
    """What a model thought, where its server leaves that in the answer, and the answer."""
    before, end, answer = text.partition("</think>")
    return (before.strip().removeprefix("<think>").strip(), answer.lstrip()) if end else ("", text)


def _arguments(value: Any) -> str:
    return value or "{}" if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
