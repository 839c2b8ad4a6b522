from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data.batches import OrderedBatches, in_order
from data.pack import learnable, paired
from data.prepare import tokenise
from data.rows import PairRows, PromptRows
from data.shards import TokenShards
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer
from minimind.training.answers import AnswerBatch
from tests.small import turns, write_chats

TOKENIZER = Tokenizer.train(["zz"], vocab_size=292)
WIDTH = 64


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    """Ten pairs: in the eighth the worse answer, in the ninth both begin behind WIDTH; the last is longer."""
    folder = tmp_path_factory.mktemp("pairs")
    asked = [f"{n:02}" for n in range(7)] + ["q", "q" * 90, "08"]
    good = ["ab" * (n + 1) for n in range(7)] + ["a", "a", "c" * 90]
    bad = ["ba"] * 7 + ["b", "b", "d" * 3]
    rows = [{"chosen": turns(q, g), "rejected": turns(q, b)} for q, g, b in zip(asked, good, bad, strict=True)]
    rows[7]["rejected"] = turns("z" * 80, "b")
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tokenise([path], TOKENIZER, folder / "out", rows="dpo")


def texts_of(batch: AnswerBatch, pad_id: int = 0) -> list[tuple[list[int], str]]:
    """Each answer of a batch as (prompt and answer, what of it is learnt), put together again."""
    width = batch.tokens_BT.shape[1]
    found = []
    for answer, last in enumerate(batch.last_A.tolist()):
        row, end = divmod(last, width)
        segment, branch = int(batch.segment_BT[row, end]), int(batch.branch_BT[row, end])
        own_T = (batch.segment_BT[row] == segment) & torch.isin(batch.branch_BT[row], torch.tensor([0, branch]))
        learnt = batch.predicted_N[batch.member_M[batch.answer_M == answer]]
        found.append(
            (batch.tokens_BT[row][own_T].tolist(), TOKENIZER.decode(batch.tokens_BT.flatten()[learnt].tolist()))
        )
    assert bool((batch.tokens_BT[batch.segment_BT == 0] == pad_id).all())
    return found


def test_a_pair_has_its_better_answer_first_and_nothing_but_answers_is_learnt(pairs: TokenShards) -> None:
    rows = PairRows(pairs, np.arange(7), WIDTH, pad_id=5)
    found = texts_of(rows.batch(range(rows.count)), pad_id=5)
    expected = [(pairs.document(number).tolist(), text) for number, text in enumerate(_said(range(7)))]
    assert sorted(found) == sorted(expected)
    for better, worse in zip(found[0::2], found[1::2], strict=True):
        assert (better, worse) in zip(expected[0::2], expected[1::2], strict=True)


def _said(pairs: Iterable[int]) -> list[str]:
    return [f"{text}<|im_end|>" for n in pairs for text in ("ab" * (n + 1), "ba")]


def test_a_row_holds_as_many_pairs_as_fit_and_their_stems_once(pairs: TokenShards) -> None:
    rows = PairRows(pairs, np.arange(7), WIDTH)
    batch = rows.batch(range(rows.count))
    alone = [(pairs.document(2 * n).tolist(), pairs.document(2 * n + 1).tolist()) for n in range(7)]
    shared = [next(at for at, ids in enumerate(zip(*pair, strict=False)) if len(set(ids)) > 1) for pair in alone]
    trees = [len(one) + len(other) - stem for (one, other), stem in zip(alone, shared, strict=True)]
    assert batch.real_tokens == sum(trees) == int(rows.packing.piece_length.sum())
    assert batch.tokens_BT.shape == (rows.count, 2 * WIDTH)
    assert rows.count < 7


def test_what_is_too_long_loses_its_end_and_what_has_no_answer_left_is_not_read(pairs: TokenShards) -> None:
    chosen = learnable(pairs, WIDTH)
    assert chosen.tolist() == [*range(7), 9]
    rows = PairRows(pairs, chosen, WIDTH)
    (long,) = [ids for ids, _ in texts_of(rows.batch(range(rows.count))) if len(ids) == WIDTH]
    assert long == pairs.document(18)[:WIDTH].tolist()


def test_turns_that_both_answers_have_are_read_and_not_learnt(tmp_path: Path) -> None:
    before = [*turns("one", "first"), *turns("two", "second")]
    row = {"chosen": [*before, *turns("three", "aab")], "rejected": [*before, *turns("three", "aac")]}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    shards = tokenise([path], TOKENIZER, tmp_path / "out", rows="dpo")
    found = texts_of(PairRows(shards, np.arange(1), 256).batch([0]))
    assert [said for _, said in found] == ["aab<|im_end|>", "aac<|im_end|>"]


