"""Answers of several turns: what is told between them is read, and neither learnt nor counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from minimind.device.distributed import Parallel
from minimind.network.score import ScoreModel
from minimind.training.answers import answer_logprobs, tree_tokens
from minimind.training.attempts import Attempts, Tried, Trying, Verdict, told_of
from minimind.training.credit import CriticCredit, GroupCredit, TrackedCredit
from minimind.training.policy import PolicyBatch, PolicyLoss, policy_loss
from minimind.training.rollout import Reply, Writer, Writing, Written, in_rows
from minimind.training.tracker import Tracker
from tests.toys import TOY_CONFIG, toy_model
from tests.unit.test_rollout import Prompts

CONTEXT, STOP = 64, 0
HOW = Writing(seed=5, answers=6, max_tokens=24, context_tokens=CONTEXT, stop_id=STOP, max_calls=3)


@dataclass
class Oracle:
    """Answers a turn of an even sum with some tokens that follow from it. asked: what it was asked."""

    tokens: int = 5
    always: bool = False
    asked: list[tuple[list[int], list[int], int]] = field(default_factory=list)

    def reply(self, context: Sequence[int], turn: Sequence[int], calls_left: int) -> Reply | None:
        self.asked.append((list(context), list(turn), calls_left))
        assert turn[-1] == STOP
        if sum(turn) % 2 and not self.always:
            return None
        if not calls_left:
            return Reply([], 0, 0)
        drawn = (sum(turn) + at * 7 for at in range(self.tokens))
        return Reply([1 + token % (TOY_CONFIG.vocab_size - 1) for token in drawn], 1, int(sum(turn) % 3 == 0))


def eager(seed: int = 0) -> Any:
    """A model that ends its turns often."""
    model = toy_model(seed)
    with torch.no_grad():
        model.head_weight_VD[STOP] *= 3
    return model


def write(tools: Oracle | None, how: Writing = HOW, slots: int = 16, greedy: bool = False) -> list[list[Written]]:
    writer = Writer({"policy": eager()}, how, tools)
    writer.slots = slots
    prompts = [(row, prompt) for row, prompt in enumerate(Prompts().take(1)[0].prompts())]
    return writer.write(8, prompts, greedy=greedy)


def flat(groups: Sequence[Sequence[Written]]) -> list[Written]:
    return [one for group in groups for one in group]


def test_an_answer_goes_on_from_what_it_was_told() -> None:
    groups = write(tools := Oracle())
    answers = flat(groups)
    assert {one.calls for one in answers} == {0, 1, 2, 3}
    assert {one.finished for one in answers} == {True, False}
    asked = {tuple(context + turn): left for context, turn, left in tools.asked}
    for one in answers:
        assert len(one.own) == len(one.logprobs) <= one.room
        assert one.answer.targets.sum() == len(one.own)
        assert one.answer.tokens[one.answer.targets].tolist() == one.own
        assert len(one.turns) == len(one.told) + 1
        for number, ((_, end), (start, stop)) in enumerate(zip(one.turns, one.told, strict=False)):
            assert end == start
            assert one.tokens[end - 1] == STOP
            assert stop - start == tools.tokens
            assert asked[tuple(one.tokens[:end])] == HOW.max_calls - number
        assert one.room == min(HOW.max_tokens, CONTEXT - one.prompt - 5 * len(one.told))
        assert one.finished == (one.tokens[-1] == STOP and bool(sum(one.tokens[slice(*one.turns[-1])]) % 2))


@pytest.mark.parametrize("greedy", [False, True])
def test_answers_are_the_same_however_many_are_written_at_once(greedy: bool) -> None:
    whole = write(Oracle(), greedy=greedy)
    assert any(one.told for group in whole for one in group)
    for slots in (1, 3):
        found = write(Oracle(), slots=slots, greedy=greedy)
        for one, other in zip(flat(whole), flat(found), strict=True):
            assert replace(one, logprobs=[]) == replace(other, logprobs=[])
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    if not greedy:  # turns of one answer are drawn anew, not as its first was
        tries = {(one.row, tuple(one.tokens[slice(*turn)])) for group in whole for one in group for turn in one.turns}
        assert len(tries) > len(whole)


def test_without_calls_answers_are_those_without_tools() -> None:
    alone, beside = write(None), write(Oracle(), replace(HOW, max_calls=0))
    for one, other in zip(flat(alone), flat(beside), strict=True):
        assert one.tokens == other.tokens
        assert (other.told, other.calls) == ((), 0)
        called = one.tokens[-1] == STOP and sum(one.own) % 2 == 0
        assert (one.finished and not called) == other.finished


def test_a_model_that_calls_for_ever_is_stopped() -> None:
    for most in (1, 2, 3):
        tools = Oracle(always=True)
        answers = flat(write(tools, replace(HOW, max_calls=most, max_tokens=60)))
        assert max(one.calls for one in answers) == most
        assert not any(one.finished for one in answers)
        assert max(len(one.told) for one in answers) == most
        assert {left for *_, left in tools.asked} == set(range(most + 1))
    assert all(len(one.tokens) <= CONTEXT for one in answers)


def test_own_tokens_are_bounded_over_all_turns() -> None:
    answers = flat(write(Oracle(always=True), replace(HOW, max_tokens=7, max_calls=50)))
    assert all(len(one.own) <= 7 for one in answers)
    full = [one for one in answers if len(one.own) == 7]
    assert full
    assert all(not one.finished and one.tokens[-1] in one.own for one in full)
    assert any(one.tokens[-1] == STOP for one in full)  # whose last call was made, and has no room to be read


@pytest.mark.parametrize("tokens", [30, 57, 60, 61, 200])
def test_a_tool_that_says_more_than_there_is_room_for_ends_the_answer(tokens: int) -> None:
    answers = flat(write(Oracle(tokens, always=True), replace(HOW, max_calls=50)))
    assert all(len(one.tokens) <= CONTEXT for one in answers)
    assert not any(one.finished for one in answers)
    cut = [one for one in answers if one.calls > len(one.told)]
    assert cut
    for one in cut:
        assert len(one.tokens) + tokens >= CONTEXT or len(one.own) == HOW.max_tokens
        assert one.own[-1] == one.tokens[-1] == STOP
    for one in answers:
        first = one.turns[0][1]
        ended = one.tokens[first - 1] == STOP and first - one.prompt < HOW.max_tokens
        assert bool(one.told) == (ended and first + tokens < CONTEXT)
        assert len(one.tokens) > (one.told[-1][1] if one.told else one.prompt)


def test_what_was_drawn_is_what_is_trained_in_groups_and_alone() -> None:
    model, groups = eager(), write(Oracle())
    texts = [[one.answer for one in group] for group in groups]
    shared = [tree_tokens([answer.tokens for answer in group]) for group in texts]
    assert any(size < sum(len(answer.tokens) for answer in group) for size, group in zip(shared, texts, strict=True))
    batch, order = in_rows(texts, range(len(texts)), CONTEXT)
    drawn = [value for at in order for one in groups[at] for value in one.logprobs]
    with torch.no_grad():
        assert answer_logprobs(model, batch).tolist() == pytest.approx(drawn, abs=1e-4)
        for one in flat(groups):
            alone, _ = in_rows([[one.answer]], [0], CONTEXT)
            assert answer_logprobs(model, alone).tolist() == pytest.approx(one.logprobs, abs=1e-4)


def test_what_was_told_has_no_gradient_of_its_own() -> None:
    model, group = eager(), max(write(Oracle()), key=lambda group: sum(len(one.told) for one in group))
    one = max(group, key=lambda one: len(one.told))
    assert one.told
    batch, _ = in_rows([[one.answer]], [0], CONTEXT)
    count = len(one.own)
    policy_batch = PolicyBatch(**vars(batch), advantage_M=torch.ones(count), drawn_M=torch.tensor(one.logprobs))
    hidden: list[torch.Tensor] = []

    def keep(module: Any, given: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        hidden.append(output)

    handle = model.register_forward_hook(keep)
    loss = policy_loss(PolicyLoss(), policy_batch, answer_logprobs(model, policy_batch))
    handle.remove()
    assert float(loss.weight) == count
    torch.autograd.backward(loss.total)
    (of_hidden,) = hidden
    assert of_hidden.grad is not None
    reached = of_hidden.grad[0].abs().sum(1).nonzero()[:, 0].tolist()
    own = [at for start, end in one.turns for at in range(start, end)]
    assert reached == [at - 1 for at in own]


def tried_of(answers: Sequence[Written], rewards: Sequence[float], looked: Any) -> Tried:
    values = np.array([rewards])
    rows = np.array([one.row for one in answers])
    all_A = np.ones(len(answers), np.bool_)
    return Tried(rows, np.arange(len(answers)), values, values[0], [looked], all_A, all_A)


def test_a_critic_and_a_memory_look_at_own_tokens_alone() -> None:
    tools, model = Oracle(), eager()
    critic = ScoreModel.of(eager())
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(0.01)
    writer = Writer({"policy": model, "critic": critic}, replace(HOW, answers=1), tools)
    prompts = [(row, prompt) for row, prompt in enumerate(Prompts().take(1)[0].prompts())]
    answers = flat(writer.write(8, prompts))
    assert any(one.told for one in answers)
    lengths, rewards = [len(one.own) for one in answers], [float(one.row % 2) for one in answers]

    of_critic = CriticCredit(writer.models, writer, 4, 1.0, 0.95)
    looked = of_critic.look(answers)
    values = [value for value, _ in looked]
    assert [len(value) for value in values] == lengths
    for one, value in zip(answers, values, strict=True):
        with torch.no_grad():
            scores_T = critic.scores(torch.tensor([one.tokens]), torch.ones(1, len(one.tokens), dtype=torch.int32))[0]
        before = [float(scores_T[at - 1]) for start, end in one.turns for at in range(start, end)]
        assert value == pytest.approx(before, abs=1e-4)
    for given, length in zip(of_critic.give(tried_of(answers, rewards, looked), lengths), lengths, strict=True):
        assert given is not None
        assert len(given.advantage_T) == length

    memory = TrackedCredit(Tracker(len(answers)), writer, 4)
    memory.give(tried_of(answers, rewards, memory.look(answers)), lengths)
    again = TrackedCredit(Tracker(len(answers)), writer, 4)
    again.load_state_dict(memory.state_dict())
    moved, _ = again.look(answers)
    assert moved == pytest.approx([0.0] * len(answers), abs=1e-4)


class Judge:
    """Gives a reward by the row and the answer's length."""

    names: tuple[str, ...] = ("one",)
    weight_K = np.array([1.0])

    def judge(self, written: Sequence[Written]) -> Verdict:
        return Verdict(np.array([[float(len(one.own) % 3) for one in written]]), np.zeros((1, len(written)), np.bool_))

    def worst(self) -> None:
        """It takes nothing."""


