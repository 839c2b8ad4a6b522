from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import minimind.inference.quantize as quantize_module
from minimind.config import override
from minimind.inference import small_linears
from minimind.inference.cache import Piece
from minimind.inference.compiled import library
from minimind.inference.decoder import Decoder
from minimind.inference.quantize import (
    MEASURED_ROWS,
    WEIGHT_TYPES,
    Choice,
    QuantizedModel,
    choose_precision,
    quantized,
    weight_types,
)
from minimind.inference.small_linears import BFloat16Linear, Int8Linear
from minimind.network.lora import LoraConfig, attach, merge
from minimind.network.model import MiniMind
from tests.toys import TOY_CONFIG, toy_model


@pytest.fixture(params=[True, False], ids=["compiled", "no compiler"])
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether decode.c multiplies, or PyTorch, a few weights at a time."""
    if request.param:
        if library() is None:
            pytest.skip("no C compiler with OpenMP here")
        yield True
        return
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(small_linears, "CHUNK_NUMBERS", 100)
    library.cache_clear()
    yield False
    library.cache_clear()


def weight(outputs: int = 24, inputs: int = 40) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 24, 25, 50])
@pytest.mark.parametrize("inputs", [8, 40, 41, 96, 9000])
@pytest.mark.parametrize("kind", [BFloat16Linear, Int8Linear])
def test_a_product_is_that_of_the_rounded_weights_in_fp32(
    kind: type[BFloat16Linear | Int8Linear], inputs: int, rows: int, compiled: bool
) -> None:
    """Any width and number of rows, and no processor's own way to multiply small numbers."""
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(1))
    linear = kind(weight(inputs=inputs))
    scale = linear.scale if isinstance(linear, Int8Linear) else torch.ones(24)
    exact = x.double() @ (linear.weight.double() * scale[:, None]).T
    found = linear(x)
    assert (found.dtype, found.shape) == (torch.float32, exact.shape)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5 * inputs**0.5)


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches every operation of PyTorch's: which are not in fp32, though their results are numbers to compute with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.odd: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        taken = {arg.dtype for arg in args if isinstance(arg, Tensor)} - {torch.float32, torch.int64, torch.bool}
        if taken:
            self.odd.add(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("weight_type", ["bfloat16", "int8"])
@pytest.mark.parametrize("hidden_size", [40, 44])  # 44: decode.c does not take it
def test_no_kernel_of_pytorchs_gets_small_weights(
    weight_type: quantize_module.WeightType, hidden_size: int, compiled: bool
) -> None:
    """They are taken apart, turned into fp32 and that is all: the kernels for them differ from processor to processor,
    and one ended the process with 24 outputs, 40 inputs and 4 rows.
    """
    model = quantized(toy_model(config=override(TOY_CONFIG, {"hidden_size": hidden_size, "head_dim": 10})), weight_type)
    decoder = Decoder(model, 6, 12, native=False)
    with Products() as watched:
        for count in (1, 4, 6):
            decoder.extend([Piece(slot, 0, [slot + 1]) for slot in range(count)])
        decoder.extend([Piece(0, 0, [1, 2, 3, 4, 5])])
        with torch.no_grad():
            model.logits(model(torch.ones(5, 8, dtype=torch.int64)))
    assert watched.odd <= {"aten.split.Tensor", "aten.to.dtype", "aten._to_copy.default", "aten.detach.default"}


@pytest.mark.parametrize("kind", [BFloat16Linear, Int8Linear])
def test_small_weights_give_nearly_the_same(kind: type[BFloat16Linear | Int8Linear]) -> None:
    x = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(1))
    exact = x @ weight().T
    found = kind(weight())(x)
    assert (found.dtype, found.shape) == (torch.float32, exact.shape)
    assert (found - exact).norm() < 0.01 * exact.norm()
    assert not torch.equal(found, exact)


@pytest.mark.parametrize("kind", [BFloat16Linear, Int8Linear])
def test_no_rows_give_no_rows(kind: type[BFloat16Linear | Int8Linear], compiled: bool) -> None:
    assert kind(weight())(torch.zeros(0, 40)).shape == (0, 24)
    assert kind(weight())(torch.zeros(2, 0, 40)).shape == (2, 0, 24)


