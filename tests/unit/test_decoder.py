"""The cache and the decoder over it, in PyTorch and in decode.c."""

from __future__ import annotations

import platform
import shutil
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from minimind.config import override
from minimind.inference import compiled
from minimind.inference.cache import KVCache, Piece, kv_cache_bytes
from minimind.inference.compiled import library
from minimind.inference.decoder import Decoder
from minimind.inference.native import supports
from minimind.inference.quantize import WEIGHT_TYPES, QuantizedModel, WeightType, quantized
from minimind.inference.small_linears import Int8Linear
from minimind.network.lora import LoraConfig, attach
from minimind.network.model import FeedForward, MiniMind, ModelConfig
from tests.toys import TOY_CONFIG, toy_model

CONFIGS = {
    "toy": TOY_CONFIG,
    "one head for all": ModelConfig(
        vocab_size=61, hidden_size=40, num_hidden_layers=1, num_attention_heads=5, num_key_value_heads=1
    ),
    "wide heads, own head": ModelConfig(
        vocab_size=70,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=72,
        intermediate_size=56,
        tie_word_embeddings=False,
    ),
}


@pytest.fixture(params=[False, True], ids=["pytorch", "native"])
def is_native(request: pytest.FixtureRequest) -> bool:
    if request.param and library() is None:
        pytest.skip("no C compiler with OpenMP here")
    return bool(request.param)


