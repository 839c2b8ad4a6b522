from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from minimind.network.model import MiniMind
from minimind.training.optim import (
    POLAR_EXPRESS,
    Combined,
    Muon,
    OptimConfig,
    build_optimizer,
    learning_rate_factor,
    orthogonalize,
)
from tests.toys import TOY_CONFIG, OnCuda, assert_same, toy_model, weights


def factors(total: int, **settings: Any) -> list[float]:
    config = OptimConfig(**settings)
    return [learning_rate_factor(config, step, total) for step in range(total)]


def test_cosine_rises_in_the_warmup_and_falls_to_its_end() -> None:
    rates = factors(100, schedule="cosine", warmup=0.1, final=0.2)
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.6)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(0.2, abs=0.001)


def test_wsd_is_flat_and_then_falls_in_a_line() -> None:
    rates = factors(100, schedule="wsd", warmup=0.1, decay=0.5, final=0.0)
    assert rates[10:51] == [1.0] * 41
    assert rates[50:] == pytest.approx([1 - step / 50 for step in range(50)])


def test_constant_stays_after_the_warmup() -> None:
    assert factors(10, schedule="constant", warmup=0.2) == pytest.approx([1 / 3, 2 / 3, *[1.0] * 8])


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_every_step_of_every_schedule_learns(schedule: str, warmup: float, decay: float, total: int) -> None:
    assert all(0 < rate <= 1 for rate in factors(total, schedule=schedule, warmup=warmup, decay=decay, final=0.0))


def test_the_rate_stays_at_its_end_beyond_the_last_step() -> None:
    assert learning_rate_factor(OptimConfig(schedule="cosine", final=0.25), 12, 10) == 0.25