@pytest.mark.parametrize("kind", [BFloat16Linear, Int8Linear])
def test_inputs_are_taken_as_they_lie(kind: type[BFloat16Linear | Int8Linear], compiled: bool) -> None:
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    linear = kind(weight())
    torch.testing.assert_close(linear(x.T), linear(x.T.contiguous()))
    torch.testing.assert_close(linear(x.T.bfloat16()), linear(x.T.bfloat16().float()))


def test_weights_are_as_small_as_they_say() -> None:
    assert BFloat16Linear(weight()).weight.nbytes == 2 * 24 * 40
    small = Int8Linear(weight())
    assert (small.weight.nbytes, small.scale.shape) == (24 * 40, (24,))
    error = (small.weight * small.scale[:, None] - weight()).abs()
    assert (error <= 0.501 * small.scale[:, None]).all()
    assert torch.equal(small.weight.abs().amax(1), torch.full((24,), 127, dtype=torch.int8))


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


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("weight_type", ["bfloat16", "int8"])
def test_a_quantised_model_follows_its_source_in_place(weight_type: quantize_module.WeightType, tied: bool) -> None:
    config = override(TOY_CONFIG, {"tie_word_embeddings": tied})
    model = toy_model(config=config)
    small = quantized(model, weight_type)
    assert isinstance(small, QuantizedModel)
    assert small.is_current(model)
    places = [tensor.data_ptr() for tensor in small.buffers()]
    model.load_state_dict(toy_model(seed=1, config=config).state_dict())
    assert not small.is_current(model)
    small.follow(model)
    assert small.is_current(model)
    assert [tensor.data_ptr() for tensor in small.buffers()] == places
    tokens = torch.tensor([[5, 9, 3, 60, 2]])
    with torch.no_grad():
        new = quantized(toy_model(seed=1, config=config), weight_type)
        assert torch.equal(small.logits(small(tokens)), new.logits(new(tokens)))
    model.load_state_dict(toy_model(seed=2, config=config).state_dict(), assign=True)
    assert not small.is_current(model)
    small.follow(model)
    with torch.no_grad():
        new = quantized(toy_model(seed=2, config=config), weight_type)
        assert torch.equal(small.logits(small(tokens)), new.logits(new(tokens)))
    attach(model, LoraConfig(rank=2), torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=f"has an adapter: merge it before weights are turned into {weight_type}"):
        small.follow(model)


def test_weights_that_pytorch_does_not_watch_are_never_current() -> None:
    with torch.inference_mode():
        model = toy_model()
    small = quantized(model, "bfloat16")
    assert isinstance(small, QuantizedModel)
    assert not small.is_current(model)


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


def test_int8_is_no_candidate_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert weight_types(torch.device("cpu")) == WEIGHT_TYPES
    assert weight_types(torch.device("cuda", 1)) == ("float32", "bfloat16")
    model = toy_model()
    asked: list[torch.device] = []

    def types(device: torch.device) -> tuple[quantize_module.WeightType, ...]:
        asked.append(device)
        return ("float32", "bfloat16")

    with monkeypatch.context() as patch:
        patch.setattr(quantize_module, "weight_types", types)
        assert set(choose_precision(model, text()).seconds) == {"float32", "bfloat16"}
    assert asked[0] == torch.device("cpu")


def test_a_gpu_is_waited_for_before_and_after_each_step_that_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    extend = Decoder.extend

    def watched(decoder: Decoder, pieces: list[Piece]) -> Tensor:
        done.append("step")
        return extend(decoder, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "extend", watched)
        patch.setattr(quantize_module, "_wait", lambda device: done.append(device.type))
        quantize_module._measure(toy_model(), text())
    assert done[-15:] == ["cpu", "step", "cpu"] * 5
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    quantize_module._wait(torch.device("cpu"))
    assert waited == []
    quantize_module._wait(torch.device("cuda", 1))
    assert waited == [torch.device("cuda", 1)]


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
