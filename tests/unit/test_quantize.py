from __future__ import annotations

import pytest
import torch

import minimind.quantize as quantize_module
from minimind.config import override
from minimind.linears import FEW_ROWS, BFloat16Linear, Int8Linear
from minimind.lora import LoraConfig, attach, merge
from minimind.model import MiniMind
from minimind.quantize import MEASURED_ROWS, WEIGHT_TYPES, Choice, QuantizedModel, choose_precision, quantized
from tests.toys import TOY_CONFIG, toy_model


def weight(outputs: int = 24, inputs: int = 40) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rows", [1, FEW_ROWS[torch.bfloat16], FEW_ROWS[torch.int8], 50])
@pytest.mark.parametrize("kind", [BFloat16Linear, Int8Linear])
def test_small_weights_give_nearly_the_same(kind: type[BFloat16Linear | Int8Linear], rows: int) -> None:
    x = torch.randn(2, rows, 40, generator=torch.Generator().manual_seed(1))[:, : max(rows // 2, 1)]
    exact = x @ weight().T
    found = kind(weight())(x)
    assert (found.dtype, found.shape) == (torch.float32, exact.shape)
    assert (found - exact).norm() < 0.015 * exact.norm()
    assert not torch.equal(found, exact)


@pytest.mark.parametrize("kind", [BFloat16Linear, Int8Linear])
def test_no_rows_give_no_rows(kind: type[BFloat16Linear | Int8Linear]) -> None:
    assert kind(weight())(torch.zeros(0, 40)).shape == (0, 24)


def test_weights_are_as_small_as_they_say() -> None:
    assert BFloat16Linear(weight()).weight.nbytes == 2 * 24 * 40
    small = Int8Linear(weight())
    assert (small.weight.nbytes, small.scale.shape) == (24 * 40, (24,))
    assert torch.equal(small.scale, small.scale.bfloat16().float())
    error = (small.weight * small.scale[:, None] - weight()).abs()
    assert (error <= 0.51 * small.scale[:, None]).all()


def test_an_output_of_zeros_stays_zero() -> None:
    zeros = torch.zeros(3, 8)
    assert Int8Linear(zeros)(torch.ones(1, 8)).tolist() == [[0, 0, 0]]


def test_float32_is_the_model_itself() -> None:
    model = toy_model()
    assert quantized(model, "float32") is model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("weight_type", ["bfloat16", "int8"])
def test_a_quantised_model_shares_embedding_and_norms_and_writes_nearly_the_same(
    weight_type: quantize_module.WeightType, tied: bool
) -> None:
    model = toy_model(config=override(TOY_CONFIG, {"tie_word_embeddings": tied}))
    small = quantized(model, weight_type)
    assert isinstance(small, QuantizedModel)
    assert small.model.embed_tokens is model.model.embed_tokens
    assert small.model.norm is model.model.norm
    assert tied or small.head is small.lm_head
    assert not any(tensor.is_meta for tensor in (*small.parameters(), *small.buffers()))
    tokens = torch.tensor([[5, 9, 3, 60, 2]])
    with torch.no_grad():
        expected, found = model.logits(model(tokens)), small.logits(small(tokens))
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert not torch.equal(found, expected)


def test_the_source_keeps_its_weights() -> None:
    model = toy_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantized(model, "int8")
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_cannot_be_quantised_is_refused() -> None:
    adapted = toy_model()
    attach(adapted, LoraConfig(rank=2), torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="has an adapter: merge it before weights are turned into int8"):
        quantized(adapted, "int8")
    plain = MiniMind(TOY_CONFIG)
    plain.load_state_dict(merge(adapted))
    quantized(plain, "int8")
    with torch.device("meta"):
        elsewhere = MiniMind(TOY_CONFIG)
    with pytest.raises(ValueError, match="weights in int8 are for CPUs, and this model is on meta"):
        quantized(elsewhere, "int8")


# The choice of a precision


def text(length: int = 8 * MEASURED_ROWS) -> list[int]:
    ids: list[int] = torch.randint(0, 64, (length,), generator=torch.Generator().manual_seed(0)).tolist()
    return ids


def test_the_choice_is_the_fastest_that_loses_little(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"float32": 0.0, "bfloat16": 0.001, "int8": 0.004}
    times = {"float32": 3.0, "bfloat16": 2.0, "int8": 1.0}

    def measured(model: MiniMind, tokens: list[int]) -> tuple[float, float]:
        kind = next(k for k, linear in KINDS.items() if any(isinstance(part, linear) for part in model.modules()))
        return 100 * (1 + losses[kind]), times[kind]

    monkeypatch.setattr(quantize_module, "_measure", measured)
    assert choose_precision(toy_model(), text()).weight_type == "int8"
    losses["int8"] = 0.006
    choice = choose_precision(toy_model(), text())
    assert choice.weight_type == "bfloat16"
    assert choice.losses == pytest.approx(losses)
    assert choice.seconds == times
    assert choose_precision(toy_model(), text(), candidates=("float32", "int8")).weight_type == "float32"
    assert choose_precision(toy_model(), text(), candidates=("int8",)).weight_type == "float32"
    times["float32"] = 0.5
    assert choose_precision(toy_model(), text()).weight_type == "float32"


KINDS = {"int8": Int8Linear, "bfloat16": BFloat16Linear, "float32": torch.nn.Linear}


def test_losses_are_measured_against_float32_by_writing() -> None:
    choice = choose_precision(toy_model(), text())
    assert isinstance(choice, Choice)
    assert choice.losses["float32"] == 0.0
    assert set(choice.losses) == set(choice.seconds) == set(WEIGHT_TYPES)
    assert 0 < abs(choice.losses["int8"]) < 0.02
    assert 0 < abs(choice.losses["bfloat16"]) < 0.02
    assert all(seconds > 0 for seconds in choice.seconds.values())


def test_the_loss_measured_is_that_of_the_plain_forward() -> None:
    model, tokens = toy_model(), text()
    nats, _ = quantize_module._measure(model, tokens)
    rows = torch.tensor(tokens).view(MEASURED_ROWS, -1)
    with torch.no_grad():
        logits = model.logits(model(rows))[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten(), reduction="sum")
    assert nats == pytest.approx(float(expected), rel=1e-5)


def test_a_short_text_is_refused() -> None:
    with pytest.raises(ValueError, match="a text of 3 tokens is too short to measure on: give 32 or more"):
        choose_precision(toy_model(), text(3))
