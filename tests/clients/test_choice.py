"""Multiple choice as lm-eval scores it: the same file, checkpoint and templates give the same log-probs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data import suite as suites
from jobs.evaluation import evaluate as evaluating
from jobs.runs.references import find_weights
from tests.clients.conftest import said_by
from tests.unit.service.conftest import Served

pytestmark = pytest.mark.timeout(900)

WINDOW = 96
"""How many tokens of question and choice together a model sees: less than one question has."""

BOS = "<|im_start|>"
"""Ours begins a text with it by its id; lm-eval has to be told."""

ARC = [
    {
        "id": "capital",
        "question": "What is the capital of France?",
        "choices": {"text": ["Paris.", "Rome", "It is sunny in Paris.", "Yes."], "label": ["A", "B", "C", "D"]},
        "answerKey": "A",
    },
    {
        "id": "首都",
        "question": "法国的首都是哪里？",
        "choices": {"text": ["罗马。", "巴黎。", "7"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
    {
        "id": "long",
        "question": "Is it sunny in Paris? 法国 " * 30 + "Is 7 a prime number?",
        "choices": {"text": ["No.", "Yes.", "1, 2, 3, 4, 5"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    },
]
C_EVAL = [
    {"id": 0, "question": "法国的首都是____。", "A": "巴黎", "B": "罗马", "C": "7", "D": "天气", "answer": "A"},
    {"id": 1, "question": "7是质数吗？", "A": "不是", "B": "是 Yes", "C": "巴黎。", "D": "1, 2", "answer": "B"},
    {"id": 2, "question": "巴黎" * 80 + "今天天气", "A": "雨", "B": " sunny", "C": "晴", "D": "雪", "answer": "C"},
]

LISTED = "{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n答案："


def _letters(asked: str) -> str:
    """As lm-eval writes a template of a row's fields."""
    for name in ("question", "A", "B", "C", "D"):
        asked = asked.replace(f"{{{name}}}", f"{{{{{name}}}}}")
    return asked


# name -> rows, our templates, lm-eval's question, what it puts before a choice, its choices, and the right one.
ASKED: dict[str, tuple[list[dict[str, Any]], dict[str, str], str, str, Any, str]] = {
    "arc_space": (
        ARC,
        {"question": "Question: {question}\nAnswer:", "choice": " {choice}"},
        "Question: {{question}}\nAnswer:",
        " ",
        "{{choices.text}}",
        "{{choices.label.index(answerKey)}}",
    ),
    "arc_line": (
        ARC,
        {},
        "{{question}}\n",
        "",
        "{{choices.text}}",
        "{{choices.label.index(answerKey)}}",
    ),
    "c_eval_text": (
        C_EVAL,
        {"question": "题目：{question}答案：", "choice": "{choice}"},
        "题目：{{question}}答案：",
        "",
        "{{[A, B, C, D]}}",
        "{{['A', 'B', 'C', 'D'].index(answer)}}",
    ),
    "c_eval_letter": (
        C_EVAL,
        {"question": "{question}\n{choices}\n答案：", "choice": "{letter}"},
        _letters(LISTED),
        "",
        ["A", "B", "C", "D"],
        "{{['A', 'B', 'C', 'D'].index(answer)}}",
    ),
}


def test_choices_are_as_likely_as_lm_eval_finds_them(
    python: Path, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = find_weights("taught")
    monkeypatch.setattr(evaluating, "CONTEXT_TOKENS", WINDOW)
    examinee = evaluating.LocalExaminee.load(weights)
    ours, tasks = {}, {}
    for name, (content, templates, question, before, choices, right) in ASKED.items():
        rows = tmp_path / f"{name}.jsonl"
        rows.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content), "utf-8")
        file = tmp_path / f"{name}.json"
        suite = {"name": name, "title": {"en": name}, "rows": rows.name, "ask": {"how": "choice", **templates}}
        file.write_text(json.dumps(suite), "utf-8")
        ours[name] = evaluating.evaluate(examinee, suites.load(name, tmp_path, file))
        tasks[name] = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(rows)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": BOS + question,
            "target_delimiter": before,
            "doc_to_choice": choices,
            "doc_to_target": right,
            "metric_list": [{"metric": "acc"}, {"metric": "acc_bytes"}],
        }
    asked = json.dumps([tasks, WINDOW])
    theirs = said_by(python, "ask_lm_eval_tasks.py", tmp_path, served.address, "taught", str(weights.folder), asked)
    for name, log in ours.items():
        for place in ("folder", "server"):
            found = theirs[name][place]
            for record, logprobs in zip(log.records, found["logprobs"], strict=True):
                assert record["logprobs"] == pytest.approx(logprobs, abs=1e-4), (name, place, record["id"])
            for metric in ("plain", "per_byte"):
                assert log.summary["metrics"][metric]["value"] == pytest.approx(found[metric]), (name, place, metric)
