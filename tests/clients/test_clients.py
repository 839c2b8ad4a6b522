"""Other programs' clients against the real application: litellm, langchain-openai, and lm-eval beside its own model.

OpenAI's client is in tests/unit/service/test_openai_client.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minimind.checkpoints import folders as checkpoint_folders
from tests import taught
from tests.clients.conftest import said_by
from tests.unit.service.conftest import Served

# The first one installs them: about a minute.
pytestmark = pytest.mark.timeout(900)

CALL = ["get_weather", {"city": "Paris"}]


def test_langchain(python: Path, served: Served, tmp_path: Path) -> None:
    questions = (taught.CAPITAL, taught.FORECAST, json.dumps(taught.WEATHER))
    assert said_by(python, "ask_langchain.py", tmp_path, served.address, "taught", *questions) == {
        "answer": "Paris.",
        "usage": True,
        "second_turn": "Paris.",
        "streamed": "Paris.",
        "after_a_stream": "Paris.",
        "call_whole": CALL,
        "result_whole": "It is sunny in Paris.",
        "call_stream": CALL,
        "result_stream": "It is sunny in Paris.",
        "call_one": CALL,
        "result_one": "It is sunny in Paris.",
        "structured": {"city": "Paris"},
        "batch": ["Paris.", "Paris."],
    }


def test_litellm(python: Path, served: Served, tmp_path: Path) -> None:
    questions = (taught.CAPITAL, taught.FORECAST, json.dumps(taught.WEATHER), taught.PRIME)
    said = said_by(python, "ask_litellm.py", tmp_path, served.address, "taught", *questions)
    [text] = [served.client.completions.create(model="taught", prompt="1, 2, 3", max_tokens=4, temperature=0)]
    assert said == {
        "answer": "Paris.",
        "second_turn": ["Paris.", "Paris."],
        "streamed": "Paris.",
        "usage": True,
        "after_a_stream": "Paris.",
        "thought": ["Only 1 and 7 divide it.", "Yes."],
        "after_a_thought": "Paris.",
        "call_whole": CALL,
        "result_whole": "It is sunny in Paris.",
        "call_stream": CALL,
        "result_stream": "It is sunny in Paris.",
        "text": text.choices[0].text,
        "nobody": True,
    }


def test_lm_eval_scores_a_model_behind_the_server_as_it_scores_its_folder(
    python: Path, served: Served, tmp_path: Path
) -> None:
    asked = f"<|im_start|>user\n{taught.CAPITAL}<|im_end|>\n<|im_start|>assistant\n"
    counting = f"<|im_start|>user\n{taught.COUNT}<|im_end|>\n<|im_start|>assistant\n1, 2, 3,"
    prime = f"<|im_start|>user\n{taught.PRIME}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    # After some of them the end is likeliest, after others not: the harness leaves out the last token that it is told.
    pairs = [
        (asked, "Paris."),
        (asked, "Rome"),
        (asked, "Paris.<|im_end|>"),
        (prime, "Yes."),
        (counting, " 4, 5,"),
        (counting, " 5, 6,"),
        ("", "Paris is"),
        ("It is sunny", " in Paris."),
        ("法国的首都是", " 巴黎 is 1"),
    ]
    texts = ["1, 2, 3 法国", "Paris.", asked]
    folder = checkpoint_folders.folder_of(served.runs / "taught" / "checkpoints", 10)
    wanted = json.dumps([pairs, texts, [asked, "1, 2"]])
    said = said_by(python, "ask_lm_eval.py", tmp_path, served.address, "taught", str(folder), wanted)
    own, ours = (said["loglikelihood"][place] for place in ("folder", "server"))
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in own], abs=1e-3)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in own]
    assert {greedy for _, greedy in own} == {True, False}
    own, ours = (said["loglikelihood_rolling"][place] for place in ("folder", "server"))
    assert ours == pytest.approx(own, rel=1e-4)
    assert said["generate_until"]["server"] == said["generate_until"]["folder"]
