from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from minimind.config import explain, override
from minimind.network.lora import (
    TARGETS,
    AdapterReport,
    LoraConfig,
    LoraLinear,
    adapter_off,
    adapter_report,
    adapter_state,
    attach,
    detach,
    from_peft_config,
    load_adapter,
    merge,
    to_peft_config,
)
from minimind.network.model import MODEL_PRESETS, MiniMind
from minimind.training.objectives import next_token_loss
from minimind.training.optim import OptimConfig, build_optimizer
from tests.toys import TOY_CONFIG, assert_same, toy_model, toy_rows, weights

ROWS = toy_rows(4)


def adapted(config: LoraConfig | None = None, seed: int = 0) -> MiniMind:
    """The toy model with an adapter that has learnt something: a new one adds nothing."""
    model = toy_model()
    generator = torch.Generator().manual_seed(seed)
    attach(model, config or LoraConfig(), generator)
    for name, tensor in adapter_state(model).items():
        if "lora_B" in name:
            tensor.normal_(0.0, 0.1, generator=generator)
    return model


def hidden(model: MiniMind) -> Tensor:
    result: Tensor = model(ROWS.tokens_BT, ROWS.segment_BT)
    return result


def gradients(model: MiniMind) -> dict[str, Tensor]:
    next_token_loss({"policy": model}, ROWS).total.backward()  # type: ignore[no-untyped-call]
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_the_defaults_adapt_every_linear_map() -> None:
    config = LoraConfig()
    assert (config.rank, config.alpha, config.dropout, config.target_modules) == (8, 16, 0, TARGETS)
    linears = (name for name, module in toy_model().named_modules() if isinstance(module, nn.Linear))
    assert set(TARGETS) == {name.rpartition(".")[2] for name in linears}


def test_target_modules_are_set_by_a_dotted_path() -> None:
    changed = override(LoraConfig(), {"target_modules": '["q_proj", "v_proj"]', "rank": "4"})
    assert (changed.target_modules, changed.rank) == (("q_proj", "v_proj"), 4)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("q_proj", "wq", "w2"), '["q_proj", "wq", "w2"]: no such map: wq, w2'),
        (("lm_head",), '["lm_head"]: no such map: lm_head'),
        (("q_proj", "q_proj"), '["q_proj", "q_proj"]: each is named once, and at least one'),
        ((), "[]: each is named once, and at least one"),
    ],
)
def test_wrong_modules_are_refused_with_the_list_of_right_ones(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LoraConfig(target_modules=names)
    assert explain(caught.value) == f"target_modules = {message}; there are {', '.join(TARGETS)}"


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"r": 8}])
def test_what_cannot_be_an_adapter_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LoraConfig(**wrong)


def test_attaching_changes_neither_output_nor_base_nor_the_global_generator() -> None:
    model = toy_model()
    before, addresses, output = weights(model), {n: p.data_ptr() for n, p in model.named_parameters()}, hidden(model)
    random = torch.get_rng_state()
    attach(model, LoraConfig(), torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), random)
    after = dict(model.named_parameters())
    assert_same({name: after[name].detach() for name in before}, before)
    assert {name: after[name].data_ptr() for name in before} == addresses
    assert torch.equal(hidden(model), output)


def test_only_the_adapter_asks_for_gradients() -> None:
    model = toy_model()
    plain = set(model.state_dict())
    attach(model, LoraConfig(), torch.Generator())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == set(model.state_dict()) - plain
    assert len(trained) == 2 * len(TARGETS) * TOY_CONFIG.num_hidden_layers


def test_the_same_generator_gives_the_same_adapter() -> None:
    first, second, other = (adapter_state(adapted(seed=seed)) for seed in (1, 1, 2))
    assert_same(first, second)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert not torch.equal(first[name], other[name])
    assert 0.9 < first[name].abs().max() * TOY_CONFIG.hidden_size**0.5 <= 1


def test_only_the_targets_are_adapted_and_named_as_peft_does() -> None:
    state = adapter_state(adapted(LoraConfig(rank=3, target_modules=("v_proj", "down_proj"))))
    assert {name: list(tensor.shape) for name, tensor in state.items() if ".layers.1." in name} == {
        "base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight": [3, 32],
        "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight": [16, 3],
        "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight": [3, TOY_CONFIG.intermediate_size],
        "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight": [32, 3],
    }
    assert len(state) == 8


