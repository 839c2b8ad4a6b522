"""What answers are worth: each term on answers made by hand, mistakes in words, and what failed made neutral."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind.evaluation.checkers import Answer
from minimind.language import speaking
from minimind.rewards import terms as rewards_terms
from minimind.rewards.judging import Rewards
from minimind.rewards.terms import (
    TERMS,
    Attempt,
    Judge,
    Term,
    Unjudged,
    named,
    names_of,
    parse_term,
    require_references,
)


def attempt(
    text: str = "",
    reference: str = "",
    *,
    thinking: str = "",
    finish: str = "stop",
    tokens: int = 10,
    room: int = 100,
    prompt: str = "",
) -> Attempt:
    return Attempt(Answer(text, finish, (), prompt, thinking), reference, tokens, room)


def score(term: dict[str, Any], one: Attempt) -> float:
    (found,) = parse_term(term).scores([one])
    return found


# term, reference -> texts worth 1, texts worth 0
COMPARED: list[tuple[dict[str, Any], str, list[str], list[str]]] = [
    ({"is": "exact"}, "Paris", ["Paris", " Paris\n"], ["paris", "Paris.", ""]),
    ({"is": "exact"}, " 北京\n", ["北京", " 北京 "], ["北京市", "Beijing"]),
    ({"is": "exact", "ignore_case": True}, "PARIS", ["paris", "Paris"], ["Pari"]),
    ({"is": "exact"}, "caf\u00e9", ["cafe\u0301", "caf\u00e9"], ["cafe"]),
    ({"is": "exact", "tag": "answer"}, "7", ["<answer> 7 </answer>", "so <answer>7</answer>!"], [
        "7", "<answer>7</answer><answer>8</answer>", "</answer>7<answer>", "<answer>7", "<answer>8</answer>",
    ]),
    ({"is": "contains"}, "red", ["It is (red).", "是red的"], ["hundred", "redder", "Red", ""]),
    ({"is": "contains"}, "长江", ["最长的河是长江。"], ["黄河", ""]),
    ({"is": "contains", "ignore_case": True}, "Red", ["RED!"], ["blue"]),
    ({"is": "contains", "whole_words": False}, "red", ["hundred"], ["blue"]),
    ({"is": "contains"}, "e\u0301t\u00e9", ["un \u00e9te\u0301"], ["ete"]),
    ({"is": "number"}, "7", ["3 + 4 = 7.", "答案是七", "Seven!", "7.0"], ["8", "7, no: 8", "无", ""]),
    ({"is": "number"}, "so 3 * 4 = #### 1,200", ["1200", "一千二百"], ["12", "120"]),
    ({"is": "number", "tolerance": 0.01}, "0.5", ["0.505", "1/2"], ["0.52"]),
    ({"is": "number"}, "12345678901234567890", ["12345678901234567890"], ["12345678901234567891"]),
    ({"is": "number", "tag": "answer"}, "5", ["2 and <answer>5</answer> not 6"], ["5"]),
    ({"is": "match", "pattern": "(?i)yes|对"}, "", ["Oh yes", "对的"], ["no", ""]),
    ({"is": "match", "pattern": "[0-9]+", "full": True}, "", ["12", " 12\n"], ["12 a"]),
    ({"is": "match", "pattern": "^cafe\u0301$"}, "", ["caf\u00e9"], ["cafe"]),
    ({"is": "check", "check": {"is": "json", "keys": ["a"]}}, "", ['{"a": 1}'], ["{}", "a"]),
    ({"is": "check", "check": {"is": "sentences", "most": 1}}, "", ["今天很好。"], ["好。是。", ""]),
    ({"is": "stopped"}, "", ["a", ""], []),
]  # fmt: skip


@pytest.mark.parametrize(("term", "reference", "good", "bad"), COMPARED, ids=lambda value: str(value)[:60])
def test_what_fits(term: dict[str, Any], reference: str, good: list[str], bad: list[str]) -> None:
    parsed = parse_term(term)
    assert parsed.scores([attempt(text, reference) for text in good]) == [1.0] * len(good)
    assert parsed.scores([attempt(text, reference) for text in bad]) == [0.0] * len(bad)


@pytest.mark.parametrize("name", ["exact", "contains", "number"])
def test_without_a_right_answer_nothing_is_compared(name: str) -> None:
    term = parse_term({"is": name})
    assert term.needs_reference
    blank, known = term.scores([attempt("", " \n"), attempt("7", "7")])
    assert isinstance(blank, Unjudged)
    assert "no right answer" in blank.reason
    assert known == 1
    assert not parse_term({"is": "stopped"}).needs_reference


def test_a_right_answer_without_a_number() -> None:
    found = score({"is": "number"}, attempt("7", "many"))
    assert isinstance(found, Unjudged)
    assert found.reason == "the right answer 'many' has no number"


WHOLE = "<think>2 + 2</think>\n<answer>4</answer>"


@pytest.mark.parametrize(
    ("more", "thinking", "text", "value"),
    [
        ({}, "", WHOLE, 1),
        ({}, "", f" {WHOLE}\n", 1),
        ({}, "", "<think>想一想</think><answer>四</answer>", 1),
        ({}, "", "<answer>4</answer><think>2 + 2</think>", 0),
        ({}, "", f"So: {WHOLE}", 0),
        ({}, "", f"{WHOLE} Done.", 0),
        ({}, "", "<think>2 + 2</think> so <answer>4</answer>", 0),
        ({}, "", f"{WHOLE}<answer>5</answer>", 0),
        ({}, "", "<think>a<answer>b</think>c</answer>", 0),
        ({}, "", "<think>a</think><answer>4", 0),
        ({}, "", "<think></think><answer> </answer>", 0),
        ({}, "", "</think>a<think><answer>4</answer>", 0),
        ({}, "", "4", 0),
        ({}, "", "", 0),
        # the parser has taken the thinking out
        ({}, "2 + 2", "<answer>4</answer>", 1),
        ({}, "2 + 2", WHOLE, 0),
        ({}, "2 + 2", "4", 0),
        ({}, "2 + 2", "", 0),
        ({"tags": ["answer"]}, "2 + 2", "<answer>4</answer>", 0),
        ({"tags": ["answer"]}, "", "<answer>4</answer>", 1),
        ({"tags": ["think"], "text_after": True}, "2 + 2", "4", 1),
        ({"tags": ["think"], "text_after": True}, "2 + 2", "", 0),
        ({"tags": ["think"], "text_after": True}, "", "<think>2 + 2</think>4", 1),
        ({"tags": ["think"], "text_after": True}, "", "<think>2 + 2</think>", 0),
        ({"tags": ["think"], "text_after": True}, "", "4", 0),
        ({"tags": ["think"]}, "2 + 2", "", 0),
        ({"tags": ["a", "b", "c"]}, "", "<a>1</a><b>2</b><c>3</c>", 1),
        ({"tags": ["a", "b", "c"]}, "", "<a>1</a><c>3</c><b>2</b>", 0),
    ],
)
def test_format(more: dict[str, Any], thinking: str, text: str, value: float) -> None:
    assert score({"is": "format", **more}, attempt(text, thinking=thinking)) == value


@pytest.mark.parametrize(
    ("more", "values"),
    [
        ({"most": 20}, {0: 0, 1: 0, 2: 1, 20: 1, 21: 0}),
        ({"least": 10, "most": 20, "slack": 5}, {4: 0, 5: 0, 6: 0.2, 9: 0.8, 10: 1, 20: 1, 21: 0.8, 24: 0.2, 25: 0}),
        ({"least": 10}, {9: 0, 10: 1, 10_000: 1}),
    ],
)
def test_length(more: dict[str, Any], values: dict[int, float]) -> None:
    found = parse_term({"is": "length", **more}).scores([attempt(tokens=tokens) for tokens in values])
    assert found == pytest.approx(list(values.values()))


def test_overlong_is_the_punishment_of_dapo() -> None:
    """Equation 13 of arXiv:2503.14476, with the lengths of the paper: 20480 tokens, the last 4096 of them soft."""
    term = parse_term({"is": "overlong", "buffer": 4096})
    for tokens, value in {1: 0, 16_384: 0, 17_408: -0.25, 18_432: -0.5, 20_479: -4095 / 4096, 20_480: -1}.items():
        assert term.scores([attempt(tokens=tokens, room=20_480)]) == [pytest.approx(value)]
    assert term.scores([attempt(tokens=5, finish="length")]) == [-1]
    # a buffer larger than the room
    assert term.scores([attempt(tokens=0, room=60), attempt(tokens=60, room=60)]) == [(60 - 4096) / 4096, -1]


@pytest.mark.parametrize(
    ("n", "text", "thinking", "value"),
    [
        (3, "a b c d e", "", 0),
        (3, "a b c a b c", "", -1 / 4),  # abc bca cab abc
        (3, "A b, c a b C!", "", -1 / 4),
        (2, "我爱你我爱你", "", -2 / 5),  # 我爱 爱你 你我 我爱 爱你
        (1, "哈哈哈哈", "", -3 / 4),
        (3, "a b", "", 0),
        (3, "", "", 0),
        (3, "a b c d e", "a b c a b c", -1 / 4),
    ],
)
def test_repetition(n: int, text: str, thinking: str, value: float) -> None:
    assert score({"is": "repetition", "n": n}, attempt(text, thinking=thinking)) == pytest.approx(value)


def test_language() -> None:
    for text, chinese in {"你好": 1, "Hello": 0, "你好 ab": 0.5, "12，": 0}.items():
        assert score({"is": "language", "language": "zh"}, attempt(text)) == chinese
    assert score({"is": "language", "language": "en"}, attempt("cafe\u0301")) == 1
    # however it is written
    one, two = (score({"is": "language", "language": "en"}, attempt(text)) for text in ("a\u1ebf", "ae\u0302\u0301"))
    assert one == two


def test_stopped() -> None:
    values = {"stop": 1.0, "tool_calls": 1.0, "length": 0.0}
    assert {finish: score({"is": "stopped"}, attempt("a", finish=finish)) for finish in values} == values


JUDGE = {"is": "judge", "url": "http://127.0.0.1:1/v1", "model": "m"}


def test_what_a_judge_is_asked_and_what_it_says() -> None:
    term = parse_term({**JUDGE, "question": "{prompt}|{answer}|{reference}|{}"})
    assert isinstance(term, Judge)
    assert term.needs_reference
    assert term.asked(attempt("{prompt} {0}", "42", prompt="{answer}")) == "{answer}|{prompt} {0}|42|{}"
    replies = {"7": 0.7, "8/10": 0.8, "10 out of 10.": 1, "我给 9 分（满分10分）": 0.9, "Score: 0": 0, "三": 0.3}
    assert {reply: term.read(reply) for reply in replies} == pytest.approx(replies)
    for reply in ("", "good", "11", "-1", "8/100"):
        found = term.read(reply)
        assert isinstance(found, Unjudged), reply
        assert repr(reply) in found.reason
    assert term.read("7" + " " * 200_000 + "\n.") == pytest.approx(0.7)  # which once took quadratic time
    narrow = parse_term({**JUDGE, "scale": [1, 5]})
    assert isinstance(narrow, Judge)
    assert not narrow.needs_reference
    assert [narrow.read(reply) for reply in ("1", "3", "5/5")] == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "3 is no reward term"),
        ({"weight": 1}, "is no reward term"),
        ({"is": "exakt"}, r"no reward term 'exakt' \(did you mean exact\?\); there are: exact, contains"),
        ({"is": "exact", "wieght": 1}, r"term exact: no argument 'wieght' \(did you mean weight\?\); allowed are: "),
        ({"is": "exact", "weight": "1"}, "weight = '1'"),
        ({"is": "exact", "weight": math.nan}, "reward term exact: weight = nan"),
        ({"is": "exact", "weight": math.inf}, "reward term exact: weight = inf"),
        ({"is": "exact", "tag": "<answer>"}, "tag = '<answer>': a tag's name is written without brackets"),
        ({"is": "match"}, "reward term match: pattern: Field required"),
        ({"is": "match", "pattern": "(a"}, "reward term match: .*is no regular expression"),
        ({"is": "match", "pattern": r"(a)\1"}, "is not allowed here"),
        ({"is": "check"}, "reward term check: check: Field required"),
        ({"is": "check", "check": {"is": "jsn"}}, r"reward term check: no checker 'jsn' \(did you mean json\?\)"),
        ({"is": "format", "tags": []}, "tags"),
        ({"is": "format", "tags": ["a", "a"]}, "tags = a, a: each part is named once"),
        ({"is": "length"}, "reward term length: give `least`, `most` or both"),
        ({"is": "length", "least": 3, "most": 2}, "least = 3 is more than most = 2"),
        ({"is": "overlong"}, "reward term overlong: buffer: Field required"),
        ({"is": "overlong", "buffer": 0}, "buffer = 0"),
        ({"is": "repetition", "n": 0}, "n = 0"),
        ({"is": "language", "language": "fr"}, "language = 'fr'"),
        ({"is": "reward_model", "run": "r"}, "no argument 'run'; allowed are: weight"),
        ({**JUDGE, "url": "http://me:word@host/v1"}, "without a user, a password"),
        ({**JUDGE, "url": "http://host/v1?key=word"}, "the key stands in MINIMIND_API_KEY"),
        ({**JUDGE, "url": "127.0.0.1"}, "url = '127.0.0.1': write where the endpoint is"),
        ({**JUDGE, "question": "{answer} {promt}"}, r"no 'promt' to put in \(did you mean prompt\?\)"),
        ({**JUDGE, "question": "{prompt}"}, "there is no {answer} in it"),
        ({**JUDGE, "scale": [5, 5]}, "scale = 5, 5: the least comes first"),
        ({"is": "python", "function": "score"}, "function = 'score': write module:function"),
        ({"is": "python", "function": "a/b.py:score"}, "write module:function"),
        ({"is": "python", "function": "a:b", "timeout_s": 0}, "timeout_s = 0"),
    ],
)
def test_mistakes_are_refused_in_words(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_term(value)


def test_mistakes_are_told_in_chinese() -> None:
    with speaking("zh"), pytest.raises(ValueError, match="没有奖励项 'exakt'（是否想写 exact？）"):
        parse_term({"is": "exakt"})


@pytest.mark.parametrize("name", TERMS)
def test_every_term_says_what_it_is(name: str) -> None:
    assert TERMS[name].__doc__
    assert f"- `{name}`: " in (rewards_terms.__doc__ or "")


def test_an_unjudged_score_keeps_its_reason() -> None:
    kept = pickle.loads(pickle.dumps(Unjudged("why")))
    assert math.isnan(kept)
    assert kept.reason == "why"


def terms(*names: str) -> list[Term]:
    return [parse_term({"is": name}) for name in names]


def test_names_are_unique() -> None:
    assert names_of(terms("exact", "stopped", "exact", "exact")) == ("exact", "stopped", "exact_2", "exact_3")


def test_a_term_is_named_on_a_command_line() -> None:
    assert named("exact") == parse_term({"is": "exact"})
    assert named(' {"is": "number", "weight": 0.5}') == parse_term({"is": "number", "weight": 0.5})
    with pytest.raises(ValueError, match=r"no reward term 'exakt'.*exact"):
        named("exakt")
    with pytest.raises(ValueError, match=r'\{"is": exact\}: not JSON'):
        named('{"is": exact}')


def test_terms_that_compare_are_refused_where_rows_have_no_right_answer() -> None:
    compared, others = [named("repetition"), named("exact"), named("number")], [named("format"), named("stopped")]
    require_references(compared, [], 9)
    require_references(others, ["a.jsonl:3"], 9)
    said = r"^a\.jsonl:3: the reward exact, number compares .* \(2 of 9 rows\)\. .*such as format, repetition, stopped$"
    with pytest.raises(ValueError, match=said):
        require_references(compared, ["a.jsonl:3", "a.jsonl:7"], 9)


def test_judging_and_the_sum() -> None:
    with Rewards([parse_term({"is": "exact", "weight": 2}), parse_term({"is": "overlong", "buffer": 10})]) as rewards:
        judged = rewards.judge([attempt("a", "a", tokens=95), attempt("b", "a", tokens=5)], [0, 0])
        assert rewards.names == judged.names == ("exact", "overlong")
        assert rewards.weights == (2.0, 1.0)
        assert judged.values_KA.dtype == np.float64
        assert judged.values_KA.tolist() == [[1, 0], [-0.5, 0]]
        assert judged.total(rewards.weights).tolist() == [1.5, 0]
        assert judged.total([0.0, -1.0]).tolist() == [0.5, 0]
        assert judged.failed_K.tolist() == [0, 0]
        assert rewards.problems == {}
        with pytest.raises(ValueError, match="zip"):
            judged.total([1.0])
        assert rewards.judge([], []).values_KA.shape == (2, 0)


def judged_by(scores: Sequence[float], groups: Sequence[int]) -> tuple[list[float], int, str]:
    with Rewards(terms("reward_model"), scorers={"reward_model": lambda attempts: scores}) as rewards:
        judged = rewards.judge([attempt()] * len(scores), groups)
        return judged.values_KA[0].tolist(), int(judged.failed_K[0]), rewards.problems.get("reward_model", "")


def test_what_failed_is_neutral_and_counted() -> None:
    failed = Unjudged("the model is away")
    assert judged_by([1, failed, 3, 8, 9], [0, 0, 0, 1, 1]) == ([1, 2, 3, 8, 9], 1, "the model is away")
    # nothing else in the group: the mean of all
    assert judged_by([1, failed, 3, failed], [0, 1, 2, 1]) == ([1, 2, 3, 2], 2, "the model is away")
    assert judged_by([failed, failed], [0, 1]) == ([0, 0], 2, "the model is away")
    values, count, reason = judged_by([math.inf, 1e16, math.nan, 5], [0, 0, 0, 0])
    assert (values, count) == ([5, 5, 5, 5], 3)
    assert reason == "the score inf is no number that can be used"


def test_a_row_without_an_answer_is_neutral() -> None:
    with Rewards(terms("exact")) as rewards:
        judged = rewards.judge([attempt("a", "a"), attempt("b", "a"), attempt("")], [0, 0, 1])
        assert judged.values_KA.tolist() == [[1, 0, 0.5]]
        assert "no right answer" in rewards.problems["exact"]


def test_scorers_are_for_the_terms_that_need_one() -> None:
    def one(attempts: Sequence[Attempt]) -> list[float]:
        return [1.0] * len(attempts)

    def two(attempts: Sequence[Attempt]) -> list[float]:
        return [2.0] * len(attempts)

    pair = terms("reward_model", "reward_model")
    with Rewards(pair, scorers={"reward_model": one, "reward_model_2": two}) as rewards:
        assert rewards.judge([attempt()], [0]).values_KA.tolist() == [[1], [2]]
    with pytest.raises(TypeError, match="no scorer for the term reward_model_2"):
        Rewards(pair, scorers={"reward_model": one})
    with pytest.raises(TypeError, match="exact"):
        Rewards(terms("exact"), scorers={"exact": one})
    with pytest.raises(TypeError, match="RewardModel is judged by the scorer"):
        pair[0].scores([attempt()])
    with Rewards(terms("reward_model"), scorers={"reward_model": lambda attempts: [1.0]}) as rewards:
        with pytest.raises(TypeError, match="gave 1 scores for 2 answers"):
            rewards.judge([attempt(), attempt()], [0, 0])
        with pytest.raises(TypeError, match="1 attempts with 2 groups"):
            rewards.judge([attempt()], [0, 0])
    with pytest.raises(ValueError, match="at least one term; there are: exact, contains"):
        Rewards([])


def test_what_a_scorer_raises_is_not_swallowed() -> None:
    def away(attempts: Sequence[Attempt]) -> list[float]:
        raise MemoryError

    with Rewards(terms("reward_model"), scorers={"reward_model": away}) as rewards, pytest.raises(MemoryError):
        rewards.judge([attempt()], [0])


SCORES = st.sampled_from([math.nan, math.inf, -math.inf, 1e300]) | st.floats(-1e15, 1e15)


@settings(deadline=None)
@given(st.lists(st.tuples(SCORES, st.integers(0, 3)), min_size=1, max_size=12))
def test_a_neutral_value_moves_no_mean_of_its_group(scored: list[tuple[float, int]]) -> None:
    scores, groups = [score for score, _ in scored], [group for _, group in scored]
    values, failed, _ = judged_by(scores, groups)
    good = [math.isfinite(score) and abs(score) <= 1e15 for score in scores]
    assert failed == good.count(False)
    assert all(math.isfinite(value) for value in values)
    for group in set(groups):
        before = [value for value, ok, own in zip(scores, good, groups, strict=True) if ok and own == group]
        after = [value for value, own in zip(values, groups, strict=True) if own == group]
        if before:
            assert np.mean(after) == pytest.approx(np.mean(before), rel=1e-9, abs=1)
        else:
            assert len(set(after)) == 1
    assert all(value == score for value, score, ok in zip(values, scores, good, strict=True) if ok)


TEXTS = st.text() | st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "a", "你", " ", "7", "\n", "\ud800"])
).map("".join)
BOUNDS: list[tuple[dict[str, Any], float, float]] = [
    ({"is": "exact"}, 0, 1),
    ({"is": "contains", "ignore_case": True}, 0, 1),
    ({"is": "number", "tag": "answer"}, 0, 1),
    ({"is": "match", "pattern": "a+"}, 0, 1),
    ({"is": "format"}, 0, 1),
    ({"is": "length", "least": 3, "most": 9, "slack": 4}, 0, 1),
    ({"is": "overlong", "buffer": 8}, -1, 0),
    ({"is": "repetition"}, -1, 0),
    ({"is": "language", "language": "zh"}, 0, 1),
    ({"is": "stopped"}, 0, 1),
]


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS, st.sampled_from(["stop", "length", "tool_calls"]), st.integers(0, 40), st.integers(1, 40))
def test_every_score_is_within_what_its_term_promises(
    text: str, thinking: str, reference: str, finish: str, tokens: int, room: int
) -> None:
    one = attempt(text, reference, thinking=thinking, finish=finish, tokens=tokens, room=room)
    for term, least, most in BOUNDS:
        found = score(term, one)
        assert isinstance(found, Unjudged) or least <= found <= most, term