def test_a_pair_of_which_no_answer_is_left_but_one_that_both_give_is_not_read(tmp_path: Path) -> None:
    before = turns("one", "first")
    rows: list[dict[str, Any]] = [
        {side: [*before, *turns(question, answer)] for side, answer in (("chosen", "aab"), ("rejected", "aac"))}
        for question in ("two", "q" * 256)
    ]
    rows.append({**rows[0], "rejected": [*rows[0]["rejected"][:-1], rows[0]["rejected"][-1] | {"weight": 0}]})
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    shards = tokenise([path], TOKENIZER, tmp_path / "out", rows="dpo")
    assert learnable(shards, 256).tolist() == [0, 1, 2]
    assert paired(shards, 256).tolist() == [0]


def test_answers_to_different_prompts_are_refused_with_their_line(tmp_path: Path) -> None:
    shards = tokenise([write_pair(tmp_path)], TOKENIZER, tmp_path / "out", rows="dpo")
    rows = PairRows(shards, np.arange(1), WIDTH)
    with pytest.raises(ValueError, match=r"a\.jsonl line 1: its two answers are to different prompts"):
        Unlike(rows.shards, np.arange(1), WIDTH)


class Unlike(PairRows):
    """As if the second side began with another token."""

    def _tokens(self, document: int) -> NDArray[Any]:
        return super()._tokens(document)[document % 2 :]


def write_pair(folder: Path) -> Path:
    path = folder / "a.jsonl"
    path.write_text(json.dumps({"chosen": turns("q", "a"), "rejected": turns("q", "b")}) + "\n", "utf-8")
    return path


def test_pairs_are_read_in_the_one_order_of_all_rows(pairs: TokenShards) -> None:
    rows = PairRows(pairs, np.arange(7), 24)
    assert rows.count > 4
    batches = OrderedBatches(rows, batch_size=2, seed=3)
    taken = [batch for _ in range(batches.total_steps(1)) for batch in batches.take(1)]
    assert sorted(row for batch in taken for row in batch.rows) == list(range(rows.count))
    state = OrderedBatches(rows, batch_size=2, seed=3)
    state.take(2)
    again = OrderedBatches(rows, batch_size=2, seed=3)
    again.load_state_dict(state.state_dict())
    assert torch.equal(again.take(1)[0].tokens_BT, taken[2].tokens_BT)
    assert [row for batch in in_order(rows, batch_size=3) for row in batch.rows] == list(range(rows.count))
    other = OrderedBatches(PairRows(pairs, np.arange(6), 24), batch_size=2, seed=3)
    with pytest.raises(ValueError, match="the choice of documents was"):
        other.load_state_dict(state.state_dict())


def test_rows_that_are_no_pairs_and_no_rows_are_refused(pairs: TokenShards, tmp_path: Path) -> None:
    chats = tokenise([write_chats(tmp_path / "a.jsonl", [("q", "a")])], TOKENIZER, tmp_path / "out", rows="sft")
    with pytest.raises(ValueError, match="its rows are no pairs"):
        PairRows(chats, np.arange(1), WIDTH)
    with pytest.raises(ValueError, match="no pair has both answers in its first 64 tokens"):
        PairRows(pairs, np.arange(0), WIDTH)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    """Five questions with their right answers: the prompt of the third leaves room for one token in WIDTH, that of the
    fourth for none, and the last answer is longer than WIDTH.
    """
    folder = tmp_path_factory.mktemp("questions")
    spare = WIDTH - 1 - len(asked_with(""))
    rows = [("ab", "a"), ("c", "ca b"), ("d" * spare, "abc"), ("d" * (spare + 1), "abc"), ("e", "b" * 90)]
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps({"prompt": q, "answer": a}) + "\n" for q, a in rows), "utf-8")
    return tokenise([path], TOKENIZER, folder / "out", rows="rl")


def asked_with(question: str) -> list[int]:
    """The prompt of a question."""
    return list(render(TOKENIZER, [{"role": "user", "content": question}], add_generation_prompt=True).ids)


def test_a_question_is_a_prompt_with_its_right_answer(questions: TokenShards) -> None:
    chosen = learnable(questions, WIDTH)
    assert chosen.tolist() == [0, 1, 2, 4]
    rows = PromptRows(questions, chosen[[3, 0, 2, 1]], WIDTH, pad_id=7)
    batch = rows.batch([0, 1, 2, 3])
    assert batch.rows == (0, 1, 2, 3)
    spare = WIDTH - 1 - len(asked_with(""))
    for prompt, question in zip(batch.prompts(), ("e", "ab", "d" * spare, "c"), strict=True):
        assert prompt == asked_with(question)
    assert batch.tokens_BT.shape == (4, WIDTH - 1)
    assert set(batch.tokens_BT[0, len(asked_with("e")) :].tolist()) == {7}
    assert [TOKENIZER.decode(rows.right(row)) for row in range(4)] == [
        f"{answer}<|im_end|>" for answer in ("b" * 90, "a", "abc", "ca b")
    ]


def test_what_a_right_answer_is_depends_on_which_rows_are_read(questions: TokenShards) -> None:
    one, other = (PromptRows(questions, np.array(chosen), WIDTH) for chosen in ([0, 1], [1, 0]))
    assert one.identity() != other.identity()
    assert one.right(0) == other.right(1) != other.right(0)
