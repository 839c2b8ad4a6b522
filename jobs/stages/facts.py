"""Facts that weights were taught, as questions to which a run that learns by trying is held."""

from __future__ import annotations

import json
from pathlib import Path

from data.suite import SUITES, load, read_suite
from jobs import paths
from jobs.runs.evals import write_text


def stock_questions() -> Path | None:
    """The stock's facts, in words in which they are not taught, as rows of stages that try; None where there is no
    stock data. They are those of the suite `facts`, but for such as want an answer to another question first.
    """
    stock = paths.stock_folder()
    if not (stock / read_suite(SUITES / "facts.json").rows.partition(":")[2]).is_file():
        return None
    found = load("facts", stock)
    counted = [
        row
        for row in found.rows
        if all(row.groups.get(name) in values for name, values in found.suite.counted.items()) and not row.before
    ]
    lines = [
        json.dumps({"prompt": row.messages[-1]["content"], "answer": row.fact}, ensure_ascii=False) for row in counted
    ]
    path = paths.make(paths.cache() / "facts") / f"{stock.name}.jsonl"
    write_text(path, "".join(f"{line}\n" for line in lines))
    return path
