from __future__ import annotations

from pathlib import Path

from jobs.stock.talk import Pair, bare, chatterbot, chitchat, chitchat_pairs, own_talk, vary


def test_own_talk_has_one_answer_to_a_question() -> None:
    pairs = own_talk()
    questions = [bare(pair.question).lower() for pair in pairs]
    assert len(set(questions)) == len(questions)
    assert {pair.language for pair in pairs} == {"zh", "en"}
    assert all(pair.answer for pair in pairs)


def test_chatterbot_sections_and_broken_entries(archives: dict[str, Path]) -> None:
    assert chatterbot(archives["chatterbot-corpus"]) == [
        Pair("What is a kite?", "A toy that flies.", "en"),  # the first answer only, as a sentence
        Pair("Hello", "Hi.", "en"),
        Pair("你好", "嗨。", "zh"),
        Pair("怎么了?", "没什么，你呢？", "zh"),
    ]


def test_chats_alternate_and_stop_before_noise(archives: dict[str, Path]) -> None:
    chats = sorted(chitchat(archives["chitchat-dataset"], seed=0), key=len)
    assert chats[0] == ["hi again", "yo", "so", "ok"]
    assert len(chats) == 2  # the third one begins with an address
    assert chats[1][3] == "This is what I say in turn 3. And more."
    pairs = list(chitchat_pairs(archives["chitchat-dataset"], seed=0))
    assert len(pairs) == 5
    assert pairs[0].answer == pairs[1].question


def test_chats_come_in_an_order_that_depends_on_the_seed_alone(archives: dict[str, Path]) -> None:
    orders = {seed: list(chitchat(archives["chitchat-dataset"], seed)) for seed in range(6)}
    assert orders[0] == list(chitchat(archives["chitchat-dataset"], 0))
    assert len({str(order) for order in orders.values()}) == 2


def test_variants_of_a_question() -> None:
    hello, what = Pair("hello", "Hi.", "en"), Pair("你是谁?", "我。", "zh")
    assert [vary(hello, number) for number in range(4)] == ["Hello", "Hello.", "hello!", "hello..."]
    assert [vary(what, number) for number in range(3)] == ["你是谁？", "你是谁", "你是谁?"]
    for pair in own_talk():
        assert len({vary(pair, number) for number in range(4)}) == 4
