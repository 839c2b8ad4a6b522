"""Weights as upstream MiniMind's trainer saves them, against transformers, which is what upstream itself exports to."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from minimind.checkpoints.convert import read_weights
from minimind.network.model import MODEL_PRESETS, MiniMind

HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, INNER = 64, 2, 8, 4, 200, 256


def upstream_file(path: Path) -> dict[str, Tensor]:
    """`{weight}_{hidden}.pth`: fp16, the tied head under both of its names, no rotary buffers."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int, mean: float = 0.0) -> Tensor:
        return (mean + torch.randn(shape, generator=generator) * 0.1).half()

    width, kv_width = HIDDEN, HIDDEN // HEADS * KV_HEADS
    weights = {"model.embed_tokens.weight": drawn(VOCAB, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        weights |= {
            f"{prefix}self_attn.q_proj.weight": drawn(width, HIDDEN),
            f"{prefix}self_attn.k_proj.weight": drawn(kv_width, HIDDEN),
            f"{prefix}self_attn.v_proj.weight": drawn(kv_width, HIDDEN),
            f"{prefix}self_attn.o_proj.weight": drawn(HIDDEN, width),
            f"{prefix}self_attn.q_norm.weight": drawn(HIDDEN // HEADS, mean=1.0),
            f"{prefix}self_attn.k_norm.weight": drawn(HIDDEN // HEADS, mean=1.0),
            f"{prefix}input_layernorm.weight": drawn(HIDDEN, mean=1.0),
            f"{prefix}post_attention_layernorm.weight": drawn(HIDDEN, mean=1.0),
            f"{prefix}mlp.gate_proj.weight": drawn(INNER, HIDDEN),
            f"{prefix}mlp.down_proj.weight": drawn(HIDDEN, INNER),
            f"{prefix}mlp.up_proj.weight": drawn(INNER, HIDDEN),
        }
    weights |= {"model.norm.weight": drawn(HIDDEN, mean=1.0)}
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    torch.save(weights, path)
    return weights


def test_an_upstream_file_gives_the_logits_of_upstreams_own_export(tmp_path: Path) -> None:
    weights = upstream_file(tmp_path / "pretrain_64.pth")
    config, state = read_weights(tmp_path / "pretrain_64.pth")
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (HEADS, KV_HEADS, 8)
    model = MiniMind(config)
    model.load_state_dict(state, strict=True)

    peer = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCAB,
            hidden_size=HIDDEN,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            head_dim=HIDDEN // HEADS,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            tie_word_embeddings=True,
        )
    )
    peer.load_state_dict(weights, strict=True)
    ids = torch.randint(0, VOCAB, (2, 50), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model(ids)), peer(input_ids=ids).logits, rtol=1e-5, atol=1e-5)


def test_the_presets_are_read_back_from_shapes_alone(tmp_path: Path) -> None:
    model = MiniMind(MODEL_PRESETS["30m"])
    torch.save({name: tensor.half() for name, tensor in model.state_dict().items()}, tmp_path / "pretrain_512.pth")
    config, _ = read_weights(tmp_path / "pretrain_512.pth")
    assert config == MODEL_PRESETS["30m"]
