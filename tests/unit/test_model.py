from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from minimind.config import override
from minimind.inference.engine import Engine
from minimind.inference.native import supports
from minimind.inference.sampling import SamplingParams
from minimind.network import attention
from minimind.network.attention import document_mask, masked_attention, segment_positions
from minimind.network.model import (
    MODEL_PRESETS,
    MOST_GRAPHS,
    FeedForward,
    MiniMind,
    ModelConfig,
    RMSNorm,
    YarnConfig,
    derived_intermediate_size,
    rotary_frequencies,
    rotary_tables,
)
from minimind.training.batch import worst_batch
from minimind.training.objectives import next_token_loss
from tests.toys import TOY_CONFIG, toy_model

SMALL = ModelConfig(vocab_size=97, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)


def small_model(config: ModelConfig = SMALL, seed: int = 0) -> MiniMind:
    """Every weight drawn, norms included: an initialised model's output projections are zero and hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    model = MiniMind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            mean = 1.0 if parameter.dim() == 1 else 0.0
            parameter.normal_(mean, 0.3, generator=generator)
    return model


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, SMALL.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def packed() -> tuple[Tensor, Tensor]:
    """Two rows of 200 tokens: three documents and padding, one document and padding."""
    segment = torch.zeros(2, 200, dtype=torch.int32)
    segment[0, :70], segment[0, 70:71], segment[0, 71:190], segment[1, :150] = 1, 2, 3, 1
    return tokens(2, 200), segment


def gradients(model: MiniMind, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    hidden = model(*inputs)
    (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward()
    return hidden.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


# The configuration


def test_presets_have_upstreams_sizes() -> None:
    with torch.device("meta"):
        millions = {name: MiniMind(config).parameter_count() / 1e6 for name, config in MODEL_PRESETS.items()}
    assert {name: round(value, 1) for name, value in millions.items() if name != "tiny"} == {
        "30m": 30.0,
        "64m": 63.9,
        "123m": 122.9,
    }
    assert 1 < millions["tiny"] < 3
    for name in ("30m", "64m", "123m"):
        config = MODEL_PRESETS[name]
        assert (config.vocab_size, config.num_attention_heads, config.num_key_value_heads) == (6400, 8, 4)
        assert (config.rope_theta, config.rms_norm_eps, config.max_position_embeddings) == (1e6, 1e-6, 32768)
        assert config.tie_word_embeddings


def test_widths_are_derived_where_left_out() -> None:
    config = ModelConfig(hidden_size=768, num_hidden_layers=1)
    assert (config.head_dim, config.intermediate_size) == (96, 2432)
    assert config == ModelConfig.model_validate(
        {"hidden_size": 768, "num_hidden_layers": 1, "head_dim": None, "intermediate_size": None}
    )
    assert derived_intermediate_size(512) == 1664
    given = ModelConfig(hidden_size=30, num_hidden_layers=1, head_dim=16, intermediate_size=100)
    assert (given.head_dim, given.intermediate_size) == (16, 100)


def test_a_changed_hidden_size_brings_the_widths_that_belong_to_it() -> None:
    changed = override(MODEL_PRESETS["30m"], {"hidden_size": 768})
    assert changed == MODEL_PRESETS["64m"]
    assert override(MODEL_PRESETS["30m"], {"head_dim": 32, "hidden_size": 768}).head_dim == 32
    explicit = ModelConfig(hidden_size=512, num_hidden_layers=1, head_dim=32, intermediate_size=1000)
    kept = override(explicit, {"hidden_size": 256})
    assert (kept.head_dim, kept.intermediate_size) == (32, 1000)
    assert ModelConfig.model_validate(explicit.model_dump()) == explicit
    assert ModelConfig.model_validate_json(MODEL_PRESETS["64m"].model_dump_json()) == MODEL_PRESETS["64m"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 100}, "hidden_size = 100 must be a multiple of num_attention_heads = 8"),
        ({"num_attention_heads": 6}, "num_attention_heads = 6 must be a multiple of num_key_value_heads = 4"),
        ({"hidden_size": 24}, "head_dim = 3 must be even"),
        ({"head_dim": 7}, "head_dim = 7 must be even"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": -1}, "vocab_size"),
        ({"rope_theta": 1.0}, "rope_theta"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps"),
        ({"num_experts": 4}, "num_experts"),
        ({"rope_scaling": {"factor": 0.5, "original_max_position_embeddings": 10}}, "factor"),
        (
            {"rope_scaling": {"factor": 2, "original_max_position_embeddings": 10, "beta_fast": 1, "beta_slow": 2}},
            "beta_fast = 1.0 must be greater than beta_slow = 2.0",
        ),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate({"hidden_size": 64, "num_hidden_layers": 2, **changes})


# The forward pass


def test_shapes_and_the_tied_head() -> None:
    model = small_model()
    hidden = model(tokens(2, 9))
    assert hidden.shape == (2, 9, 32)
    assert model.head_weight_VD is model.model.embed_tokens.weight
    assert "lm_head.weight" not in model.state_dict()
    torch.testing.assert_close(model.logits(hidden), hidden @ model.head_weight_VD.T)


def test_an_untied_head_is_a_weight_of_its_own() -> None:
    model = small_model(override(SMALL, {"tie_word_embeddings": False}))
    assert model.head_weight_VD is model.lm_head.weight
    assert model.parameter_count() == small_model().parameter_count() + 97 * 32
    assert model.flops_per_token() == small_model().flops_per_token()


def test_counts() -> None:
    with torch.device("meta"):
        model = MiniMind(MODEL_PRESETS["30m"])
    norms = 8 * (2 * 512 + 2 * 64) + 512
    assert model.flops_per_token() == 6 * (model.parameter_count() - norms)


def test_a_token_sees_only_what_stands_before_it() -> None:
    model, ids = small_model(), tokens(1, 12)
    changed = ids.clone()
    changed[0, 7] = (ids[0, 7] + 1) % 97
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:], atol=1e-3)


def test_packed_documents_are_what_they_are_alone() -> None:
    model = small_model()
    ids, segment = packed()
    hidden = model(ids, segment)
    for row, start, end in ((0, 0, 70), (0, 70, 71), (0, 71, 190), (1, 0, 150)):
        alone = model(ids[row : row + 1, start:end])
        torch.testing.assert_close(hidden[row : row + 1, start:end], alone, rtol=1e-4, atol=1e-5)
    assert hidden.isfinite().all()


def test_one_whole_segment_is_plain_causal_attention_with_the_same_gradients() -> None:
    model, ids = small_model(), tokens(2, 150)
    plain, plain_grads = gradients(model, ids)
    masked, masked_grads = gradients(model, ids, torch.ones_like(ids))
    torch.testing.assert_close(masked, plain, rtol=1e-4, atol=1e-5)
    for name, grad in plain_grads.items():
        torch.testing.assert_close(masked_grads[name], grad, rtol=1e-3, atol=1e-3)


def test_attention_in_chunks_of_queries_is_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    _, segment = packed()
    mask = document_mask(segment_positions(segment), torch.float32)
    q, k, v = (torch.randn(2, 200, heads, 8) for heads in (4, 2, 2))
    chunked = masked_attention(q, k, v, mask)
    monkeypatch.setattr(attention, "QUERY_CHUNK", 200)
    torch.testing.assert_close(chunked, masked_attention(q, k, v, mask), rtol=1e-5, atol=1e-6)


def test_positions_restart_with_each_segment() -> None:
    segment = torch.tensor([[1, 1, 2, 2, 2, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    assert segment_positions(segment).tolist() == [[0, 1, 0, 1, 2, 0, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7]]


def test_the_mask_opens_the_document_so_far() -> None:
    mask = document_mask(torch.tensor([[0, 1, 0, 1]]), torch.float32)
    shut = -math.inf
    assert mask.tolist() == [[[[0, shut, shut, shut], [0, 0, shut, shut], [shut, shut, 0, shut], [shut, shut, 0, 0]]]]
    assert document_mask(torch.tensor([[0]]), torch.bfloat16).dtype == torch.bfloat16


def test_rms_norm_has_a_unit_scale_at_first() -> None:
    norm = RMSNorm(8, 1e-6)
    x = torch.randn(3, 8) * 50
    torch.testing.assert_close(norm(x), x / x.square().mean(-1, keepdim=True).sqrt())


def test_under_autocast_the_residual_stream_stays_fp32() -> None:
    model = small_model()
    ids, segment = packed()
    seen = []
    model.model.layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(ids, segment)
    hidden.sum().backward()
    assert (seen, hidden.dtype) == ([torch.float32], torch.float32)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    torch.testing.assert_close(hidden, small_model()(ids, segment), rtol=0.2, atol=0.2)


def test_half_precision_weights_run_without_autocast() -> None:
    ids, segment = packed()
    hidden = small_model().bfloat16()(ids, segment)
    assert hidden.dtype == torch.bfloat16
    torch.testing.assert_close(hidden.float(), small_model()(ids, segment), rtol=0.2, atol=0.2)


def test_hidden_states_of_chosen_depths_in_the_order_asked_for() -> None:
    model = small_model()
    last, first, middle = model.hidden_states(packed()[0], (3, 0, 2), packed()[1])
    assert torch.equal(last, model(*packed()))
    assert torch.equal(first, model.model.embed_tokens(packed()[0]))
    assert not torch.equal(middle, last)
    middle.sum().backward()  # type: ignore[no-untyped-call]
    learns = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert "model.layers.1.mlp.down_proj.weight" in learns
    assert not any(name.startswith(("model.layers.2.", "model.norm")) for name in learns), "nothing above it learns"
    for number in (-1, 4):
        with pytest.raises(ValueError, match=r"this model has 0 \(the embedding\) to 3 \(its last\)"):
            model.hidden_states(tokens(1, 2), (0, number))


class TwoExperts(nn.Module):
    """Two small SwiGLUs that a router weighs: a feed-forward layer of another kind than the model's own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.router = nn.Linear(config.hidden_size, 2, bias=False)
        self.experts = nn.ModuleList(FeedForward(config) for _ in range(2))

    def forward(self, x_BTD: Tensor) -> Tensor:
        share_BT2 = self.router(x_BTD).softmax(-1)
        outputs = [share_BT2[..., i, None] * expert(x_BTD) for i, expert in enumerate(self.experts)]
        return torch.stack(outputs).sum(0)