def ids(count: int, seed: int = 0, vocab_size: int = 60) -> list[int]:
    drawn: list[int] = torch.randint(0, vocab_size, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return drawn


@torch.no_grad()
def plain_logits(model: MiniMind, tokens: list[int]) -> Tensor:
    """Logits [V] after a text, by the plain forward."""
    return model.logits(model(torch.tensor([tokens]))[0, -1])


# The cache


def test_the_cache_takes_what_was_said() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        cache = KVCache(TOY_CONFIG, 3, 20, dtype, torch.device("cpu"))
        assert cache.nbytes == kv_cache_bytes(TOY_CONFIG, 3, 20, dtype)
    # 2 layers, keys and values, 2 heads of 8 numbers
    assert kv_cache_bytes(TOY_CONFIG, 3, 20) == 2 * 2 * 2 * 8 * 4 * 3 * 20


def test_copying_a_slot_copies_the_beginning_alone() -> None:
    cache = KVCache(TOY_CONFIG, 3, 6, torch.float32, torch.device("cpu"))
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_()
    before = [tensor.clone() for tensor in (*cache.keys, *cache.values)]
    cache.copy(0, 2, 4)
    for old, new in zip(before, (*cache.keys, *cache.values), strict=True):
        assert torch.equal(new[2, :, :4], old[0, :, :4])
        assert torch.equal(new[2, :, 4:], old[2, :, 4:])
        assert torch.equal(new[:2], old[:2])


# The decoder


@pytest.mark.parametrize("name", list(CONFIGS))
def test_chunks_and_single_tokens_give_what_the_whole_text_gives(name: str, is_native: bool) -> None:
    model, text = toy_model(config=CONFIGS[name]), ids(24)
    decoder = Decoder(model, 3, 40, native=is_native)
    assert decoder.native is is_native
    logits = [decoder.extend([Piece(1, 0, text[:7], logits=7)]), decoder.extend([Piece(1, 7, text[7:15], logits=8)])]
    logits += [decoder.extend([Piece(1, place, text[place : place + 1])]) for place in range(15, 24)]
    expected_TV = torch.stack([plain_logits(model, text[:stop]) for stop in range(1, 25)])
    torch.testing.assert_close(torch.cat(logits), expected_TV, rtol=1e-4, atol=1e-5)


def test_logits_come_for_the_tokens_that_want_them(is_native: bool) -> None:
    model, text = toy_model(), ids(9)
    decoder = Decoder(model, 4, 12, native=is_native)
    pieces = [Piece(2, 0, text[:5], logits=2), Piece(0, 0, text[:1]), Piece(3, 0, text, logits=0), Piece(1, 0, text)]
    expected = [plain_logits(model, text[:stop]) for stop in (4, 5, 1, 9)]
    torch.testing.assert_close(decoder.extend(pieces), torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert decoder.extend([Piece(0, 1, text[1:3], logits=0)]).shape == (0, 64)


@pytest.mark.parametrize("slots", [[0, 1, 2, 3], [0, 2, 3], [3], [1, 5], list(range(8))])
def test_ragged_texts_in_any_slots_give_what_they_give_alone(slots: list[int], is_native: bool) -> None:
    model = toy_model()
    decoder = Decoder(model, 8, 40, native=is_native)
    texts = {slot: ids(4 + 3 * slot, seed=slot) for slot in slots}
    decoder.extend([Piece(slot, 0, text[:-1], logits=0) for slot, text in texts.items()])
    logits_BV = decoder.extend([Piece(slot, len(text) - 1, text[-1:]) for slot, text in texts.items()])
    expected_BV = torch.stack([plain_logits(model, texts[slot]) for slot in slots])
    torch.testing.assert_close(logits_BV, expected_BV, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight_type", ["float32", "bfloat16", "int8"])
def test_quantised_weights_give_the_same_in_c_and_in_pytorch(weight_type: WeightType, is_native: bool) -> None:
    model = quantized(toy_model(), weight_type)
    decoder = Decoder(model, 2, 20, native=is_native)
    text = ids(12)
    for place, token in enumerate(text):
        logits_BV = decoder.extend([Piece(slot, place, [token]) for slot in (0, 1)])
    rounded = toy_model()
    with torch.no_grad():
        for name, part in rounded.named_modules():
            if isinstance(part, nn.Linear):
                part.weight.copy_(weight_of(model.get_submodule(name)))
        hidden_D = rounded(torch.tensor([text]))[0, -1]
    expected_V = weight_of(model.head if isinstance(model, QuantizedModel) else model.model.embed_tokens) @ hidden_D
    torch.testing.assert_close(logits_BV[0], expected_V, rtol=1e-4, atol=1e-4)


def weight_of(part: nn.Module) -> Tensor:
    """The weight in fp32 that the rounded one stands for."""
    weight = part.weight
    assert isinstance(weight, Tensor)
    return weight.detach().float() * (part.scale[:, None] if isinstance(part, Int8Linear) else 1.0)


@pytest.mark.parametrize("weight_type", ["float32", "bfloat16", "int8"])
def test_in_c_a_row_is_the_same_to_the_last_bit_however_many_there_are(weight_type: WeightType) -> None:
    if library() is None:
        pytest.skip("no C compiler with OpenMP here")
    model = quantized(toy_model(), weight_type)
    text = ids(9)

    def logits(rows: int, row: int) -> Tensor:
        decoder = Decoder(model, rows, 12, native=True)
        for place, token in enumerate(text):
            others = [(token + other) % 60 for other in range(rows)]
            others[row] = token
            logits_BV = decoder.extend([Piece(slot, place, [other]) for slot, other in enumerate(others)])
        return logits_BV[row]

    alone = logits(1, 0)
    for rows, row in ((2, 1), (3, 0), (6, 5), (7, 6), (11, 8), (32, 31)):
        assert torch.equal(logits(rows, row), alone)


@pytest.mark.parametrize("weight_type", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_in_c_a_text_is_the_same_to_the_last_bit_however_it_is_cut(name: str, weight_type: WeightType) -> None:
    if library() is None:
        pytest.skip("no C compiler with OpenMP here")
    model, text = quantized(toy_model(config=CONFIGS[name]), weight_type), ids(100)

    def logits(*stops: int) -> Tensor:
        decoder = Decoder(model, 2, 100, native=True)
        starts = [0, *stops[:-1]]
        others = [Piece(1, start, text[100 - stop : 100 - start]) for start, stop in zip(starts, stops, strict=True)]
        pieces = [Piece(0, start, text[start:stop], stop - start) for start, stop in zip(starts, stops, strict=True)]
        both = zip(others, pieces, strict=True)
        return torch.cat([decoder.extend([other, piece])[1:] for other, piece in both])

    one_by_one = logits(*range(1, 101))
    for stops in ((100,), (1, 100), (99, 100), (7, 13, 14, 30, 66, 100)):
        assert torch.equal(logits(*stops), one_by_one)


@pytest.mark.parametrize("architecture", ["x86-64", "x86-64-v3"])
@pytest.mark.slow
def test_decode_c_is_right_on_older_processors(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AVX at all, and with AVX2 alone."""
    if library() is None or platform.machine() != "x86_64":
        pytest.skip("no C compiler with OpenMP here, or no x86-64")
    if architecture == "x86-64-v3" and not torch.cpu.get_capabilities().get("avx2"):
        pytest.skip("this processor has no AVX2")
    monkeypatch.setattr(compiled, "ARCHITECTURE", architecture)
    library.cache_clear()
    try:
        assert library() is not None
        text = ids(30)
        for config in CONFIGS.values():
            for weight_type in WEIGHT_TYPES:
                model = quantized(toy_model(config=config), weight_type)
                whole, pieces = Decoder(model, 1, 40, native=True), Decoder(model, 1, 40, native=True)
                found_TV = whole.extend([Piece(0, 0, text, logits=30)])
                cut_TV = [pieces.extend([Piece(0, at, text[at : at + 1])]) for at in range(30)]
                assert torch.equal(torch.cat(cut_TV), found_TV)
                with torch.no_grad():
                    expected_TV = model.logits(model(torch.tensor([text])))[0]
                torch.testing.assert_close(found_TV, expected_TV, rtol=1e-4, atol=1e-4)
    finally:
        library.cache_clear()


@pytest.mark.slow
def test_a_long_prompt_needs_no_more_of_a_small_stack() -> None:
    """What grows with the rows is not put on it: a thread of 512 KiB takes 9,000."""
    if library() is None:
        pytest.skip("no C compiler with OpenMP here")
    tiny = ModelConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=8
    )
    decoder = Decoder(toy_model(config=tiny), 1, 9_000, native=True)
    found: list[Tensor] = []
    usual = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=lambda: found.append(decoder.extend([Piece(0, 0, [1, 2, 3] * 3000)])))
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    assert found[0].isfinite().all()


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([Piece(0, 0, [64])], "a piece for slot 0 has token ids from 64 to 64: allowed are 0 to 63"),
        ([Piece(0, 0, [5, -1])], "token ids from -1 to 5"),
        ([Piece(2, 0, [5])], "1 tokens and 1 logits for slot 2, from place 0 on: the cache has 2 slots of 8 tokens"),
        ([Piece(-1, 0, [5])], "for slot -1"),
        ([Piece(0, 6, [5, 5, 5])], "3 tokens and 1 logits for slot 0, from place 6 on"),
        ([Piece(0, -1, [5])], "from place -1 on"),
        ([Piece(0, 0, [])], "a piece of 0 tokens"),
        ([Piece(0, 0, [5], logits=2)], "1 tokens and 2 logits"),
        ([Piece(0, 0, [5]), Piece(0, 1, [5])], r"pieces for slots \[0, 0\]: give one or more, no two for one slot"),
        ([], r"pieces for slots \[\]"),
    ],
)
def test_what_lies_outside_the_cache_or_the_vocabulary_is_refused(
    pieces: list[Piece], message: str, is_native: bool
) -> None:
    decoder = Decoder(toy_model(), 2, 8, native=is_native)
    with pytest.raises(ValueError, match=message):
        decoder.extend(pieces)


@pytest.mark.parametrize("kept", ["keys", "values"])
@pytest.mark.parametrize("length", [5, 8, 21])
def test_a_key_or_value_that_is_no_number_shows_in_the_logits(kept: str, length: int, is_native: bool) -> None:
    for place in (0, length // 2, length - 1):
        decoder = Decoder(toy_model(), 1, 40, native=is_native)
        decoder.extend([Piece(0, 0, ids(length), logits=0)])
        getattr(decoder.cache, kept)[0][0, 0, place, 3] = torch.nan
        assert not decoder.extend([Piece(0, length, [5])]).isfinite().any()


def test_native_follows_weights_that_change_in_place() -> None:
    if library() is None:
        pytest.skip("no C compiler with OpenMP here")
    model = toy_model()
    decoder = Decoder(model, 1, 8, native=True)
    before = decoder.extend([Piece(0, 0, [5])])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    after = decoder.extend([Piece(0, 0, [5])])
    assert not torch.equal(before, after)
    torch.testing.assert_close(after[0], plain_logits(model, [5]), rtol=1e-4, atol=1e-5)


def test_refresh_finds_weights_that_were_replaced() -> None:
    if library() is None:
        pytest.skip("no C compiler with OpenMP here")
    model = toy_model()
    decoder = Decoder(model, 1, 8, native=True)
    model.load_state_dict(toy_model(seed=1).state_dict(), assign=True)
    decoder.refresh()
    torch.testing.assert_close(decoder.extend([Piece(0, 0, [5])])[0], plain_logits(model, [5]), rtol=1e-4, atol=1e-5)


def test_native_takes_what_it_can_compute_and_nothing_else() -> None:
    adapted = toy_model()
    attach(adapted, LoraConfig(rank=2), torch.Generator().manual_seed(0))
    odd = toy_model(config=override(TOY_CONFIG, {"head_dim": 12}))
    for model in (adapted, odd, toy_model().bfloat16()):
        assert not supports(model)
        assert not Decoder(model, 1, 8).native
        with pytest.raises(ValueError, match="native = True"):
            Decoder(model, 1, 8, native=True)
    assert supports(toy_model()) is (library() is not None)


class Experts(nn.Module):
    """A feed-forward layer of several, of which a router takes one."""

    def __init__(self, first: FeedForward) -> None:
        super().__init__()
        self.experts = nn.ModuleList([first])

    def forward(self, x_BTD: Tensor) -> Tensor:
        result: Tensor = self.experts[0](x_BTD)
        return result


class Scaled(MiniMind):
    """Logits of its own."""

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        return super().logits(hidden_BTD) / 2


class Noisy(MiniMind):
    """Hidden states of its own."""

    def hidden_states(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        return tuple(hidden_BTD + 1 for hidden_BTD in super().hidden_states(*args, **kwargs))


def _with_experts(model: Any) -> None:
    model.model.layers[0].mlp = Experts(model.model.layers[0].mlp)


def _with_bias(model: Any) -> None:
    attention = model.model.layers[1].self_attn
    attention.q_proj.bias = nn.Parameter(torch.ones(len(attention.q_proj.weight)))


def _with_other_eps(model: Any) -> None:
    model.model.layers[0].self_attn.k_norm.eps = 0.1


def _with_half_a_norm(model: Any) -> None:
    model.model.norm.bfloat16()


def _with_other_norm(model: Any) -> None:
    model.model.layers[0].input_layernorm = nn.LayerNorm(32)


def _with_columns(model: Any) -> None:
    linear = model.model.layers[0].mlp.up_proj
    linear.weight = nn.Parameter(linear.weight.detach().T.contiguous().T)


def _with_fewer_outputs(model: Any) -> None:
    mlp = model.model.layers[0].mlp
    for name, shape in (("gate_proj", (64, 32)), ("up_proj", (64, 32)), ("down_proj", (32, 64))):
        getattr(mlp, name).weight = nn.Parameter(getattr(mlp, name).weight.detach()[: shape[0], : shape[1]].clone())


def _with_one_layer_less(model: Any) -> None:
    model.model.layers = model.model.layers[:1]


def _with_half_a_projection(model: Any) -> None:
    model.model.layers[0].self_attn.o_proj.bfloat16()


@pytest.mark.parametrize(
    "change",
    [
        _with_experts,
        _with_bias,
        _with_other_eps,
        _with_half_a_norm,
        _with_other_norm,
        _with_columns,
        _with_fewer_outputs,
        _with_one_layer_less,
        _with_half_a_projection,
    ],
)
def test_native_takes_no_block_that_decode_c_does_not_have(change: Callable[[MiniMind], None]) -> None:
    model = toy_model()
    change(model)
    assert not supports(model)


def test_native_takes_no_model_with_a_forward_pass_of_its_own() -> None:
    assert not supports(Scaled(TOY_CONFIG))
    assert not supports(Noisy(TOY_CONFIG))
    for tied in (True, False):
        model = toy_model(config=override(TOY_CONFIG, {"tie_word_embeddings": tied}))
        for weight_type in WEIGHT_TYPES:
            assert supports(quantized(model, weight_type)) is (library() is not None)


def test_without_a_compiler_pytorch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    library.cache_clear()
    try:
        assert library() is None
        assert not Decoder(toy_model(), 1, 8).native
    finally:
        library.cache_clear()


def test_a_compiler_that_fails_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "false")
    library.cache_clear()
    try:
        assert library() is None
    finally:
        library.cache_clear()
