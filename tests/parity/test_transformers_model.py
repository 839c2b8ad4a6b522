from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from minimind.checkpoints.convert import read_weights, to_hf_config
from minimind.config import override
from minimind.network.model import MiniMind, ModelConfig, YarnConfig

PLAIN = ModelConfig(vocab_size=300, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)
UNTIED = override(PLAIN, {"tie_word_embeddings": False, "head_dim": 32, "rope_theta": 1e4})
YARN = override(
    PLAIN,
    {
        "head_dim": 64,
        "max_position_embeddings": 256,
        "rope_scaling": YarnConfig(factor=4.0, original_max_position_embeddings=64).model_dump(),
    },
)
# Upstream's own setting for long contexts, which leaves cos and sin unscaled.
YARN_UPSTREAM = override(
    YARN,
    {"rope_scaling": YarnConfig(factor=16, original_max_position_embeddings=2048, attention_factor=1.0).model_dump()},
)
CONFIGS = {"plain": PLAIN, "untied": UNTIED, "yarn": YARN, "yarn upstream": YARN_UPSTREAM}


def drawn_model(config: ModelConfig) -> MiniMind:
    """Every weight away from its first value, at sizes that keep the logits near one."""
    generator = torch.Generator().manual_seed(0)
    model = MiniMind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0, 0.2, generator=generator)
            else:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
    return model


def checkpoint_folder(folder: Path, model: MiniMind) -> Path:
    (folder / "config.json").write_text(json.dumps(to_hf_config(model.config)), "utf-8")
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_loads_as_qwen3_with_the_same_logits(tmp_path: Path, name: str) -> None:
    model = drawn_model(CONFIGS[name])
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint_folder(tmp_path, model), output_loading_info=True, dtype=torch.float32
    )
    peer, info = loaded
    assert isinstance(peer, Qwen3ForCausalLM)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    ids = torch.randint(0, 300, (2, 150), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = model.logits(model(ids)), peer(input_ids=ids).logits
    assert theirs.std() > 0.5
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_hidden_states_are_counted_as_transformers_counts_them(tmp_path: Path) -> None:
    model = drawn_model(PLAIN)
    peer = AutoModelForCausalLM.from_pretrained(checkpoint_folder(tmp_path, model), dtype=torch.float32)
    ids = torch.randint(0, 300, (2, 20), generator=torch.Generator().manual_seed(1))
    theirs = peer(input_ids=ids, output_hidden_states=True).hidden_states
    ours = model.hidden_states(ids, range(len(theirs)))
    assert len(ours) == PLAIN.num_hidden_layers + 1
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


def test_the_folder_says_which_precision_and_which_tokens(tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(checkpoint_folder(tmp_path, drawn_model(PLAIN)))
    assert config.dtype == torch.float32
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)


def test_gradients_are_transformers_gradients(tmp_path: Path) -> None:
    model = drawn_model(PLAIN)
    peer = Qwen3ForCausalLM.from_pretrained(checkpoint_folder(tmp_path, model))
    # Not id 0: to transformers that is padding, which never moves its embedding.
    ids = torch.randint(1, 300, (2, 150), generator=torch.Generator().manual_seed(1))
    weight = torch.randn(2, 150, 300, generator=torch.Generator().manual_seed(2))
    torch.autograd.backward(model.logits(model(ids, torch.ones_like(ids))), weight)
    torch.autograd.backward(peer(input_ids=ids).logits, weight)
    theirs = dict(peer.named_parameters())
    for name, parameter in model.named_parameters():
        grad = theirs[name].grad
        assert parameter.grad is not None
        assert grad is not None
        error = (parameter.grad - grad).norm() / grad.norm()
        assert error < 1e-5, f"{name}: {error}"


@pytest.mark.parametrize("name", ["plain", "untied", "yarn"])
def test_a_folder_that_transformers_saved_is_read(tmp_path: Path, name: str) -> None:
    """Their default layout, their half precision and their own way of writing the configuration."""
    config = CONFIGS[name]
    theirs = Qwen3Config(**{k: v for k, v in to_hf_config(config).items() if k not in ("dtype", "torch_dtype")})
    Qwen3ForCausalLM(theirs).bfloat16().save_pretrained(tmp_path)
    peer = Qwen3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    read, state = read_weights(tmp_path)
    assert read == config
    model = MiniMind(read)
    model.load_state_dict(state)
    ids = torch.randint(0, 300, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model(ids)), peer(input_ids=ids).logits, rtol=1e-5, atol=1e-5)