def test_a_block_takes_another_feed_forward_layer() -> None:
    model = MiniMind(TOY_CONFIG, TwoExperts, torch.Generator().manual_seed(0))
    assert all(type(block.mlp) is TwoExperts for block in model.model.layers)
    weight = model.state_dict()["model.layers.0.mlp.experts.1.down_proj.weight"]
    assert weight.shape == (TOY_CONFIG.hidden_size, TOY_CONFIG.intermediate_size)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("down_proj.weight"):
                weight.normal_(0.0, 0.1)
    loss = next_token_loss({"policy": model}, worst_batch(2, 12)).total
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not supports(model), "decode.c has no experts"
    prompt, params = list(range(1, 6)), SamplingParams(4, temperature=0)
    expected = Engine(model, slots=1, context_tokens=12).generate([prompt], params)[0].token_ids
    ids = prompt.copy()
    for _ in range(4):
        ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
    assert ids[5:] == expected
    assert len(Engine(model, slots=1, context_tokens=12, weight_type="bfloat16").generate([prompt], params)) == 1


# Rotary positions


def test_rotary_tables_hold_every_angle_twice() -> None:
    cos, sin = rotary_tables(SMALL, torch.tensor([[0, 3]]))
    assert cos.shape == sin.shape == (1, 2, 1, 8)
    angles = 3 * torch.tensor([1e6 ** (-i / 8) for i in (0, 2, 4, 6)])
    torch.testing.assert_close(cos[0, 1, 0], angles.cos().repeat(2))
    torch.testing.assert_close(sin[0, 1, 0], angles.sin().repeat(2))
    torch.testing.assert_close(cos[0, 0, 0], torch.ones(8))


