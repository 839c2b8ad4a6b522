from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data.prepare import tokenise
from data.shards import TokenShards
from data.split import hold_out
from minimind.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["text number"] * 2, vocab_size=300)


def shards(tmp_path: Path, texts: Sequence[str]) -> TokenShards:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return tokenise([path], TOKENIZER, tmp_path / "out")


def test_no_pair_loses_a_side_and_none_is_on_both(tmp_path: Path) -> None:
    def side(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]

    numbers = [*range(60), 3, 3, 7]  # some pairs stand there more than once
    rows = [{"chosen": side(f"good {n}"), "rejected": side(f"bad {n}")} for n in numbers]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = tokenise([path], TOKENIZER, tmp_path / "out", rows="dpo")
    assert (made.rows, len(made)) == (63, 126)
    training, validation = hold_out(made, 0.5, 1000)
    assert max(*training, *validation) < 63  # rows are numbered, not documents
    of = [{numbers[row] for row in part} for part in (training, validation)]
    assert not of[0] & of[1]
    assert len(validation) == len(of[1])  # each is measured once
    assert of[0] | of[1] == set(range(60))
    assert len(training) + len(validation) + sum(numbers.count(n) - 1 for n in of[1]) == 63
    for row in (*training, *validation):
        good, bad = (TOKENIZER.decode(made.document(2 * row + number).tolist()) for number in range(2))
        assert (f"good {numbers[row]}" in good, f"bad {numbers[row]}" in bad) == (True, True)


def held_out(made: TokenShards, documents: Sequence[int]) -> set[bytes]:
    return {made.document(i).tobytes() for i in documents}


def test_about_the_fraction_is_held_out_and_nothing_overlaps(tmp_path: Path) -> None:
    made = shards(tmp_path, [f"text {i}" for i in range(2000)])
    training, validation = hold_out(made, 0.1, 10_000)
    assert sorted([*training, *validation]) == list(range(2000))
    assert 150 < len(validation) < 250
    assert validation.tolist() == sorted(validation.tolist())


def test_a_choice_of_documents_is_split_by_the_same_hash(tmp_path: Path) -> None:
    made = shards(tmp_path, [f"text {i}" for i in range(400)])
    chosen = np.arange(1, 400, 2)
    training, validation = hold_out(made, 0.1, 1000, chosen)
    assert sorted([*training, *validation]) == chosen.tolist()
    assert set(validation) == set(hold_out(made, 0.1, 1000)[1]) & set(chosen)


def test_content_decides_and_not_the_place(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(500)]
    one, other = shards(tmp_path, texts), shards(tmp_path, texts[::-1])
    first, second = hold_out(one, 0.05, 1000)[1], hold_out(other, 0.05, 1000)[1]
    assert held_out(one, first.tolist()) == held_out(other, second.tolist())
    more = shards(tmp_path, [*texts, *(f"new {i}" for i in range(500))])
    assert held_out(one, first.tolist()) < held_out(more, hold_out(more, 0.05, 1000)[1].tolist())


def test_a_repeated_text_is_never_on_both_sides(tmp_path: Path) -> None:
    made = shards(tmp_path, [f"text {i % 100}" for i in range(300)])
    training, validation = hold_out(made, 0.2, 1000)
    assert not held_out(made, training.tolist()) & held_out(made, validation.tolist())
    assert len(held_out(made, validation.tolist())) == len(validation)
    assert len(training) == 3 * (100 - len(validation))


def test_at_least_one_and_at_most_the_limit(tmp_path: Path) -> None:
    made = shards(tmp_path, [f"text {i}" for i in range(200)])
    assert len(hold_out(made, 1e-9, 100)[1]) == 1
    assert len(hold_out(made, 0.5, 7)[1]) == 7
    two = shards(tmp_path, ["a", "b"])
    assert [len(part) for part in hold_out(two, 0.999, 100)] == [1, 1]


def test_what_can_not_be_split(tmp_path: Path) -> None:
    made = shards(tmp_path, ["same", "same"])
    with pytest.raises(ValueError, match="2 rows with 1 different texts can't be split"):
        hold_out(made, 0.1, 10)
    for fraction in (0, 1, -0.1):
        with pytest.raises(ValueError, match=f"validation fraction = {fraction}: allowed is"):
            hold_out(made, fraction, 10)
    with pytest.raises(ValueError, match="max_documents = 0: at least 1"):
        hold_out(made, 0.1, 0)


def test_of_few_rows_more_are_held_out_but_no_more_than_a_third(tmp_path: Path) -> None:
    made = shards(tmp_path, [f"text {i}" for i in range(120)])
    usual = held_out(made, hold_out(made, 0.1, 1000)[1].tolist())
    for least, expected in ((0, len(usual)), (30, 30), (40, 40), (100, 40), (1, len(usual))):
        training, validation = hold_out(made, 0.1, 1000, least=least)
        assert len(validation) == expected
        assert sorted([*training, *validation]) == list(range(120))
        assert held_out(made, validation.tolist()) >= usual  # those that were before are still
    assert len(hold_out(made, 0.1, 7, least=100)[1]) == 7
    assert len(hold_out(made, 0.1, 7, np.arange(2), least=100)[1]) == 1
