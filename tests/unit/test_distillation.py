"""Distillation: values and gradients against all logits at once, by plain autograd."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.optim import AdamW

from minimind.config import override
from minimind.memory.trace import trace
from minimind.network.lora import LoraConfig, attach
from minimind.network.model import MiniMind
from minimind.training.batch import worst_batch
from minimind.training.distillation import (
    CHUNK,
    Distillation,
    Projections,
    TopK,
    WholeTeacher,
    distil,
    distillation_loss,
    top_k_logprobs,
)
from minimind.training.objectives import Loss, Models, cross_entropy, next_token_loss
from minimind.training.precision import Precision
from minimind.training.recipe import LoopConfig, Recipe
from minimind.training.trial_steps import Repeated
from tests.toys import TOY_CONFIG, RowBatches, ToyRun, toy_model, toy_rows
from tests.unit.test_objectives import Watch

D, V, K = 16, 40, 6
BETAS = (0.0, 0.1, 0.5, 1.0)
FP64 = torch.float64
LARGER = TOY_CONFIG.model_copy(update={"hidden_size": 48, "num_hidden_layers": 3})


@dataclass(frozen=True)
class Case:
    """Random states, heads and tokens. logits: of the teacher, at temperature 1."""

    hidden: Tensor
    head: Tensor
    target: Tensor
    teacher: WholeTeacher

    @classmethod
    def of(cls, count: int, dtype: torch.dtype = FP64, scale: float = 1.0) -> Case:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return (scale * torch.randn(*shape, generator=generator, dtype=FP64)).to(dtype)

        hidden, head = draw(count, D), draw(V, D)
        target = torch.randint(V, (count,), generator=generator)
        teacher = WholeTeacher(draw(count, D + 8), draw(V, D + 8))
        return cls(hidden.requires_grad_(), head.requires_grad_(), target, teacher)

    @property
    def teacher_logits(self) -> Tensor:
        return self.teacher.hidden_ND @ self.teacher.head_VD.T

    def top_k(self, k: int = K, temperature: float = 1.0) -> TopK:
        return TopK(*top_k_logprobs(self.teacher.hidden_ND, self.teacher.head_VD, k, temperature))

    def ours(self, distillation: Distillation, teacher: WholeTeacher | TopK | None = None) -> Loss:
        return distillation_loss(self.hidden, self.head, self.target, teacher or self.teacher, distillation)

    def gradients(self, total: Tensor) -> tuple[Tensor, Tensor]:
        hidden, head = torch.autograd.grad(3 * total, (self.hidden, self.head))
        return hidden, head


def kl(left: Tensor, right: Tensor) -> Tensor:
    """KL(left || right) of each row, of log-probabilities; what is impossible on the left adds nothing."""
    return torch.where(left > -math.inf, left.exp() * (left - right), 0.0).sum(-1)


def generalised_jsd(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """Of each row, of log-probabilities, as GKD defines it; its limits are the two KLs."""
    if beta == 0:
        return kl(teacher, student)
    if beta == 1:
        return kl(student, teacher)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log(1 - beta))
    return beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)


def lumped(logprobs: Tensor, ids: Tensor) -> Tensor:
    """[N, K + 1], log-probabilities of these tokens, and of all others together."""
    others = logprobs.scatter(1, ids, -math.inf)
    return torch.cat((logprobs.gather(1, ids), others.logsumexp(1, keepdim=True)), 1)


def plain(case: Case, settings: Distillation, ids: Tensor | None = None) -> dict[str, Tensor]:
    """All sums, with all logits at once. ids: of the tokens that are not lumped together."""
    logits, temperature = case.hidden @ case.head.T, settings.temperature
    student, teacher = (x.div(temperature).log_softmax(1) for x in (logits, case.teacher_logits))
    if ids is not None:
        student, teacher = lumped(student, ids), lumped(teacher, ids)
    divergence = generalised_jsd(teacher, student, settings.beta).sum()
    entropy = F.cross_entropy(logits, case.target, reduction="sum")
    return {
        "total": settings.alpha * entropy + (1 - settings.alpha) * temperature**2 * divergence,
        "cross_entropy": entropy,
        "divergence": divergence,
        "agreement": (logits.argmax(1) == case.teacher_logits.argmax(1)).sum().to(logits.dtype),
    }


def require_same(case: Case, loss: Loss, expected: dict[str, Tensor], tolerance: float) -> None:
    torch.testing.assert_close(loss.total, expected["total"], rtol=tolerance, atol=tolerance)
    for name, (value, weight) in loss.metrics.items():
        assert weight == loss.weight == len(case.target)
        assert not value.requires_grad
        torch.testing.assert_close(value, expected[name].detach(), rtol=tolerance, atol=tolerance)
    assert loss.metrics.keys() == expected.keys() - {"total"}
    for mine, theirs in zip(case.gradients(loss.total), case.gradients(expected["total"]), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("beta", BETAS)
def test_values_and_gradients_are_those_of_all_logits_at_once(beta: float, alpha: float, temperature: float) -> None:
    case, settings = Case.of(CHUNK + 9, scale=0.7), Distillation(alpha=alpha, beta=beta, temperature=temperature)
    require_same(case, case.ours(settings), plain(case, settings), 1e-10)
    top = case.top_k(temperature=temperature)
    settings = settings.model_copy(update={"top_k": K})
    require_same(case, case.ours(settings, top), plain(case, settings, top.ids_NK), 1e-10)


@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_they_are_so_in_fp32_at_the_borders_of_chunks(beta: float, count: int) -> None:
    case, settings = Case.of(count, torch.float32, scale=0.5), Distillation(beta=beta, temperature=2.0, top_k=K)
    require_same(case, case.ours(settings), plain(case, settings), 1e-5)
    top = case.top_k(temperature=2.0)
    require_same(case, case.ours(settings, top), plain(case, settings, top.ids_NK), 1e-5)


def test_nothing_to_predict_is_zero_with_zero_gradients() -> None:
    case = Case.of(0)
    for teacher in (case.teacher, case.top_k()):
        loss = case.ours(Distillation(top_k=K), teacher)
        assert [float(x.detach().abs().sum()) for x in (loss.total, loss.weight, *case.gradients(loss.total))] == [
            0
        ] * 4


@pytest.mark.parametrize("beta", BETAS)
def test_extreme_logits_give_what_the_definition_gives(beta: float) -> None:
    """Probabilities that are zero in fp32, on either side, where logarithms are not."""
    case = Case.of(20, torch.float32, scale=7.0)
    exact = Case.of(20, FP64, scale=7.0)
    assert (case.teacher_logits.softmax(1) == 0).any()
    assert ((case.hidden @ case.head.T).softmax(1) == 0).any()
    settings = Distillation(beta=beta)
    loss, expected = case.ours(settings), plain(exact, settings)["total"]
    torch.testing.assert_close(loss.total.double(), expected, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(case.gradients(loss.total), exact.gradients(expected), strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_between_them_it_tends_to_the_two_kls() -> None:
    case = Case.of(30, scale=0.5)
    forward, reverse, near_forward, near_reverse = (
        float(case.ours(Distillation(beta=beta)).metrics["divergence"][0]) for beta in (0.0, 1.0, 1e-7, 1 - 1e-7)
    )
    assert near_forward / 1e-7 == pytest.approx(forward, rel=1e-3)
    assert near_reverse / 1e-7 == pytest.approx(reverse, rel=1e-3)
    entropy = 30 * math.log(2)
    assert 0 < float(case.ours(Distillation(beta=0.5)).metrics["divergence"][0]) < entropy


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("beta", BETAS)
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(beta: float, temperature: float) -> None:
    model, batch = toy_model(), toy_rows(6)
    settings = Distillation(alpha=0.0, beta=beta, temperature=temperature)
    loss = distil({"policy": model, "teacher": model}, batch, settings)
    assert float(loss.metrics["divergence"][0]) == pytest.approx(0, abs=1e-5)
    assert loss.metrics["agreement"] == (loss.weight, loss.weight)
    torch.testing.assert_close(
        loss.metrics["cross_entropy"][0], next_token_loss({"policy": model}, batch).total.detach()
    )
    loss.total.backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) < 1e-4


def test_with_alpha_one_it_is_cross_entropy() -> None:
    case = Case.of(CHUNK + 3)
    hidden_BTD = F.pad(case.hidden, (0, 0, 0, 1))[None]
    tokens_BT = F.pad(case.target, (1, 0))[None]
    expected = cross_entropy(hidden_BTD.float(), case.head.float(), tokens_BT, torch.arange(1, CHUNK + 4)).total
    loss = case.ours(Distillation(alpha=1.0, temperature=2.0))
    torch.testing.assert_close(loss.total.float(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("lump", [False, True])
def test_under_autocast_it_is_as_near_as_its_dtype(beta: float, dtype: torch.dtype, lump: bool) -> None:
    case, settings = Case.of(600, torch.float32, scale=0.4), Distillation(beta=beta, temperature=2.0, top_k=K)
    top = case.top_k(temperature=2.0)
    expected = plain(case, settings, top.ids_NK if lump else None)["total"]
    with torch.autocast("cpu", dtype):
        loss = case.ours(settings, top if lump else None)
    pairs = zip(
        (loss.total.detach(), *case.gradients(loss.total)), (expected.detach(), *case.gradients(expected)), strict=True
    )
    for mine, theirs in pairs:
        assert mine.dtype == torch.float32
        assert float((mine - theirs).norm() / theirs.norm()) < 3 * torch.finfo(dtype).eps


@pytest.mark.parametrize("lump", [False, True])
def test_gradients_are_made_only_where_they_are_asked_for(lump: bool) -> None:
    case, settings = Case.of(20), Distillation(top_k=K)
    teacher = case.top_k() if lump else replace(case.teacher, head_VD=case.teacher.head_VD.requires_grad_())
    hidden, head = case.gradients(case.ours(settings, teacher).total)

    frozen = replace(case, head=case.head.detach())
    with Watch() as watch:
        (alone,) = torch.autograd.grad(3 * frozen.ours(settings, teacher).total, frozen.hidden)
    assert watch.products == 2 + (not lump)  # both models' logits, and the gradient of the hidden states
    assert torch.equal(alone, hidden)

    frozen = replace(case, hidden=case.hidden.detach())
    (alone,) = torch.autograd.grad(3 * frozen.ours(settings, teacher).total, frozen.head)
    assert torch.equal(alone, head)

    with torch.no_grad(), Watch() as watch:
        loss = case.ours(settings, teacher)
    assert not loss.total.requires_grad
    assert watch.products == 1 + (not lump)
    if isinstance(teacher, WholeTeacher):
        assert teacher.head_VD.grad is None


@pytest.mark.parametrize("lump", [False, True])
def test_the_logits_of_all_tokens_never_exist(lump: bool) -> None:
    case = Case.of(4 * CHUNK)
    with Watch() as watch:
        loss = case.ours(
            Distillation(top_k=K, beta=0.5, temperature=2.0), case.top_k(temperature=2.0) if lump else None
        )
        loss.total.backward()  # type: ignore[no-untyped-call]
    assert watch.numel == max(CHUNK * V, case.hidden.numel())


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    models, batch = teacher_and_student(), toy_rows(7, width=24)
    settings = Distillation(beta=0.3, temperature=2.0, layers=((1, 2),))
    whole, parts = distil(models, batch, settings), [distil(models, part, settings) for part in batch.split(2)]
    assert len(parts) == 4
    torch.testing.assert_close(whole.total, torch.stack([part.total for part in parts]).sum())
    assert whole.weight == sum(part.weight for part in parts)
    for name, (value, _) in whole.metrics.items():
        torch.testing.assert_close(value, torch.stack([part.metrics[name][0] for part in parts]).sum())


def bound(teacher: Tensor, student: Tensor, ids: Tensor, beta: float) -> Tensor:
    """Of each row: what lumping the others together leaves out at most, by the docstring of `TopK`."""
    kept = torch.zeros_like(teacher, dtype=torch.bool).scatter(1, ids, True)
    p, q = teacher.exp().masked_fill(kept, 0), student.exp().masked_fill(kept, 0)
    p_rest, q_rest = p.sum(1), q.sum(1)
    if beta == 0:
        return p_rest * (q_rest / q.masked_fill(kept, 1).amin(1)).log()
    if beta == 1:
        return q_rest * (p_rest / p.masked_fill(kept, 1).amin(1)).log()
    mass = beta * p_rest + (1 - beta) * q_rest
    share = beta * p_rest / mass
    entropy = -share * share.log() - (1 - share) * (1 - share).log()
    assert (entropy <= math.log(2)).all()
    return mass * entropy


@pytest.mark.parametrize("scale", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("k", [1, 8, V - 1])
@pytest.mark.parametrize("beta", BETAS)
def test_what_the_top_k_leave_out_is_bounded(beta: float, k: int, scale: float) -> None:
    """Token by token, whole minus lumped is at least 0 and at most the bound; with one token left over it is 0."""
    temperature = 1.5
    for seed in range(20):
        case = Case.of(seed + 1, scale=scale)  # the last token of each is another one
        case = Case(
            case.hidden[-1:],
            case.head,
            case.target[-1:],
            WholeTeacher(case.teacher.hidden_ND[-1:], case.teacher.head_VD),
        )
        top, settings = case.top_k(k, temperature), Distillation(beta=beta, temperature=temperature, top_k=k)
        whole, part = (case.ours(settings, teacher).metrics["divergence"][0] for teacher in (case.teacher, top))
        student = (case.hidden @ case.head.T).detach().div(temperature).log_softmax(1)
        teacher = case.teacher_logits.div(temperature).log_softmax(1)
        left_out = float(whole - part)
        rounding = 1e-7  # of the rest's mass, which is one minus a sum
        assert -rounding <= left_out <= float(bound(teacher, student, top.ids_NK, beta)) + rounding
        assert k < V - 1 or left_out == pytest.approx(0, abs=rounding)
        assert k > 8 or left_out > 10 * rounding


def test_the_gradient_of_the_top_k_lacks_at_most_twice_the_mass_of_the_rest() -> None:
    temperature, eye = 1.5, torch.eye(V, dtype=FP64)
    settings = Distillation(alpha=0.0, temperature=temperature, top_k=4)
    case = Case.of(50)
    case = replace(case, hidden=(case.hidden @ case.head.T).detach().requires_grad_(), head=eye)  # its own logits
    top = case.top_k(4, temperature)
    whole, part = (
        torch.autograd.grad(case.ours(settings, teacher).total / temperature**2, case.hidden)[0]
        for teacher in (case.teacher, top)
    )
    lacking, rest = (whole - part).abs().sum(1), 1 - top.logprobs_NK.exp().sum(1)
    assert (lacking <= 2 * rest / temperature + 1e-12).all()
    assert (lacking > 0).all()


def test_a_rest_that_rounding_hides_is_not_taken_for_impossible() -> None:
    ids = torch.tensor([[0]])
    hidden, head = torch.zeros(1, 1, requires_grad=True), torch.ones(4, 1)
    sure = TopK(ids, torch.tensor([[0.0]]))
    loss = distillation_loss(hidden, head, ids[0], sure, Distillation(alpha=0.0, beta=1.0, top_k=1))
    expected = 0.25 * math.log(0.25) + 0.75 * math.log(0.75 / torch.finfo(torch.float32).eps)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-5)


def test_top_k_logprobs() -> None:
    case = Case.of(2 * CHUNK + 3)
    ids, logprobs = top_k_logprobs(case.teacher.hidden_ND.requires_grad_(), case.teacher.head_VD, 5, 2.0)
    assert ids.dtype == torch.int64
    assert not logprobs.requires_grad
    expected, where = case.teacher_logits.div(2.0).log_softmax(1).topk(5)
    torch.testing.assert_close(logprobs, expected.detach())
    assert torch.equal(ids, where)
    with torch.autocast("cpu", torch.bfloat16):
        _, half = top_k_logprobs(case.teacher.hidden_ND.float(), case.teacher.head_VD.float(), 5)
    assert half.dtype == torch.float32
    with Watch() as watch:
        top_k_logprobs(case.teacher.hidden_ND, case.teacher.head_VD, 1)
    assert watch.numel == CHUNK * V
    for k in (0, V):
        with pytest.raises(ValueError, match=f"top_k = {k}: between 1 and {V - 1}, for the teacher has {V} tokens"):
            top_k_logprobs(case.teacher.hidden_ND, case.teacher.head_VD, k)


def teacher_and_student(layers: int = 1) -> dict[str, Any]:
    """Models by role: a student, a teacher that is wider and deeper, and projections for pairs of layers."""
    teacher = toy_model(1, LARGER).requires_grad_(False)
    projections = Projections(layers, TOY_CONFIG.hidden_size, LARGER.hidden_size, torch.Generator().manual_seed(0))
    return {"policy": toy_model(), "teacher": teacher, "projections": projections}


def test_distil_compares_both_models_on_the_predicted_tokens() -> None:
    models, batch = teacher_and_student(), toy_rows(3)
    settings = Distillation(alpha=0.25, temperature=2.0, beta=0.5)
    loss = distil(models, batch, settings)
    student, teacher = (
        model.logits(model(batch.tokens_BT, batch.segment_BT))[:, :-1][batch.loss_mask_BT[:, 1:]]
        for model in (models["policy"], models["teacher"])
    )
    entropy = F.cross_entropy(student, batch.tokens_BT[:, 1:][batch.loss_mask_BT[:, 1:]], reduction="sum")
    divergence = generalised_jsd((teacher / 2).log_softmax(1), (student / 2).log_softmax(1), 0.5).sum()
    torch.testing.assert_close(loss.total, 0.25 * entropy + 0.75 * 4 * divergence)
    assert loss.weight == batch.loss_mask_BT.sum()
    assert loss.metrics.keys() == {"cross_entropy", "divergence", "agreement"}
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in models["teacher"].parameters())
    assert all(parameter.grad is not None for parameter in models["policy"].parameters())


def test_matched_layers_add_the_cosine_distance_of_what_predicts() -> None:
    models, batch = teacher_and_student(layers=2), toy_rows(3)
    pairs = ((1, 2), (2, 3))
    alone = distil(models, batch, Distillation())
    loss = distil(models, batch, Distillation(layers=pairs, layer_weight=3.0))
    predicts = batch.loss_mask_BT.roll(-1, 1)
    predicts[:, -1] = False
    distance = torch.zeros(())
    for map_DD, (own, others) in zip(models["projections"].weight, pairs, strict=True):
        (student,) = models["policy"].hidden_states(batch.tokens_BT, (own,), batch.segment_BT)
        (teacher,) = models["teacher"].hidden_states(batch.tokens_BT, (others,), batch.segment_BT)
        mapped, teacher = (F.normalize(x[predicts], dim=-1) for x in (student @ map_DD.T, teacher))
        distance = distance + (mapped - teacher).square().sum() / 2 / len(pairs)
    torch.testing.assert_close(loss.metrics["layer_distance"][0], distance.detach())
    torch.testing.assert_close(loss.total, alone.total + 3 * distance)
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert models["projections"].weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in models["teacher"].parameters())


def test_projections_learn_what_is_a_map_of_the_students_states() -> None:
    generator = torch.Generator().manual_seed(0)
    states, hidden_map = torch.randn(200, 8, generator=generator), torch.randn(12, 8, generator=generator)
    projections = Projections(1, 8, 12, generator)
    optimizer = AdamW(projections.parameters(), lr=0.05, weight_decay=0.0)
    first = float(projections([states], [states @ hidden_map.T]).mean().detach())
    for _ in range(200):
        optimizer.zero_grad()
        projections([states], [5 * (states @ hidden_map.T)]).mean().backward()  # lengths do not matter
        optimizer.step()
    assert first > 0.5
    assert float(projections([states], [states @ hidden_map.T]).mean().detach()) < 0.01


def test_a_few_steps_bring_the_student_nearer_to_its_teacher() -> None:
    models = teacher_and_student()
    rows = toy_rows(8)
    settings = Distillation(alpha=0.0, temperature=2.0)

    def divergence() -> float:
        with torch.no_grad():
            loss = distil(models, rows, settings)
        return float(loss.metrics["divergence"][0] / loss.weight)

    before = divergence()
    run = ToyRun(
        RowBatches(rows, 4, epochs=10),
        {"policy": models["policy"], "teacher": models["teacher"]},
        objective=lambda by_role, batch: distil(by_role, batch, settings),
    )
    hooks = run.train()
    assert {"train/cross_entropy", "train/divergence", "train/agreement"} <= hooks.metrics[-1].keys()
    assert divergence() < 0.7 * before


def test_an_adapter_learns_from_a_teacher_while_its_head_is_frozen() -> None:
    models, batch = teacher_and_student(), toy_rows(4)
    attach(models["policy"], LoraConfig(rank=2), torch.Generator().manual_seed(0))
    distil(models, batch, Distillation(layers=((2, 3),))).total.backward()  # type: ignore[no-untyped-call]
    trained = {name for name, parameter in models["policy"].named_parameters() if parameter.grad is not None}
    assert trained
    assert all(".lora_" in name for name in trained)


def on_fakes(models: Models, lump: bool) -> Loss:
    batch = worst_batch(2, 600)
    settings = Distillation(temperature=2.0, beta=0.3, layers=((1, 2),), top_k=K)
    if not lump:
        return distil(models, batch, settings)
    policy, teacher = models["policy"], models["teacher"]
    assert isinstance(policy, MiniMind)
    assert isinstance(teacher, MiniMind)
    before = batch.predicted_N - 1
    states, of_teacher = (model(batch.tokens_BT).flatten(0, 1)[before] for model in (policy, teacher))
    top = TopK(*top_k_logprobs(of_teacher, teacher.head_weight_VD, K, 2.0))
    return distillation_loss(states, policy.head_weight_VD, batch.tokens_BT.flatten()[before + 1], top, settings)


@pytest.mark.parametrize("lump", [False, True])
def test_it_runs_on_fake_tensors(lump: bool) -> None:
    with FakeTensorMode():
        loss = on_fakes(teacher_and_student(), lump)
        loss.total.backward()  # type: ignore[no-untyped-call]
        assert isinstance(loss.total, FakeTensor)


def test_a_plan_traces_it() -> None:
    width, vocab = 300, TOY_CONFIG.vocab_size

    def make(settings: Distillation | None) -> Recipe:
        models, worst = teacher_and_student(), worst_batch(2, width)
        trained = [*models["policy"].parameters(), *models["projections"].parameters()]
        return Recipe(
            models=models if settings else {"policy": models["policy"]},
            objective=(lambda by_role, batch: distil(by_role, batch, settings)) if settings else next_token_loss,
            batches=Repeated(worst),
            optimizer=AdamW(trained if settings else models["policy"].parameters()),
            learning_rate=lambda step: 1e-3,
            precision=Precision(torch.float32, torch.device("cpu")),
            loop=LoopConfig(),
            total_steps=1,
            worst=worst,
        )

    steps = trace(lambda: make(Distillation(layers=((1, 2),))))
    weights = sum(4 * parameter.numel() for parameter in toy_model(1, LARGER).parameters())
    assert sum(size for number, size in steps.events if size and steps.categories[number] == "teacher") == weights
    logits = [size for number, size in steps.events if size and steps.categories[number] == "logits"]
    assert max(logits) == 4 * CHUNK * vocab  # of 598 predicted tokens


def settings_error(**values: Any) -> str:
    with pytest.raises(ValidationError) as error:
        Distillation(**values)
    return str(error.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alpha": 1.1}, "less than or equal to 1"),
        ({"alpha": -0.1}, "greater than or equal to 0"),
        ({"beta": 2}, "less than or equal to 1"),
        ({"temperature": 0}, "greater than 0"),
        ({"temperature": math.inf}, "finite"),
        ({"top_k": 0}, "greater than or equal to 1"),
        ({"layer_weight": 0}, "greater than 0"),
        ({"layers": [[1, -2]]}, r"[1, -2]: a pair is two numbers from 0 on"),
        ({"layers": [[1, 2], [0, 1], [1, 2]]}, r"[1, 2]: a pair is two numbers from 0 on"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, Any], words: str) -> None:
    assert words in settings_error(**values)


def test_layers_are_set_as_json() -> None:
    assert override(Distillation(), {"layers": "[[1, 2]]"}).layers == ((1, 2),)


def test_layers_that_there_are_not_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden states of \[9\]: this model has 0 \(the embedding\) to 3"):
        distil(teacher_and_student(), toy_rows(2), Distillation(layers=((1, 9),)))


def test_a_teacher_of_another_vocabulary_is_refused() -> None:
    case = Case.of(3)
    short = replace(case.teacher, head_VD=case.teacher.head_VD[:-1])
    with pytest.raises(ValueError, match=rf"the teacher has {V - 1} tokens in its vocabulary, the student {V}"):
        case.ours(Distillation(), short)


def test_likeliest_tokens_of_other_rows_are_refused() -> None:
    case = Case.of(3)
    top = case.top_k()
    with pytest.raises(ValueError, match=rf"are \[3, {K}\] ids and \[3, {K}\] log-probabilities.*has \[3, 9\]"):
        case.ours(Distillation(top_k=9), top)
    with pytest.raises(ValueError, match=rf"are \[2, {K}\] ids and \[3, {K}\]"):
        case.ours(Distillation(top_k=K), replace(top, ids_NK=top.ids_NK[:2]))