def test_yarn_slows_the_slow_dimensions_only() -> None:
    wide = ModelConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
    yarn = YarnConfig(factor=4.0, original_max_position_embeddings=256)
    plain, one = rotary_frequencies(wide, torch.device("cpu"))
    stretched, scale = rotary_frequencies(override(wide, {"rope_scaling": yarn.model_dump()}), torch.device("cpu"))
    assert one == 1.0
    assert scale == pytest.approx(0.1 * math.log(4) + 1)
    torch.testing.assert_close(stretched[0], plain[0])
    torch.testing.assert_close(stretched[-1], plain[-1] / 4)
    fixed = {**yarn.model_dump(), "attention_factor": 1.0}
    assert rotary_frequencies(override(wide, {"rope_scaling": fixed}), torch.device("cpu"))[1] == 1.0


# Weights


def test_the_weights_are_drawn_once() -> None:
    before = torch.get_rng_state()
    model = MiniMind(SMALL, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before), "a generator that is given is the only one that is asked"
    drawn = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.initialize(torch.Generator().manual_seed(1))
    assert all(torch.equal(weight, drawn[name]) for name, weight in model.state_dict().items())


def test_initialisation_is_decided_by_the_generator_alone() -> None:
    def drawn(seed: int) -> dict[str, Tensor]:
        model = MiniMind(SMALL)
        model.initialize(torch.Generator().manual_seed(seed))
        return model.state_dict()

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_a_new_model_is_the_identity_with_unit_sized_projections() -> None:
    model = MiniMind(ModelConfig(hidden_size=256, num_hidden_layers=2, tie_word_embeddings=False))
    model.initialize(torch.Generator().manual_seed(0))
    ids = tokens(1, 5)
    torch.testing.assert_close(model(ids), model.model.norm(model.model.embed_tokens(ids)))
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            assert not weight.any(), name
        elif weight.dim() == 1:
            assert (weight == 1).all(), name
        else:
            expected = 8 / 256 if "embed_tokens" in name else 256**-0.5
            assert weight.std().item() == pytest.approx(expected, rel=0.05), name
    _, grads = gradients(model, ids)
    assert all(grads[f"model.layers.{i}.mlp.down_proj.weight"].any() for i in range(2))


