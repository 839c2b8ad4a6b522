"""Turns between rows and OpenAI's messages, and what a record says of prompts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data.prepare import content_sha256
from data.prompts import Prompts, Turn
from jobs.synthesis.journal import Journal
from minimind.evaluation.asking import Reply


def known(prompts: Prompts) -> dict[str, Any]:
    """What decides which prompts these are."""
    return {"sha256": content_sha256(prompts.path), "system": prompts.system}


def summed(prompts: Prompts, journal: Journal) -> dict[str, Any]:
    """How many prompts there are, how many rows have come of them, and which have none and why."""
    left_out = [
        {"where": prompts.each[number].where, "why": entry["why"], "detail": entry["detail"]}
        for number, entry in journal.entries()
        if "why" in entry
    ]
    return {
        "prompts_in_all": len(prompts.each),
        "rows": len(journal) - len(left_out),
        "left_out": dict(Counter(one["why"] for one in left_out).most_common()),
        "prompts_left_out": left_out,
    }


def turn_of(reply: Reply) -> Turn:
    """What a model thought, said and called, as a turn of a row."""
    calls = [{"name": name, "arguments": json.loads(arguments)} for name, arguments in reply.calls]
    return {
        "role": "assistant",
        "content": reply.text,
        **({"reasoning_content": reply.thinking} if reply.thinking else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def messages_of(turns: Sequence[Turn]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Turns as OpenAI's messages, and the tools that they offer. What was thought before is left out, as endpoints ask
    for; calls, which rows tell apart by their order, get ids.
    """
    messages: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []
    waiting: list[str] = []
    called = 0
    for turn in turns:
        message = {"role": turn["role"], "content": turn["content"]}
        if turn["role"] == "system":
            tools += [tool if "function" in tool else _function(tool) for tool in turn.get("tools", ())]
            if not turn["content"]:
                continue
        if calls := turn.get("tool_calls"):
            waiting = [f"call_{called + place}" for place in range(len(calls))]
            called += len(calls)
            message["tool_calls"] = [{"id": name, **_call(call)} for name, call in zip(waiting, calls, strict=True)]
        if turn["role"] == "tool" and waiting:
            message["tool_call_id"] = waiting.pop(0)
        messages.append(message)
    return messages, tools


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return _function({"name": function["name"], "arguments": text})


def _function(content: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": dict(content)}