def test_attempts_are_batches_whose_drawn_log_probs_are_those_of_the_policy() -> None:
    model = eager()
    for passes in (1, 2):
        source = Attempts(
            Prompts(),
            Writer({"policy": model}, HOW, Oracle()),
            Judge(),
            GroupCredit("group"),
            Trying(passes),
            Parallel(),
        )
        (batch,) = source.attempt(1)
        with torch.no_grad():
            now_M = answer_logprobs(model, batch)
        assert (now_M - batch.drawn_M).abs().max() < 1e-4
        assert len(batch.advantage_M) == len(now_M)
        sums = {name: (total, count) for name, total, count in batch.told}
        assert sums["tool_calls"][1] == 48
        assert 0 < sums["tool_errors"][0] < sums["tool_errors"][1] == sums["tool_calls"][0]
        assert sums["answer_tokens"][0] >= len(now_M)


def test_what_is_said_of_calls() -> None:
    one = Written(0, [1, 2, 3], 1, [0.0, 0.0], True, 9, calls=3, errors=1)
    verdict = Verdict(np.zeros((1, 2)), np.zeros((1, 2), np.bool_))
    said = {name: pair for name, *pair in told_of(Judge(), [one, replace(one, calls=0, errors=0)], verdict, calls=True)}
    assert (said["tool_calls"], said["tool_errors"]) == ([3, 2], [1, 3])
    assert "tool_calls" not in {
        name for name, *_ in told_of(Judge(), [one], Verdict(np.zeros((1, 1)), np.zeros((1, 1), np.bool_)))
    }


@pytest.mark.parametrize(("room", "told"), [(4, 0), (4, 6), (24, 15), (90, 15), (4, 90)])
def test_the_worst_there_can_be_is_no_less_than_what_there_is(room: int, told: int) -> None:
    worst = PolicyBatch.worst(8, CONTEXT, 6, room, old=False, told=told)
    how = replace(HOW, max_tokens=room, max_calls=told // 5)
    groups = write(Oracle(always=True) if told else None, how)
    for group in groups:
        assert tree_tokens([one.answer.tokens for one in group]) <= worst.tokens_BT.shape[1]
        assert sum(len(one.own) for one in group) <= len(worst.member_M) // 8
    each = min(room + told, CONTEXT - 1)
    assert worst.tokens_BT.shape == (8, CONTEXT - each + 6 * each)
    assert len(worst.member_M) == len(worst.predicted_N) == 8 * 6 * min(room, CONTEXT - 1)
    assert worst.answers == 48
    assert set(worst.answer_M.tolist()) == set(range(48))
