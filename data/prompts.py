"""What a model is to answer: rows of any kind that asks something, as conversations up to the answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.check import fault
from data.formats import stage_of
from data.read import DataError, RowFile, as_row, row_files
from data.schema import ChatRow, Message, PreferenceRow, PromptRow, Row
from minimind.language import say

Turn = dict[str, Any]
"""A turn as a row holds it: role, content, and what else of `data.schema.Message` says something."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that waits for an answer. where: its file and line. answer: the right one, if its row has it. row:
    what stands in the file, of `read_questions` alone.
    """

    where: str
    turns: tuple[Turn, ...]
    answer: str | None = None
    row: dict[str, Any] | None = field(default=None, compare=False)

    @property
    def question(self) -> str:
        """The text that is to be answered."""
        return str(self.turns[-1]["content"])


@dataclass
class Prompts:
    """All that a file or folder asks, each conversation once, in their order. system: see `read_prompts`. repeated: how
    many rows ask what another has asked. unread: fields that nothing reads, with the number of rows that have them.
    """

    path: Path
    system: str | None = None
    each: list[Prompt] = field(default_factory=list)
    repeated: int = 0
    unread: Counter[str] = field(default_factory=Counter)


def read_prompts(path: str | Path, system: str | None = None) -> Prompts:
    """The prompts of a file or folder: {"prompt": ...}, with "answer" or without; conversations without their last
    answer, which is to be given anew; preferences without both of theirs.

    system: what stands before each conversation that has no system turn. Raises DataError for the first row that asks
    nothing, or nothing that a chat template could write; ValueError where there is none.
    """
    return _read(path, system, _row)


def read_questions(path: str | Path) -> Prompts:
    """The prompts of a file or folder as reinforcement learning reads them, with their rows: {"prompt", "answer"}, or
    conversations, whose last answer is the right one. Raises as `read_prompts` does.
    """

    def row_of(content: object, path: Path, line: int) -> Row | DataError:
        return as_row(PromptRow, content, path, line)

    return _read(path, None, row_of, keep_rows=True)


def _read(
    path: str | Path,
    system: str | None,
    row_of: Callable[[object, Path, int], Row | DataError],
    *,
    keep_rows: bool = False,
) -> Prompts:
    found, seen = Prompts(Path(path), system), set()
    for file in row_files(path):
        for line, content in file:
            prompt, unread = _prompt(row_of(content, file.path, line), file, line, system)
            if keep_rows:
                # Parquet has values that JSON has not, such as dates.
                prompt = replace(prompt, row=json.loads(json.dumps(content, default=str)))
            found.unread.update(unread)
            key = json.dumps(prompt.turns, sort_keys=True)
            if key in seen:
                found.repeated += 1
            else:
                seen.add(key)
                found.each.append(prompt)
    if not found.each:
        raise ValueError(say("{path}: it has no prompt", path=path))
    return found


def _prompt(row: Row | DataError, file: RowFile, line: int, system: str | None) -> tuple[Prompt, list[str]]:
    """A row as a prompt, and its fields that nothing reads."""
    if isinstance(row, DataError):
        raise row
    turns, answer = _asked(row)
    if system is not None and (not turns or turns[0]["role"] != "system"):
        turns = [{"role": "system", "content": system}, *turns]
    # What would be wrong with it whatever the answer is.
    if problem := fault("sft", {"conversations": [*turns, {"role": "assistant", "content": "…"}]}):
        raise DataError(str(file.path), line, "wrong_fields", say("it can't be asked: {problem}", problem=problem))
    return Prompt(f"{file.path}:{line}", tuple(turns), answer), row.unread


def _row(content: object, path: Path, line: int) -> Row | DataError:
    if not isinstance(content, dict):
        return as_row(PromptRow, content, path, line)
    kind = stage_of(content)
    if kind == "pretrain":
        problem = say("a text asks nothing: a prompt is {row}, or a conversation", row='{"prompt": "…"}')
        return DataError(str(path), line, "other_stage", problem)
    if kind == "dpo":
        return as_row(PreferenceRow, content, path, line)
    if kind == "sft":
        return as_row(ChatRow, content, path, line)
    prompt = content.get("prompt")
    if isinstance(prompt, list):  # TRL's, of messages
        rest = {name: value for name, value in content.items() if name != "prompt"}
        return as_row(ChatRow, rest | {"messages": prompt}, path, line)
    return as_row(PromptRow, {"answer": ""} | content if isinstance(prompt, str) else content, path, line)


def _asked(row: Row) -> tuple[list[Turn], str | None]:
    """The turns before the answer, and the right answer where the row says what that is."""
    match row:
        case PromptRow():
            before = [_turn(message) for message in row.before or ()]
            return [*before, {"role": "user", "content": row.prompt}], row.answer or None
        case PreferenceRow():
            return _before_the_answer(row.chosen), None
        case ChatRow():
            return _before_the_answer(row.conversations), None
    raise TypeError(f"unknown row {type(row).__name__}")


def _before_the_answer(messages: Sequence[Message]) -> list[Turn]:
    return [_turn(message) for message in (messages[:-1] if _ends_in_answer(messages) else messages)]


def _ends_in_answer(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[-1].role == "assistant"


def _turn(message: Message) -> Turn:
    said = {name: value for name, value in message.model_dump().items() if value or name == "content"}
    return said if message.learn else said | {"weight": 0}
