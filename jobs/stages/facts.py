"""Facts that weights were taught, as questions to which a run that learns by trying is held."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from data.suite import load
from jobs import paths
from jobs.runs.evals import write_text

STOCK = "stock-"
"""How the names of such files begin."""


def stock_questions() -> Path | None:
    """The stock's facts, in words in which they are not taught, as rows of stages that try; None where there are none
    that can be read. They are those of the suite `facts`, but for such as want an answer to another question first.

    The file is named by its content and stays, for runs that were held to it are to go on when the stock has changed.
    """
    try:
        found = load("facts", paths.stock_folder())
    except ValueError:
        return None
    counted = [
        row
        for row in found.rows
        if all(row.groups.get(name) in values for name, values in found.suite.counted.items()) and not row.before
    ]
    lines = [
        json.dumps({"prompt": row.messages[-1]["content"], "answer": row.fact}, ensure_ascii=False) for row in counted
    ]
    if not lines:
        return None
    text = "".join(f"{line}\n" for line in lines)
    path = paths.make(_folder()) / f"{STOCK}{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    return path if path.is_file() else write_text(path, text)


def is_stock_questions(path: Path) -> bool:
    """Whether a file is one of those."""
    return path.parent == _folder() and path.name.startswith(STOCK)


def _folder() -> Path:
    return paths.data() / "facts"