def test_checkpointing_activations_changes_nothing() -> None:
    model = small_model()
    hidden, grads = gradients(model, *packed())
    model.activation_checkpointing = True
    again, again_grads = gradients(model, *packed())
    assert torch.equal(hidden, again)
    assert all(torch.equal(again_grads[name], grads[name]) for name in grads)


def test_checkpointing_keeps_less() -> None:
    def kept_bytes(checkpointing: bool) -> int:
        model = small_model()
        model.activation_checkpointing = checkpointing
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(*packed())
        return total

    assert kept_bytes(True) < kept_bytes(False) / 3


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # both from inside the compiler
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.slow
def test_blocks_compile_whole_and_keep_their_names() -> None:
    model = small_model()
    names = list(model.state_dict())
    hidden, grads = gradients(model, *packed())
    model.compile_blocks(backend="aot_eager")
    compiled, compiled_grads = gradients(model, *packed())
    assert list(model.state_dict()) == names
    assert dict(torch._dynamo.utils.counters["graph_break"]) == {}
    torch.testing.assert_close(compiled, hidden, rtol=1e-4, atol=1e-4)
    for name, grad in grads.items():
        torch.testing.assert_close(compiled_grads[name], grad, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.slow
def test_a_compiled_model_goes_down_the_ladder_and_writes_all_the_while() -> None:
    """Every shape that a run may come to, in one process; past PyTorch's limit of eight graphs it would end here."""
    model = toy_model(config=override(TOY_CONFIG, {"num_hidden_layers": 1}))
    prompts = [list(range(1, 3 + 4 * number)) for number in range(5)]
    params = [SamplingParams(3 + number, temperature=0) for number in range(5)]
    engine = Engine(model, slots=3, context_tokens=40, native=False)
    expected = [answer.token_ids for answer in engine.generate(prompts, params)]
    model.compile_blocks(backend="eager")

    def compute(rows: int, width: int) -> None:
        batch = worst_batch(rows, width)
        with torch.no_grad():
            held_out = next_token_loss({"policy": model}, batch).total
        loss = next_token_loss({"policy": model}, batch).total
        loss.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(loss.detach(), held_out, rtol=1e-4, atol=1e-4)

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for checkpointing in (False, True):
        model.activation_checkpointing = checkpointing
        for rows, width in ((8, 32), (5, 32), (1, 32), (1, 17), (1, 9)):
            compute(rows, width)
        trained = dict(torch._dynamo.utils.counters["stats"])
        assert [answer.token_ids for answer in engine.generate(prompts, params)] == expected
        assert dict(torch._dynamo.utils.counters["stats"]) == trained, "writing compiles nothing"
    assert 8 < trained["unique_graphs"] < MOST_GRAPHS / 2
    compute(8, 32)
    assert dict(torch._dynamo.utils.counters["stats"]) == trained, "a mask of its own is no graph of its own"


def test_runs_on_fake_tensors() -> None:
    with FakeTensorMode():
        model = MiniMind(MODEL_PRESETS["tiny"])
        ids = torch.zeros(4, 300, dtype=torch.int64)
        hidden = model(ids, torch.ones(4, 300, dtype=torch.int32))
        hidden.sum().backward()
        assert hidden.shape == (4, 300, model.config.hidden_size)
