from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobs.demo import quiz
from jobs.demo.quiz import Answered, Question

ANSWERS = {"1+1?": "2.", "capital?": " Paris.\n", "silly?": "no idea"}


class _Endpoint(BaseHTTPRequestHandler):
    """A chat endpoint that knows ANSWERS, and refuses everything else."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        answer = ANSWERS.get(body["messages"][-1]["content"])
        status = 400 if answer is None or self.path != "/v1/chat/completions" else 200
        said = {"choices": [{"message": {"content": answer}}]} if status == 200 else {"error": {"message": "too long"}}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 2 * quiz.AT_ONCE


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    handler = type("Endpoint", (_Endpoint,), {"asked": asked})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_answers_come_in_the_order_of_the_questions(endpoint: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = endpoint
    questions = [Question("1+1?", "2."), Question("capital?", "Paris."), Question("silly?", "42")] * 12
    answered = quiz.ask(url, "mine", questions)
    assert [one.question for one in answered] == questions
    assert [one.right for one in answered] == [True, True, False] * 12
    assert {(body["model"], body["temperature"]) for body in asked} == {("mine", 0)}


def test_each_question_is_asked_once_at_each_turn_after_others(endpoint: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = endpoint
    questions = [Question("1+1?", "2."), Question("capital?", "Paris."), Question("silly?", "42")]
    by_turn = quiz.ask_in_turn(url, "mine", questions, 3)
    assert [[one.question for one in answered] for answered in by_turn] == [questions] * 3
    assert [[one.right for one in answered] for answered in by_turn] == [[True, True, False]] * 3
    for turn in range(3):
        told = [body["messages"] for body in asked if len(body["messages"]) == 2 * turn + 1]
        assert sorted(messages[-1]["content"] for messages in told) == sorted(ANSWERS)
        for messages in told:
            said = [message["content"] for message in messages]
            assert len(set(said[::2])) == turn + 1  # no question twice
            assert said[1::2] == [ANSWERS[question] for question in said[:-1:2]]  # the model's own words


def test_what_a_question_refers_to_is_asked_before_it(endpoint: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = endpoint
    (answered,) = quiz.ask(url, "mine", [Question("silly?", "no idea", before=("1+1?",))])
    assert (answered.question.prompt, answered.right) == ("silly?", True)
    assert [len(body["messages"]) for body in asked] == [1, 3]
    assert [message["content"] for message in asked[1]["messages"]] == ["1+1?", "2.", "silly?"]


def test_a_refusal_says_the_question_and_the_servers_words(endpoint: tuple[str, list[dict[str, Any]]]) -> None:
    with pytest.raises(ValueError, match=r"refuses 'what\?' \(HTTP 400\).*too long"):
        quiz.ask(endpoint[0], "mine", [Question("what?", "")])


def test_only_the_rows_of_one_kind_are_asked(tmp_path: Path) -> None:
    rows = [
        {"before": [], "prompt": "a?", "sentence": "A.", "kind": "heldout_phrasing"},
        {"before": ["x?"], "prompt": "b?", "sentence": "B.", "kind": "follow_up"},
    ]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert quiz.read_questions(tmp_path / "eval.jsonl") == [Question("a?", "A.")]
    assert quiz.read_questions(tmp_path / "eval.jsonl", "follow_up") == [Question("b?", "B.", ("x?",))]


@pytest.mark.parametrize(("count", "numbers"), [(3, [0, 3, 6]), (10, list(range(10))), (99, list(range(10)))])
def test_the_shown_ones_are_spread_over_the_file(count: int, numbers: list[int]) -> None:
    answered = [Answered(Question(str(number), ""), "") for number in range(10)]
    assert [int(one.question.prompt) for one in quiz.spread(answered, count)] == numbers
