"""The losses of a policy and of a critic against their definitions, answer by answer and token by token in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import grad

from minimind.network.score import ScoreModel, ValueHead
from minimind.training.answers import Answer, answer_batch, answer_logprobs, worst_tree
from minimind.training.objectives import Loss
from minimind.training.policy import JudgedBatch, PolicyBatch, PolicyLoss, kl_estimate, policy_loss, token_values
from minimind.training.policy import value_loss as critic_loss
from tests.toys import toy_model

LENGTHS = [3, 1, 5, 4, 2, 6]
"""Of the answers, in two rows; the first has two prompts."""

ROOM = 7
CLOSE = 1e-6


@dataclass(frozen=True)
class Numbers:
    """What a loss is of, [M] in float64."""

    logprob: Tensor
    old: Tensor
    drawn: Tensor
    advantage: Tensor
    reference: Tensor
    value: Tensor
    said: Tensor
    due: Tensor


def numbers(seed: int = 0) -> Numbers:
    """Ratios on both sides of every bound, for good and bad answers."""
    draw = torch.Generator().manual_seed(seed)

    def some(scale: float) -> Tensor:
        return scale * torch.randn(sum(LENGTHS), generator=draw, dtype=torch.float64)

    logprob = -1.5 - some(0.8).abs()
    old = logprob + some(0.6)
    near = {"old": old, "drawn": old + some(0.5), "reference": logprob + some(0.5)}
    return Numbers(
        logprob.requires_grad_(), advantage=some(1.0), value=some(1.0), said=some(1.0), due=some(1.0), **near
    )


def own_tokens() -> tuple[list[list[list[Answer]]], PolicyBatch]:
    """Answers of these lengths, and a batch of them without numbers."""
    draw, at = np.random.default_rng(0), iter(LENGTHS)
    prompts = []
    for answers in (2, 1, 3):
        prompt = draw.integers(1, 60, 3)
        group = []
        for number in range(answers):
            own = draw.integers(1, 60, next(at))
            own[0] = 60 + number  # no two begin alike
            group.append(Answer(np.concatenate([prompt, own]), np.arange(3 + len(own)) >= 3))
        prompts.append(group)
    rows = [[prompts[0], prompts[1]], [prompts[2]]]
    batch = answer_batch(rows, [0, 2], 24)
    zeros_M = torch.zeros(sum(LENGTHS))
    return rows, PolicyBatch(**vars(batch), advantage_M=zeros_M, drawn_M=zeros_M, room=ROOM)


def batch_of(given: Numbers, *, first: bool = False, told: tuple[tuple[str, float, float], ...] = ()) -> PolicyBatch:
    return replace(
        own_tokens()[1],
        advantage_M=given.advantage,
        drawn_M=given.drawn,
        old_M=None if first else given.old,
        value_M=given.said,
        return_M=given.due,
        told=told,
    )


def answers_of(value_M: Tensor) -> list[list[Tensor]]:
    return [list(part) for part in torch.split(value_M, LENGTHS)]


def by_loops(how: PolicyLoss, given: Numbers, *, first: bool) -> Tensor:
    """The mean loss, from the definitions."""
    columns = (given.logprob, given.logprob.detach() if first else given.old, given.drawn, given.advantage)
    losses: list[list[Tensor]] = []
    for now, was, drawn, worth, held in zip(*map(answers_of, (*columns, given.reference)), strict=True):
        ratios = [(p - q).exp() for p, q in zip(now, was, strict=True)]
        if how.ratio == "sequence":
            whole = (torch.stack(now).sum() - torch.stack(was).sum()).div(len(now)).exp()
            ratios = [whole] * len(now)
        losses.append([])
        for p, q, d, a, r, ratio in zip(now, was, drawn, worth, held, ratios, strict=True):
            if how.surrogate == "cispo":
                gain = min(ratio.item(), how.clip_high) * a * p
            else:
                clipped = min(max(ratio.item(), 1 - how.clip_low), 1 + how.clip_high)
                gain = ratio * a if (ratio * a).item() <= clipped * a.item() else torch.tensor(clipped * a.item())
                if how.dual_clip is not None and a.item() < 0 and gain.item() < how.dual_clip * a.item():
                    gain = torch.tensor(how.dual_clip * a.item())
            loss = -gain * min(math.exp(q.item() - d.item()), how.most_gap)
            if how.kl:
                far = p - r
                loss = (
                    loss
                    + how.kl * {"k1": far, "k2": far * far / 2, "k3": (-far).exp() - 1 + far}[how.kl_estimator or "k3"]
                )
            losses[-1].append(loss)
    if how.per == "token":
        return sum((sum(own, torch.tensor(0.0)) for own in losses), torch.tensor(0.0)) / sum(LENGTHS)
    if how.per == "answer":
        return sum((sum(own, torch.tensor(0.0)) / len(own) for own in losses), torch.tensor(0.0)) / len(LENGTHS)
    return sum((sum(own, torch.tensor(0.0)) for own in losses), torch.tensor(0.0)) / len(LENGTHS) / ROOM


def mean(loss: Loss) -> Tensor:
    return loss.total / loss.weight


HOW: dict[str, dict[str, Any]] = {
    "ppo": {},
    "narrow": {"clip_low": 0.05, "clip_high": 0.1, "most_gap": 1.0},
    "dual": {"dual_clip": 1.5},
    "dual below the clip": {"dual_clip": 1.1},
    "cispo": {"surrogate": "cispo", "clip_high": 1.5},
    "k1": {"kl": 0.3, "kl_estimator": "k1"},
    "k2": {"kl": 0.3, "kl_estimator": "k2"},
    "k3": {"kl": 0.3, "kl_estimator": "k3"},
}


@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("per", ["token", "answer", "constant"])
@pytest.mark.parametrize("first", [True, False])
def test_the_loss_of_a_policy_is_its_definition(name: str, ratio: str, per: str, first: bool) -> None:
    how = PolicyLoss.model_validate({**HOW[name], "ratio": ratio, "per": per})
    given = numbers()
    found = mean(policy_loss(how, batch_of(given, first=first), given.logprob, given.reference if how.kl else None))
    expected = by_loops(how, given, first=first)
    assert found.item() == pytest.approx(expected.item(), abs=CLOSE)
    ours, theirs = (grad(loss, given.logprob)[0] for loss in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=CLOSE)


def test_bounds_are_met_on_both_sides() -> None:
    """The numbers that losses are compared on are such that no bound is left out."""
    given, how = numbers(), PolicyLoss(dual_clip=1.5)
    ratio_M = (given.logprob - given.old).exp()
    for good in (given.advantage > 0, given.advantage < 0):
        for beyond in (ratio_M < 1 - how.clip_low, ratio_M > 1.5, (ratio_M > 0.8) & (ratio_M < 1.28)):
            assert (good & beyond).any()
    gap_M = (given.old - given.drawn).exp()
    assert (gap_M > 2).any()
    assert (gap_M < 1).any()


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_a_first_step_has_the_gradient_of_log_p_times_what_it_is_worth(ratio: str) -> None:
    given, how = numbers(), PolicyLoss.model_validate({"ratio": ratio, "most_gap": 1e9})
    same = replace(given, drawn=given.logprob.detach())
    (found_M,) = grad(policy_loss(how, batch_of(same, first=True), given.logprob).total, given.logprob)
    if ratio == "token":
        torch.testing.assert_close(found_M, -given.advantage)
    else:
        shared = [part.mean().expand(len(part)) for part in torch.split(given.advantage, LENGTHS)]
        torch.testing.assert_close(found_M, -torch.cat(shared))


def test_metrics_count_what_the_bounds_keep_back() -> None:
    given, told = numbers(), (("reward", 3.0, 6.0),)
    batch = batch_of(given, told=told)
    later = policy_loss(PolicyLoss(kl=0.1), batch, given.logprob, given.reference).metrics
    ratio_M = (given.logprob - given.old).exp()
    gap_M = given.old - given.drawn
    expected = {
        "entropy": -given.logprob.sum(),
        "clip_low": ((ratio_M < 0.8) & (given.advantage < 0)).sum(),
        "clip_high": ((ratio_M > 1.28) & (given.advantage > 0)).sum(),
        "gap": gap_M.abs().sum(),
        "gap_clipped": (gap_M.exp() > 2).sum(),
        "kl": kl_estimate("k3", given.logprob, given.reference).sum(),
    }
    assert expected["gap_clipped"].item()
    assert {name: (total.item(), count.item()) for name, (total, count) in later.items()} == {
        **{name: (pytest.approx(total.item()), sum(LENGTHS)) for name, total in expected.items()},
        "reward": (3.0, 6.0),
    }
    first = policy_loss(PolicyLoss(), replace(batch, old_M=None), given.logprob).metrics
    gap_M = (given.logprob - given.drawn).detach()
    assert first["gap"][0].item() == pytest.approx(gap_M.abs().sum().item())
    assert first["gap_clipped"][0].item() == (gap_M.exp() > 2).sum().item() > 0
    assert first["clip_low"][0].item() == first["clip_high"][0].item() == 0
    assert not any(total.requires_grad or count.requires_grad for total, count in [*later.values(), *first.values()])


@pytest.mark.parametrize("per", ["token", "answer", "constant"])
def test_parts_add_up_to_the_whole(per: Any) -> None:
    given, how = numbers(), PolicyLoss(per=per, ratio="sequence", kl=0.2)
    batch = batch_of(given, told=(("reward", 3.0, 6.0), ("cut_off", 1, 6)))
    whole = policy_loss(how, batch, given.logprob, given.reference)
    of_critic = critic_loss(given.value, batch, 0.2, per)
    assert torch.equal(of_critic.weight, whole.weight)
    parts = batch.split(1)
    assert [part.answers for part in parts] == [3, 3]
    assert [part.told for part in parts] == [batch.told, ()]
    sizes = [len(part.member_M) for part in parts]
    numbered = zip(
        parts, *(torch.split(of, sizes) for of in (given.logprob, given.reference, given.value)), strict=True
    )
    losses = [
        (policy_loss(how, part, now, held), critic_loss(value, part, 0.2, per)) for part, now, held, value in numbered
    ]
    for expected, found in zip((whole, of_critic), zip(*losses, strict=True), strict=True):
        torch.testing.assert_close(torch.stack([part.total for part in found]).sum(), expected.total)
        torch.testing.assert_close(torch.stack([part.weight for part in found]).sum(), expected.weight)
        for name, pair in expected.metrics.items():
            for place, value in enumerate(pair):
                there = [part.metrics[name][place] for part in found if name in part.metrics]
                torch.testing.assert_close(torch.stack(there).sum(), value, msg=name)


def test_the_gradient_of_the_entropy_is_exact_on_average() -> None:
    """Over all tokens of a small vocabulary, each as often as it is drawn, of the policy of now or of an older one."""
    draw = torch.Generator().manual_seed(3)
    logits_V, old_V = (torch.randn(7, generator=draw, dtype=torch.float64) for _ in range(2))
    for was_V in (logits_V.clone(), old_V):
        logits_V = logits_V.detach().requires_grad_()
        log_p_V = logits_V.log_softmax(0)
        (exact_V,) = grad((log_p_V.exp() * log_p_V).sum(), logits_V, retain_graph=True)  # of minus the entropy
        first, found_V = torch.equal(was_V, logits_V.detach()), torch.zeros(7, dtype=torch.float64)
        old_log_p_V = was_V.log_softmax(0)
        for token in range(7):
            loss = one_token(PolicyLoss(entropy=0.5), log_p_V[token], None if first else old_log_p_V[token])
            found_V += old_log_p_V[token].exp() * grad(loss.total, logits_V, retain_graph=True)[0]
        torch.testing.assert_close(found_V, 0.5 * exact_V)


def one_token(how: PolicyLoss, logprob: Tensor, old: Tensor | None) -> Loss:
    """Of one answer of one token that is worth nothing."""
    answer = Answer(np.array([1, 2]), np.array([False, True]))
    zero = torch.zeros(1, dtype=torch.float64)
    batch = PolicyBatch(**vars(answer_batch([[[answer]]], [0], 2)), advantage_M=zero, drawn_M=zero)
    return policy_loss(how, replace(batch, old_M=None if old is None else old[None]), logprob[None])


def test_entropy_is_of_tokens_also_where_ratios_are_of_answers() -> None:
    given = numbers()
    batch = replace(batch_of(given), advantage_M=torch.zeros_like(given.advantage))
    of_token, of_answer = (
        grad(policy_loss(PolicyLoss(entropy=0.1, ratio=ratio), batch, given.logprob).total, given.logprob)[0]
        for ratio in ("token", "sequence")
    )
    torch.testing.assert_close(of_answer, of_token)


def test_kl_is_estimated_without_bias() -> None:
    draw = torch.Generator().manual_seed(5)
    logits_V = torch.randn(9, generator=draw, dtype=torch.float64).requires_grad_()
    log_p_V, reference_V = logits_V.log_softmax(0), torch.randn(9, generator=draw, dtype=torch.float64).log_softmax(0)
    exact = (log_p_V.exp() * (log_p_V - reference_V)).sum()
    (exact_V,) = grad(exact, logits_V, retain_graph=True)
    p_V = log_p_V.detach().exp()
    for name in ("k1", "k3"):
        assert (p_V * kl_estimate(name, log_p_V, reference_V)).sum().item() == pytest.approx(exact.item())
    (of_k1_V,) = grad((p_V * kl_estimate("k1", log_p_V, reference_V)).sum(), logits_V, retain_graph=True)
    (of_k2_V,) = grad((p_V * kl_estimate("k2", log_p_V, reference_V)).sum(), logits_V, retain_graph=True)
    torch.testing.assert_close(of_k1_V, torch.zeros_like(exact_V))
    torch.testing.assert_close(of_k2_V, exact_V)


@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("per", ["token", "answer", "constant"])
def test_the_loss_of_a_critic_is_its_definition(clip: float | None, per: Any) -> None:
    given = numbers()
    value_M = given.value.requires_grad_()
    found = critic_loss(value_M, batch_of(given), clip, per)
    losses: list[list[Tensor]] = []
    beyond = 0
    for values in zip(*map(answers_of, (value_M, given.said, given.due)), strict=True):
        losses.append([])
        for value, said, due in zip(*values, strict=True):
            error = (value - due) ** 2
            if clip is not None:
                near = torch.minimum(torch.maximum(value, said - clip), said + clip)
                beyond += int((near - due) ** 2 > error)
                error = torch.maximum(error, (near - due) ** 2)
            losses[-1].append(error / 2)
    sums, lengths = torch.stack([torch.stack(own).sum() for own in losses]), torch.tensor(LENGTHS)
    expected = {
        "token": sums.sum() / lengths.sum(),
        "answer": (sums / lengths).mean(),
        "constant": sums.mean() / ROOM,
    }[per]
    assert mean(found).item() == pytest.approx(expected.item(), abs=CLOSE)
    ours, theirs = (grad(loss, value_M)[0] for loss in (mean(found), expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=CLOSE)
    error, count = found.metrics["value_error"]
    assert (error / count).item() == pytest.approx(((value_M - given.due) ** 2).mean().item())
    assert clip is None or (found.metrics["value_clipped"][0].item() == beyond > 0)


def test_a_critic_says_before_each_token_what_it_says_of_the_answer_alone() -> None:
    rows, batch = own_tokens()
    critic = ScoreModel.of(toy_model())
    torch.nn.init.normal_(critic.score.weight, generator=torch.Generator().manual_seed(0))
    policy = toy_model(1)
    alone, likely = [], []
    with torch.no_grad():
        for answer in (answer for row in rows for group in row for answer in group):
            tokens_BT = torch.from_numpy(answer.tokens)[None]
            at = np.flatnonzero(answer.targets)
            alone.append(critic.scores(tokens_BT)[0, at - 1])
            logits_TV = policy.logits(policy(tokens_BT))[0].log_softmax(-1)
            likely.append(logits_TV[at - 1, answer.tokens[at]])
        found = token_values({"policy": policy, "critic": critic}, batch)
        torch.testing.assert_close(found, torch.cat(alone), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(answer_logprobs(policy, batch), torch.cat(likely), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("context", "room"), [(12, 5), (12, 40)])
def test_the_worst_batch_is_as_large_as_one_can_be(context: int, room: int) -> None:
    batch = PolicyBatch.worst(2, context, 3, room, old=True, critic=True)
    each = min(room, context - 1)
    stem = context - each
    prompt = np.ones(stem, np.int64)
    own = [np.full(each, 2 + number) for number in range(3)]
    group = [Answer(np.concatenate([prompt, one]), np.arange(context) >= stem) for one in own]
    real = answer_batch([[group], [group]], [0, 1], stem + 3 * each)
    assert batch.tokens_BT.shape == real.tokens_BT.shape
    for name in ("segment_BT", "branch_BT", "predicted_N", "context_N", "member_M", "answer_M", "last_A"):
        assert torch.equal(getattr(batch, name), getattr(real, name)), name
    assert batch.old_M is not None
    assert batch.value_M is not None
    assert batch.return_M is not None
    assert len(batch.old_M) == len(batch.value_M) == len(batch.return_M) == len(batch.advantage_M) == 6 * each
    assert PolicyBatch.worst(2, context, 3, room, old=False).old_M is None
    half = worst_tree(1, stem, 3, each, stem + 3 * each)
    assert torch.equal(batch.split(1)[1].context_N, half.context_N)


def test_a_judged_batch_has_a_loss_of_minus_its_reward() -> None:
    batch = JudgedBatch((3, 4), (("reward", 1.5, 2.0), ("cut_off", 1, 2)))
    assert (batch.loss.total.item(), batch.loss.weight.item()) == (-1.5, 2.0)
    assert {name: (float(a), float(b)) for name, (a, b) in batch.loss.metrics.items()} == {
        "reward": (1.5, 2.0),
        "cut_off": (1.0, 2.0),
    }
    assert batch.split(1) == [batch]


def test_settings_of_the_loss_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dual_clip = 3.0: cispo has its own bound, clip_high"):
        PolicyLoss(surrogate="cispo", clip_high=5.0, dual_clip=3.0)
    with pytest.raises(ValueError, match=r"clip_high = 0.28: of cispo it is the most a ratio may be"):
        PolicyLoss(surrogate="cispo")


def test_a_head_on_the_policy_says_what_it_would_of_each_answer_alone() -> None:
    rows, batch = own_tokens()
    policy, head = toy_model(1), ValueHead(toy_model(1).config.hidden_size)
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
    alone = []
    for answer in (answer for row in rows for group in row for answer in group):
        hidden_TD = policy(torch.from_numpy(answer.tokens)[None])[0]
        alone.append(head(hidden_TD[np.flatnonzero(answer.targets) - 1]))
    found_M = token_values({"policy": policy, "critic": head}, batch)
    torch.testing.assert_close(found_M, torch.cat(alone), rtol=1e-4, atol=1e-5)
    (gradient,) = grad(found_M.sum(), policy.model.embed_tokens.weight)
    assert gradient.any(), "the policy does not learn with its critic"