@pytest.mark.parametrize(
    "settings", [{"learning_rate": 0}, {"beta2": 1.0}, {"name": "sgd"}, {"grad_clip": 0}, {"decay": 1.1}]
)
def test_optim_config_refuses_what_cannot_train(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OptimConfig(**settings)


SHAPES = [(16, 16), (16, 24), (24, 16), (8, 40), (40, 8), (16, 32), (1, 8), (8, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_gives_the_polar_factor(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 100
    result = orthogonalize(matrix)
    assert result.shape == matrix.shape
    assert result.dtype == torch.float32
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    along = u.T @ result @ vt.T
    torch.testing.assert_close(along, torch.diag(along.diagonal()), rtol=0, atol=1e-3)
    assert (along.diagonal() - 1).abs().max() < 0.15


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_is_the_five_polynomials_step_by_step(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    x = matrix.double() / (matrix.double().norm() * 1.02)
    for a, b, c in POLAR_EXPRESS:
        gram = x.mT @ x
        x = a * x + b * x @ gram + c * x @ gram @ gram
    torch.testing.assert_close(orthogonalize(matrix).double(), x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(24, 24), (16, 64), (64, 16)])
@pytest.mark.parametrize("smallest", [1e-2, 1e-5, 0.0])
def test_orthogonalize_is_stable_where_the_matrix_is_ill_conditioned(shape: tuple[int, int], smallest: float) -> None:
    u, s, vt = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(3)), full_matrices=False)
    s = (
        torch.logspace(0, math.log10(smallest), len(s))
        if smallest
        else torch.ones_like(s).index_fill(0, torch.arange(8), 0.0)
    )
    along = u.T @ orthogonalize(u * s @ vt) @ vt.T
    assert (along - torch.diag(along.diagonal())).abs().max() < 1e-2
    assert (along.diagonal()[s > 0.01] - 1).abs().max() < 0.15
    assert along.diagonal().min() > -1e-3
    assert along.diagonal().max() < 1.15


def test_orthogonalize_is_stable_where_one_direction_hides_all_others() -> None:
    generator = torch.Generator().manual_seed(6)
    u, s, vt = torch.linalg.svd(torch.randn(128, 512, generator=generator), full_matrices=False)
    s = torch.full_like(s, 1e-4).index_fill(0, torch.tensor([0]), 1.0)
    along = u.T @ orthogonalize(u * s @ vt) @ vt.T
    assert abs(along[0, 0] - 1) < 0.15
    slope = math.prod(a for a, _, _ in POLAR_EXPRESS) / 1.02
    assert (along.diagonal()[1:] - 1e-4 * slope).abs().max() < 1e-3
    assert (along - torch.diag(along.diagonal())).abs().max() < 1e-2


def test_orthogonalize_leaves_zero_at_zero_and_is_blind_to_scale() -> None:
    assert orthogonalize(torch.zeros(4, 6)).abs().max() == 0
    matrix = torch.randn(6, 20, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(orthogonalize(matrix * 1e-6), orthogonalize(matrix), rtol=1e-3, atol=1e-4)


def spread(rows: int, columns: int, smallest: float) -> Tensor:
    """A matrix whose singular values fall from 1 to `smallest`, evenly in their logarithm."""
    u, _, vt = torch.linalg.svd(torch.randn(rows, columns, generator=torch.Generator().manual_seed(7)), False)
    matrix: Tensor = u * torch.logspace(0, math.log10(smallest), min(rows, columns)) @ vt
    return matrix


@pytest.mark.parametrize(("rows", "columns"), [(256, 256), (128, 416), (416, 128)])
def test_on_a_gpu_orthogonalize_works_in_bf16_and_is_nearly_the_same(rows: int, columns: int) -> None:
    for matrix, likeness in (
        (torch.randn(rows, columns, generator=torch.Generator().manual_seed(5)), 0.997),
        (spread(rows, columns, 1e-2), 0.998),
        (spread(rows, columns, 1e-3), 0.99),  # a X + (b A + c A A) X, the usual form, is 0.992 here
    ):
        exact = orthogonalize(matrix)
        with OnCuda():
            rounded = orthogonalize(matrix)
        assert rounded.dtype == torch.float32
        assert torch.equal(rounded, rounded.bfloat16().float())
        assert torch.nn.functional.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0) > likeness
        values, expected = torch.linalg.svdvals(rounded), torch.linalg.svdvals(exact)
        assert (values - expected).abs().max() < 0.06
        assert values.max() < 1.15


def plain_muon(matrix: Tensor, gradients: list[Tensor], lr: float, momentum: float, decay: float) -> Tensor:
    """The same update in words as plain as can be, with an exact polar factor."""
    buffer = torch.zeros_like(matrix)
    for gradient in gradients:
        buffer = momentum * buffer + (1 - momentum) * gradient
        ahead = momentum * buffer + (1 - momentum) * gradient
        u, _, vt = torch.linalg.svd(ahead, full_matrices=False)
        matrix = matrix - lr * decay * matrix - lr * 0.2 * math.sqrt(max(matrix.shape)) * u @ vt
    return matrix


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_muon_takes_the_steps_of_a_plain_reference(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(shape, generator=generator)
    gradients = [torch.randn(shape, generator=generator) for _ in range(4)]
    parameter = nn.Parameter(start.clone())
    muon = Muon([parameter], lr=0.1, momentum=0.9, weight_decay=0.3)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        muon.step()
        assert torch.equal(parameter.grad, gradient)
    expected = plain_muon(start, gradients, lr=0.1, momentum=0.9, decay=0.3)
    # The polynomials are within 0.15 of the exact factor in each direction; the reference is exact.
    assert (parameter - expected).norm() < 0.12 * (expected - start).norm()
    assert_close_direction(parameter.detach() - start, expected - start)


def assert_close_direction(a: Tensor, b: Tensor) -> None:
    assert (a * b).sum() / (a.norm() * b.norm()) > 0.99


def test_muon_leaves_alone_what_has_no_gradient() -> None:
    parameter = nn.Parameter(torch.ones(3, 3))
    Muon([parameter], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(parameter, torch.ones(3, 3))


def placed(model: nn.Module, config: OptimConfig) -> dict[str, tuple[str, float]]:
    """Where each parameter went: name -> (optimizer, weight decay)."""
    optimizer = build_optimizer({"policy": model}, config)
    assert isinstance(optimizer, Combined)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (type(part).__name__, group["weight_decay"])
        for part in optimizer.optimizers
        for group in part.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("tied", [True, False])
def test_muon_gets_the_matrices_of_the_blocks_and_adamw_the_rest(tied: bool) -> None:
    model = MiniMind(TOY_CONFIG.model_copy(update={"tie_word_embeddings": tied}))
    where = placed(model, OptimConfig(name="muon", weight_decay=0.1))
    assert where.keys() == dict(model.named_parameters()).keys()
    for name, (optimizer, decay) in where.items():
        if "norm" in name:
            assert (optimizer, decay) == ("AdamW", 0.0), name
        elif "embed" in name or "head" in name:
            assert (optimizer, decay) == ("AdamW", 0.1), name
        else:
            assert (optimizer, decay) == ("Muon", 0.1), name
    assert ("lm_head.weight" in where) == (not tied)


def test_adamw_decays_matrices_and_not_vectors() -> None:
    model = MiniMind(TOY_CONFIG)
    where = placed(model, OptimConfig(name="adamw", weight_decay=0.1))
    assert where == {name: ("AdamW", 0.1 if p.ndim > 1 else 0.0) for name, p in model.named_parameters()}


def test_adamw_has_the_settings_of_its_config() -> None:
    config = OptimConfig(name="adamw", learning_rate=0.5, beta1=0.8, beta2=0.7, eps=1e-4)
    for group in build_optimizer({"policy": toy_model()}, config).param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.8, 0.7), 1e-4)


def test_frozen_parameters_are_not_optimised() -> None:
    model = toy_model()
    model.model.embed_tokens.requires_grad_(False)
    model.model.layers[0].requires_grad_(False)
    where = placed(model, OptimConfig())
    assert where.keys() == {name for name, p in model.named_parameters() if p.requires_grad}


def test_matrices_alone_and_tables_alone_are_enough() -> None:
    model = toy_model()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.ndim > 1)
    model.model.embed_tokens.requires_grad_(False)
    assert {optimizer for optimizer, _ in placed(model, OptimConfig()).values()} == {"Muon"}
    assert {optimizer for optimizer, _ in placed(nn.Embedding(4, 4), OptimConfig()).values()} == {"AdamW"}


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizer({"policy": toy_model().requires_grad_(False)}, OptimConfig())


def steps(model: MiniMind, optimizer: Any, seeds: range) -> None:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_state_taken_back_continues_to_the_last_bit(name: str) -> None:
    config = OptimConfig.model_validate({"name": name})
    model, resumed = toy_model(), toy_model(seed=1)
    optimizer = build_optimizer({"policy": model}, config)
    steps(model, optimizer, range(3))
    other = build_optimizer({"policy": resumed}, config)
    resumed.load_state_dict(weights(model))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # a state dict shares its tensors
    for group in (*optimizer.param_groups, *other.param_groups):
        group["lr"] = 0.25
    steps(model, optimizer, range(3, 5))
    steps(resumed, other, range(3, 5))
    assert_same(weights(model), weights(resumed))
    assert_same(optimizer.state_dict(), other.state_dict())


def test_a_learning_rate_set_through_the_groups_is_used() -> None:
    for name in ("adamw", "muon"):
        model = toy_model()
        optimizer = build_optimizer({"policy": model}, OptimConfig.model_validate({"name": name}))
        before = weights(model)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        steps(model, optimizer, range(1))
        assert_same(weights(model), before)


def test_combined_forgets_the_gradients_of_all() -> None:
    model = toy_model()
    optimizer = build_optimizer({"policy": model}, OptimConfig())
    steps(model, optimizer, range(1))
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_combined_refuses_the_state_of_another_set_of_optimizers() -> None:
    saved = build_optimizer({"policy": toy_model()}, OptimConfig(name="adamw")).state_dict()
    with pytest.raises(ValueError, match=r"of 1 optimizers and here are 2 \(Muon, AdamW\): was optim.name changed"):
        build_optimizer({"policy": toy_model()}, OptimConfig(name="muon")).load_state_dict(saved)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_both_optimizers_learn_a_linear_map(name: str) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(12, 6)])

    torch.manual_seed(0)
    holder, target, inputs = Holder(), torch.randn(6, 12), torch.randn(256, 12)
    optimizer = build_optimizer({"policy": holder}, OptimConfig.model_validate({"name": name, "weight_decay": 0}))
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 150)
        loss = (holder.layers[0](inputs) - inputs @ target.T).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.01


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_role_learns_at_its_own_rate(name: str) -> None:
    config = OptimConfig.model_validate({"name": name, "lr_scale": {"critic": 0.25}})
    models = {"policy": toy_model(0), "critic": toy_model(1), "reference": toy_model(2).requires_grad_(False)}
    optimizer = build_optimizer(models, config)
    scales = {id(p): group.get("lr_scale", 1.0) for group in optimizer.param_groups for p in group["params"]}
    for role, scale in (("policy", 1.0), ("critic", 0.25)):
        assert {scales[id(parameter)] for parameter in models[role].parameters()} == {scale}
    assert not {id(parameter) for parameter in models["reference"].parameters()} & scales.keys()


@pytest.mark.parametrize("role", ["reference", "critic"])
def test_a_rate_of_a_role_that_does_not_train_is_refused(role: str) -> None:
    config = OptimConfig(lr_scale={role: 0.5})
    models = {"policy": toy_model(), "reference": toy_model().requires_grad_(False)}
    with pytest.raises(ValueError, match=f"optim.lr_scale names {role}; what trains here is policy"):
        build_optimizer(models, config)