def test_the_gradient_is_that_of_the_merged_weight_by_the_chain_rule() -> None:
    model = adapted(LoraConfig(rank=4, alpha=6))
    plain = MiniMind(TOY_CONFIG)
    plain.load_state_dict(merge(model))
    expected, actual = gradients(plain), gradients(model)
    modules = {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}
    assert len(actual) == 2 * len(modules)
    for name, module in modules.items():
        whole = expected[f"{name}.weight"] * 1.5
        torch.testing.assert_close(actual[f"{name}.lora_A"], module.lora_B.T @ whole, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(actual[f"{name}.lora_B"], whole @ module.lora_A.T, rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    rank=st.integers(1, 12),
    alpha=st.floats(0.5, 16),
    targets=st.lists(st.sampled_from(TARGETS), min_size=1, unique=True),
    seed=st.integers(0, 9),
)
def test_merged_equals_attached(rank: int, alpha: float, targets: list[str], seed: int) -> None:
    model = adapted(LoraConfig(rank=rank, alpha=alpha, target_modules=tuple(targets)), seed)
    before = weights(model)
    plain = MiniMind(TOY_CONFIG)
    plain.load_state_dict(merge(model))
    assert_same(weights(model), before)
    torch.testing.assert_close(hidden(plain), hidden(model), rtol=0, atol=1e-5)
    assert not torch.equal(hidden(toy_model()), hidden(model))


def test_detaching_gives_the_base_back() -> None:
    model, base = adapted(LoraConfig(dropout=0.1)), toy_model()
    detach(model)
    assert_same(weights(model), weights(base))
    assert list(model.state_dict()) == list(base.state_dict())
    assert repr(model) == repr(base)
    assert torch.equal(hidden(model), hidden(base))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not model.random_blocks
    attach(model, LoraConfig(), torch.Generator())


def test_attaching_and_detaching_keep_the_mode() -> None:
    model = toy_model().eval()
    attach(model, LoraConfig(), torch.Generator())
    assert not any(module.training for module in model.modules())
    detach(model)
    assert not any(module.training for module in model.modules())


def test_a_second_adapter_is_refused() -> None:
    with pytest.raises(ValueError, match="has an adapter already: detach it first"):
        attach(adapted(), LoraConfig(), torch.Generator())


@pytest.mark.parametrize("function", [detach, merge, adapter_state, adapter_report, lambda m: load_adapter(m, {})])
def test_a_model_without_an_adapter_is_refused(function: Callable[[MiniMind], object]) -> None:
    with pytest.raises(ValueError, match="the model has no adapter: attach one first"):
        function(toy_model())


def test_what_adapter_state_gave_is_loaded_by_value() -> None:
    first, second = adapted(seed=1), adapted(seed=2)
    state = adapter_state(first)
    load_adapter(second, state)
    assert_same(weights(second), weights(first))
    assert all(tensor.data_ptr() != state[name].data_ptr() for name, tensor in adapter_state(second).items())


def test_another_adapter_is_refused_before_anything_changes() -> None:
    model = adapted()
    before = weights(model)
    with pytest.raises(ValueError, match=r"q_proj\.lora_A\.weight is \[4, 32\], here it is \[8, 32\].*; and 23 more"):
        load_adapter(model, adapter_state(adapted(LoraConfig(rank=4), seed=1)))
    state = adapter_state(adapted(seed=1))
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    state["lm_head.weight"] = state.pop(name)
    with pytest.raises(ValueError, match=f"{name} is missing; lm_head.weight is not part of it") as caught:
        load_adapter(model, state)
    assert "Rank and target modules must be those" in str(caught.value)
    assert_same(weights(model), before)


def test_dropout_drops_inputs_of_the_adapter_and_keeps_their_mean() -> None:
    model = adapted(LoraConfig(rank=4, dropout=0.5))
    module = model.get_submodule("model.layers.0.mlp.up_proj")
    assert isinstance(module, LoraLinear)
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    many = module(x.expand(4000, 3, 32)).detach()
    assert many.std(0).min() > 0.01
    torch.testing.assert_close(many.mean(0), x @ (module.weight + module.delta()).T, rtol=0, atol=0.05)
    base_alone = many - x @ module.weight.T
    assert torch.linalg.matrix_rank(base_alone.flatten(0, 1)) == 4


def test_dropout_is_for_training_alone() -> None:
    """A look at the model in between draws nothing, so that a resumed run finds the generator where it was."""
    model, without = adapted(LoraConfig(dropout=0.5)), adapted()
    random = torch.get_rng_state()
    with torch.no_grad():
        looked = hidden(model)
    evaluated = hidden(model.eval())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(looked, hidden(without))
    assert torch.equal(evaluated, hidden(without))
    assert not torch.equal(hidden(model.train()), looked)


def test_dropout_is_that_of_the_generator() -> None:
    model = adapted(LoraConfig(dropout=0.3))
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(hidden(model))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activation_checkpointing_drops_the_same_again(dropout: float) -> None:
    results = []
    for checkpointing in (False, True):
        model = adapted(LoraConfig(dropout=dropout))
        model.activation_checkpointing = checkpointing
        torch.manual_seed(3)
        results.append((gradients(model), torch.get_rng_state()))
    assert_same(results[0], results[1])


def saved_bytes(model: MiniMind) -> int:
    """What a forward pass keeps for the backward pass beside the parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = hidden(model)
    assert output.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_a_frozen_base_keeps_no_input_of_a_map_that_is_not_adapted() -> None:
    tokens = 4 * ROWS.tokens_BT.numel()
    full = saved_bytes(toy_model())
    all_maps = saved_bytes(adapted(LoraConfig(rank=1)))
    thin = len(TARGETS) * TOY_CONFIG.num_hidden_layers * tokens  # x A^T of every map
    assert full - 2 * tokens * TOY_CONFIG.hidden_size < all_maps <= full + thin
    one_map = saved_bytes(adapted(LoraConfig(rank=1, target_modules=("gate_proj",))))
    unread = (2 * TOY_CONFIG.hidden_size + TOY_CONFIG.intermediate_size) * TOY_CONFIG.num_hidden_layers
    assert all_maps - one_map >= unread * tokens  # the inputs of q/k/v, of o and of down, which is the widest


def test_dropout_keeps_nothing_more() -> None:
    assert saved_bytes(adapted(LoraConfig(dropout=0.5))) <= saved_bytes(adapted())


def test_the_report_is_what_training_holds() -> None:
    model, full = adapted(), toy_model()
    held = {}
    for name, some in (("adapter", model), ("full", full)):
        optimizer = build_optimizer({"policy": some}, OptimConfig(name="adamw"))
        gradients(some)
        optimizer.step()
        states = [state for part in optimizer.state_dict()["optimizers"] for state in part["state"].values()]
        moments = [state[key] for state in states for key in ("exp_avg", "exp_avg_sq")]
        grads = [p.grad for p in some.parameters() if p.grad is not None]
        held[name] = [sum(tensor.nbytes for tensor in tensors) for tensors in (grads, moments)]
    report = adapter_report(model)
    assert held == {
        "adapter": [report.gradient_bytes, report.optimizer_bytes],
        "full": [report.full_gradient_bytes, report.full_optimizer_bytes],
    }
    assert report.saved_bytes == sum(held["full"]) - sum(held["adapter"])
    assert report.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.total == full.parameter_count() + report.trained
    assert report.share == report.trained / report.total
    assert adapter_report(model, optimizer_states=1).optimizer_bytes == report.optimizer_bytes // 2


def test_the_report_of_a_model_that_is_only_planned() -> None:
    with torch.device("meta"):
        model = MiniMind(MODEL_PRESETS["30m"])
    whole = model.parameter_count()
    attach(model, LoraConfig(), torch.Generator())
    report = adapter_report(model)
    assert isinstance(report, AdapterReport)
    base = report.total - report.trained
    assert base == whole
    assert 0.02 < report.share < 0.04
    assert report.saved_bytes == 12 * (base - report.trained)


def test_the_settings_have_pefts_names_and_come_back() -> None:
    config = LoraConfig(rank=4, alpha=32, dropout=0.05, target_modules=("q_proj", "up_proj"))
    values = to_peft_config(config, "/base")
    assert values == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "/base",
        "r": 4,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "target_modules": ["q_proj", "up_proj"],
        "bias": "none",
        "inference_mode": True,
    }
    assert from_peft_config(values) == config


def test_with_the_adapter_off_a_model_is_its_base_and_then_itself_again() -> None:
    model, base = adapted(LoraConfig(dropout=0.5)), toy_model()
    model.train()
    before = gradients(model)
    model.zero_grad()
    state = torch.get_rng_state()
    with adapter_off(model):
        assert torch.equal(hidden(model), hidden(base))
        assert not any(parameter.grad is not None for parameter in model.parameters())
        with adapter_off(model):
            pass
        assert torch.equal(hidden(model), hidden(base))  # the inner one leaves it as it found it
    assert torch.equal(torch.get_rng_state(), state)  # what is off drops nothing
    assert not torch.equal(hidden(model.eval()), hidden(base))
    assert before.keys() == gradients(model).keys()


def test_the_adapter_is_on_again_after_an_error_and_a_plain_model_has_none() -> None:
    model = adapted()
    expected = hidden(model)
    with pytest.raises(KeyError), adapter_off(model):
        raise KeyError
    assert torch.equal(hidden(model), expected)
    with pytest.raises(ValueError, match="the model has no adapter"), adapter_off(toy_model()):
        pass


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_beside_its_own_base_learns_by_its_adapter_alone(checkpointing: bool) -> None:
    def gradient(reference: MiniMind | None) -> dict[str, Tensor]:
        model = adapted()
        model.activation_checkpointing = checkpointing
        with torch.no_grad():
            if reference is None:
                with adapter_off(model):
                    there = hidden(model)
            else:
                there = hidden(reference)
        (hidden(model) - there).square().sum().backward()  # type: ignore[no-untyped-call]
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}

    own = gradient(None)
    assert own.keys() == {name for name in dict(adapted().named_parameters()) if ".lora_" in name}
    assert_same(own, gradient(toy_model()))
