from __future__ import annotations

import pytest

from data.rules import answer_characters, conversations, excerpt, keys, problems
from data.schema import ChatRow, LabelledRow, Message, PreferenceRow, PretrainRow, PromptRow

ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def turns(roles: str) -> list[Message]:
    return [Message.model_validate({"role": ROLES[role], "content": f"{role}{i}"}) for i, role in enumerate(roles)]


@pytest.mark.parametrize("roles", ["ua", "sua", "uaua", "uata", "suatta"])
def test_orders_that_a_conversation_can_have(roles: str) -> None:
    assert list(problems(ChatRow(conversations=turns(roles)))) == []


@pytest.mark.parametrize(
    ("roles", "kind", "detail"),
    [
        ("u", "fully_masked", "no assistant turn"),
        ("", "fully_masked", "no assistant turn"),
        ("au", "wrong_order", "turn 1 is assistant at the beginning; allowed there: system or user"),
        ("usa", "wrong_order", "turn 2 is system after user; allowed there: assistant"),
        ("uaa", "wrong_order", "turn 3 is assistant after assistant; allowed there: user or tool"),
        ("uau", "wrong_order", "turn 3, the last, is user; an answer must come last"),
    ],
)
def test_orders_that_it_can_not_have(roles: str, kind: str, detail: str) -> None:
    assert list(problems(ChatRow(conversations=turns(roles)))) == [(kind, detail)]


def test_an_answer_needs_content_or_a_call() -> None:
    for answer, found in (
        (Message(role="assistant", content=" ", reasoning_content="hm"), [("empty_answer", "turn 2 has no content")]),
        (Message(role="assistant", tool_calls=[{"name": "add"}]), []),
    ):
        assert list(problems(ChatRow(conversations=[*turns("u"), answer]))) == found


def test_a_question_needs_content() -> None:
    empty = Message(role="user", content=" \n")
    row = ChatRow(conversations=[*turns("ua"), empty, *turns("a")])
    assert list(problems(row)) == [("empty_question", "turn 3 has no content")]


def test_an_answer_that_is_only_read_needs_none() -> None:
    unlearnt = Message(role="assistant", content="<think>", learn=False)
    answers = [*turns("u"), unlearnt, *turns("ua")]
    assert list(problems(ChatRow(conversations=answers))) == []
    assert list(problems(ChatRow(conversations=answers[:2]))) == [
        ("fully_masked", "every answer is marked as only read")
    ]


def test_preferences() -> None:
    right, wrong = turns("ua"), [*turns("u"), Message(role="assistant", content="no")]
    assert list(problems(PreferenceRow(chosen=right, rejected=wrong))) == []
    same = "both are 'a1': give another one, or leave the row out"
    assert list(problems(PreferenceRow(chosen=right, rejected=right))) == [("same_answers", same)]
    other = [Message(role="user", content="else"), wrong[1]]
    assert [kind for kind, _ in problems(PreferenceRow(chosen=right, rejected=other))] == ["different_prompts"]
    both = PreferenceRow(chosen=turns("uau"), rejected=turns("uau"))
    assert [kind for kind, _ in problems(both)] == ["wrong_order", "same_answers"]
    empty = PreferenceRow(chosen=right, rejected=[*turns("u"), Message(role="assistant")])
    assert list(problems(empty)) == [("empty_answer", "rejected: turn 2 has no content")]


def test_prompts_are_compared_up_to_the_last_question() -> None:
    called = [Message(role="assistant", tool_calls=[{"name": "add"}]), Message(role="tool", content="2")]
    row = PreferenceRow(chosen=[*turns("u"), *called, *turns("a")], rejected=turns("ua"))
    assert list(problems(row)) == []  # an answer may take several turns, and the other one turn
    longer = PreferenceRow(chosen=turns("uaua"), rejected=turns("ua"))
    ((kind, detail),) = problems(longer)
    assert kind == "different_prompts"
    assert detail.startswith("turn 2 is 'a1' in chosen and missing in rejected")
    called_one, _ = conversations(row)
    assert answer_characters(called_one) == len("{'name': 'add'}") + len("2") + len("a0")
    assert answer_characters(conversations(longer)[0]) == len("a3")


def test_labelled_answers() -> None:
    row = LabelledRow(conversations=turns("ua"), label=True)
    assert list(problems(row)) == []
    assert [kind for kind, _ in problems(LabelledRow(conversations=turns("u"), label=True))] == ["fully_masked"]
    assert keys(row) == ["u0"]
    assert conversations(row) == [[("user", "u0"), ("assistant", "a1")]]


def test_prompts() -> None:
    assert list(problems(PromptRow(prompt="1+1", answer="2"))) == []
    assert [kind for kind, _ in problems(PromptRow(prompt=" ", answer=""))] == ["empty", "empty_answer"]
    assert list(problems(PromptRow(prompt="1+1", answer="", before=turns("sua")))) == []
    ((kind, detail),) = problems(PromptRow(prompt="1+1", answer="", before=turns("u")))
    assert (kind, detail.startswith("turn 2 is user after user")) == ("wrong_order", True)


def test_what_the_model_reads_and_what_a_row_is_known_by() -> None:
    tool = Message(role="assistant", content="so", reasoning_content="hm", tool_calls=[{"name": "add"}])
    assert conversations(PretrainRow(text="a")) == [[("", "a")]]
    assert conversations(ChatRow(conversations=[*turns("u"), tool])) == [
        [("user", "u0"), ("assistant", "hm\nso\n{'name': 'add'}")]
    ]
    assert len(conversations(PreferenceRow(chosen=turns("ua"), rejected=turns("ua")))) == 2
    assert conversations(PromptRow(prompt="q", answer="a")) == [[("user", "q"), ("assistant", "a")]]
    assert keys(PretrainRow(text="a")) == ["a"]
    assert keys(ChatRow(conversations=turns("suaua"))) == ["u1", "u3"]
    assert keys(PreferenceRow(chosen=turns("ua"), rejected=turns("ua"))) == ["u0"]
    assert keys(PromptRow(prompt="q", answer="a")) == ["q"]
    talk = PromptRow(prompt="q", answer="a", before=turns("ua"))
    assert conversations(talk) == [[("user", "u0"), ("assistant", "a1"), ("user", "q"), ("assistant", "a")]]
    assert keys(talk) == ["u0", "q"]


def test_excerpt_is_one_short_line() -> None:
    assert excerpt("a\n b") == "a b"
    assert len(excerpt("x" * 100)) == 60
