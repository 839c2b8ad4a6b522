"""What makes a row good to learn from, beyond having its fields: the order of turns, answers, different preferences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data.schema import ChatRow, Message, PreferenceRow, PretrainRow, PromptRow, Row
from minimind.language import say
from minimind.text.template import order_problem
from minimind.text.tokenizer import CONTROL_TOKENS, MARKUP_TOKENS


def conversations(row: Row) -> list[list[tuple[str, str]]]:
    """What the model would read at a time, as (role, text)."""
    match row:
        case PretrainRow():
            return [[("", row.text)]]
        case ChatRow():
            return [_turns(row.conversations)]
        case PreferenceRow():
            return [_turns(row.chosen), _turns(row.rejected)]
        case PromptRow():
            return [[("user", row.prompt), ("assistant", row.answer)]]
    raise TypeError(f"unknown row {type(row).__name__}")


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    for message in messages:
        calls = [repr(call) for call in (*message.tools, *message.tool_calls)]
        turns.append((message.role, "\n".join(filter(None, [message.reasoning_content, message.content, *calls]))))
    return turns


def problems(row: Row) -> Iterator[tuple[str, str]]:
    """What is wrong with a row whose fields are right, each kind at most once."""
    match row:
        case ChatRow():
            yield from _turn_problems(row.conversations)
        case PreferenceRow():
            yield from dict([*_turn_problems(row.chosen), *_turn_problems(row.rejected)]).items()
            if row.chosen == row.rejected:
                yield "same_answers", excerpt(row.chosen[-1].content) if row.chosen else say("both are empty")
            elif row.chosen[:-1] != row.rejected[:-1]:
                yield "different_prompts", say("all turns but the last must be the same")
        case PromptRow():
            for kind, text in (("empty", row.prompt), ("empty_answer", row.answer)):
                if not text.strip():
                    yield kind, say("the prompt is empty") if kind == "empty" else say("the answer is empty")


def _turn_problems(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    if not any(message.role == "assistant" for message in messages):
        yield "fully_masked", say("no assistant turn")
        return
    if not any(message.learn for message in messages if message.role == "assistant"):
        yield "fully_masked", say("every answer is marked as only read")
    if problem := order_problem([message.role for message in messages]):
        yield "wrong_order", problem
    elif messages[-1].role != "assistant":
        yield (
            "wrong_order",
            say(
                "turn {count}, the last, is {role}; an answer must come last",
                count=len(messages),
                role=messages[-1].role,
            ),
        )
    for number, message in enumerate(messages, start=1):
        if message.role == "assistant" and message.learn and not (message.content.strip() or message.tool_calls):
            yield "empty_answer", say("turn {number} has no content", number=number)
            break
    for number, message in enumerate(messages, start=1):
        if message.role == "user" and not message.content.strip():
            yield "empty_question", say("turn {number} has no content", number=number)
            break
    for number, message in enumerate(messages, start=1):
        if (tag := _tag_as_text(message)) is not None:
            yield (
                "tags",
                say(
                    "turn {number} has {tag} in its text, and no thought, call or result can be made of it",
                    number=number,
                    tag=tag,
                ),
            )
            break


def _tag_as_text(message: Message) -> str | None:
    """The name of a special token that an answer would be taught as letters, or that frames a tool's result in text."""
    if "<" not in message.content and "<" not in message.reasoning_content:  # most have none, and names begin with it
        return None
    if message.role == "assistant":
        if not message.learn:
            return None
        texts, names = [message.content, message.reasoning_content], [*CONTROL_TOKENS, *MARKUP_TOKENS]
    else:
        whole = "<tool_response>" in message.content and "</tool_response>" in message.content
        texts, names = [message.content], ["</tool_response>"] if whole else []
    return next((name for name in names for text in texts if name in text), None)


def keys(row: Row) -> list[str]:
    """The texts by which a row is recognised in an evaluation file: its document, or its questions."""
    match row:
        case PretrainRow():
            return [row.text]
        case ChatRow():
            return _questions(row.conversations)
        case PreferenceRow():
            return _questions(row.chosen)
        case PromptRow():
            return [row.prompt]
    raise TypeError(f"unknown row {type(row).__name__}")


def excerpt(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _questions(messages: Sequence[Message]) -> list[str]:
    return [message.content for message in messages if message.role == "user" and message.content.strip()]
