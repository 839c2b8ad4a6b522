"""`data show`: rows as a stage reads them, with what is learnt told apart from what is only read."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from data.check import guess_stage
from data.encode import ENCODINGS, Document, documents
from data.read import as_row, row_files
from data.schema import STAGE_ROWS, LabelledRow, PreferenceRow, Row
from jobs.runs.references import tokenizer_folder
from jobs.terminal.console import can_show
from minimind.language import say
from minimind.text.tokenizer import Tokenizer
from minimind.training.answers import shared_tokens

LEARNT, READ, LOST = "bold green underline", "dim", "red strike"
BRACKETS = {LEARNT: ("⟦", "⟧"), LOST: ("✂", "✂")}
"""What marks a style where there are no colours."""

_PLAIN_BRACKETS = {LEARNT: ("[[", "]]"), LOST: ("--", "--")}
"""The same for terminals whose encoding lacks those signs."""

_Brackets = dict[str, tuple[str, str]]


def show_rows(
    path: Path,
    stage: str | None,
    console: Console,
    *,
    rows: int = 5,
    tokenizer: str | None = None,
    max_seq_len: int | None = None,
) -> None:
    """Print the first rows of a file or folder. stage: as which they are read, by default as what the first looks like,
    if that is more than a question. tokenizer: a run or a folder; without one a byte is a token, and tokens
    are not counted. max_seq_len: tokens, what comes behind is lost.

    Raises ValueError, with file and line, for a row that can't be used or that the chat template refuses.
    """
    if stage is None:
        guessed = guess_stage(path)
        stage = guessed if guessed in ENCODINGS else "sft"
    vocabulary = Tokenizer.load(tokenizer_folder(tokenizer)) if tokenizer is not None else Tokenizer.train(["ab"], 292)
    brackets = {}
    if not console.is_terminal or console.no_color:
        brackets = BRACKETS if can_show("⟦⟧✂", console) else _PLAIN_BRACKETS
    console.print(_legend(brackets, lost=max_seq_len is not None), soft_wrap=True)
    every = ((opened, row) for opened in row_files(path) for row in opened)
    for number, (file, (line, content)) in enumerate(islice(every, rows + 1), start=1):
        if number > rows:
            console.print(say("\nThere are more: --rows N shows N."), style="dim")
            break
        row = as_row(STAGE_ROWS[stage], content, file.path, line)
        if isinstance(row, ValueError):
            raise row
        try:
            found = documents(vocabulary, row)
        except ValueError as error:
            raise ValueError(f"{file.path}:{line}: {error}") from None
        if isinstance(row, PreferenceRow):
            found = _as_pair(found, max_seq_len)
        for document, side in zip(found, _sides(row), strict=True):
            text, learnt = coloured(vocabulary, document, max_seq_len, brackets)
            counts = (
                say(": {tokens} tokens, {learnt} learnt", tokens=len(document.ids), learnt=learnt)
                if tokenizer is not None
                else ""
            )
            console.print(Text(f"\n{line}{side}{counts}", style="bold"))
            console.print(text, soft_wrap=True)


def _as_pair(pair: list[Document], max_seq_len: int | None) -> list[Document]:
    """Two answers as they are learnt beside each other: turns that end in what both begin with are read."""
    texts = [np.array(document.ids[:max_seq_len]) for document in pair]
    shared = shared_tokens(texts)
    spans = [document.targets.reshape(-1, 2) for document in pair]
    return [
        Document(document.ids, each[np.minimum(each[:, 1], len(text)) > shared].ravel())
        for document, each, text in zip(pair, spans, texts, strict=True)
    ]


def _sides(row: Row) -> list[str]:
    """What stands behind the line of each document of a row: which of two answers it has, or what its label is."""
    match row:
        case PreferenceRow():
            return [" chosen", " rejected"]
        case LabelledRow():
            return [f" label = {str(row.label).lower()}"]
    return [""]


def coloured(
    tokenizer: Tokenizer, document: Document, max_seq_len: int | None, brackets: _Brackets
) -> tuple[Text, int]:
    """A document with its parts in their styles, and in brackets where there are some for a style; and how many of its
    tokens are learnt.
    """
    end = min(len(document.ids), max_seq_len or len(document.ids))
    edges = [edge for edge in document.targets.tolist() if edge < end]
    bounds = [0, *edges, end, len(document.ids)]
    styles = [LEARNT if number % 2 else READ for number in range(len(edges) + 1)] + [LOST]
    text, learnt = Text(), 0
    for begin, stop, style in zip(bounds, bounds[1:], styles, strict=False):
        if begin < stop:
            part = tokenizer.decode(document.ids[begin:stop])
            learnt += (stop - begin) * (style == LEARNT)
            _append(text, part, style, brackets)
    return text, learnt


def _legend(brackets: _Brackets, *, lost: bool) -> Text:
    text = Text()
    for what, style in (
        (say("learnt"), LEARNT),
        (say("read, not learnt"), READ),
        (say("lost, behind max_seq_len"), LOST),
    ):
        if style != LOST or lost:
            _append(text, what, style, brackets)
            text.append("   ")
    return text


def _append(text: Text, part: str, style: str, brackets: _Brackets) -> None:
    if brackets:
        text.append(part.join(brackets.get(style, ("", ""))))
    else:
        text.append(part, style)
