"""What makes a row good to learn from, beyond having its fields: the order of turns, answers, different preferences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from data.schema import ChatRow, LabelledRow, Message, PreferenceRow, PretrainRow, PromptRow, Row
from minimind.language import say
from minimind.text.template import order_problem
from minimind.text.tokenizer import CONTROL_TOKENS, MARKUP_TOKENS

Turns = list[tuple[str, str]]
"""What the model would read at a time, as (role, text)."""


def conversations(row: Row) -> list[Turns]:
    """Each text or conversation of a row."""
    match row:
        case PretrainRow():
            return [[("", row.text)]]
        case ChatRow() | LabelledRow():
            return [_turns(row.conversations)]
        case PreferenceRow():
            return [_turns(row.chosen), _turns(row.rejected)]
        case PromptRow():
            return [[*_turns(row.before or ()), ("user", row.prompt), ("assistant", row.answer)]]
    raise TypeError(f"unknown row {type(row).__name__}")


def _turns(messages: Sequence[Message]) -> Turns:
    turns: Turns = []
    for message in messages:
        calls = [repr(call) for call in (*message.tools, *message.tool_calls)]
        turns.append((message.role, "\n".join(filter(None, [message.reasoning_content, message.content, *calls]))))
    return turns


def problems(row: Row) -> Iterator[tuple[str, str]]:
    """What is wrong with a row whose fields are right, each kind at most once."""
    match row:
        case ChatRow() | LabelledRow():
            yield from _turn_problems(row.conversations)
        case PreferenceRow():
            chosen = {kind: f"chosen: {detail}" for kind, detail in _turn_problems(row.chosen)}
            rejected = {kind: f"rejected: {detail}" for kind, detail in _turn_problems(row.rejected)}
            yield from (rejected | chosen).items()
            if row.chosen == row.rejected:
                answer = excerpt(row.chosen[-1].content) if row.chosen else ""
                yield "same_answers", say("both are {answer!r}: give another one, or leave the row out", answer=answer)
            elif (differing := _differing_prompt(row)) is not None:
                yield "different_prompts", differing
        case PromptRow():
            if not row.prompt.strip():
                yield "empty", say("the prompt is empty")
            if not row.answer.strip() and row.before is None:
                yield "empty_answer", say("the answer is empty")
            if problem := order_problem([*(message.role for message in row.before or ()), "user", "assistant"]):
                yield "wrong_order", problem


def _differing_prompt(row: PreferenceRow) -> str | None:
    """Where the turns before the answers differ; None where they do not."""
    prompts = (row.chosen[: _asked(row.chosen)], row.rejected[: _asked(row.rejected)])
    for number, (one, other) in enumerate(zip_longest(*prompts), start=1):
        if one != other:
            return say(
                "turn {number} is {chosen} in chosen and {rejected} in rejected; up to the last question "
                "both must be the same",
                number=number,
                chosen=repr(excerpt(one.content)) if one else say("missing"),
                rejected=repr(excerpt(other.content)) if other else say("missing"),
            )
    return None


def _asked(messages: Sequence[Message]) -> int:
    """How many turns there are up to the last question; what follows is the answer."""
    return max((number for number, message in enumerate(messages, start=1) if message.role == "user"), default=0)


def answer_characters(turns: Turns) -> int:
    """How long the answer to the last question of a conversation is."""
    asked = max((number for number, (role, _) in enumerate(turns, start=1) if role == "user"), default=0)
    return sum(len(text) for _, text in turns[asked:])


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
        case ChatRow() | LabelledRow():
            return _questions(row.conversations)
        case PreferenceRow():
            return _questions(row.chosen)
        case PromptRow():
            return [*_questions(row.before or ()), row.prompt]
    raise TypeError(f"unknown row {type(row).__name__}")


def excerpt(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _questions(messages: Sequence[Message]) -> list[str]:
    return [message.content for message in messages if message.role == "user" and message.content.strip()]
