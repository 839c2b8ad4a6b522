"""A checkpoint folder is a Hugging Face model folder: transformers loads it as it is and computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from minimind.checkpoints.checkpoint import Lineage, save
from minimind.inference.sampling import Sampling
from minimind.network.model import MiniMind, ModelConfig, YarnConfig
from minimind.text.tokenizer import Tokenizer

YARN = YarnConfig(factor=4.0, original_max_position_embeddings=32)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("yarn", [None, YARN])
def test_transformers_loads_the_folder_and_computes_the_same_logits(
    tmp_path: Path, tied: bool, yarn: YarnConfig | None
) -> None:
    config = ModelConfig(
        vocab_size=320,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        rope_scaling=yarn,
    )
    model = MiniMind(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():  # output projections start at zero, which would hide the blocks
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.1, generator=generator)
    tokenizer = Tokenizer.train(["床前明月光，疑是地上霜。", "the quick brown fox"] * 5, vocab_size=300)
    folder = save(
        tmp_path,
        12,
        model_config=config,
        weights=model.state_dict(),
        tokenizer=tokenizer,
        train_state={},
        lineage=Lineage("a-run"),
        sampling=Sampling(temperature=0.2) if tied else Sampling(temperature=0.0),
    )
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    peer, info = loaded
    assert type(peer).__name__ == "Qwen3ForCausalLM"
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert (peer.generation_config.eos_token_id, peer.generation_config.pad_token_id) == (2, 0)
    how = peer.generation_config
    assert how.do_sample is tied
    if tied:  # without top_k older versions would take the 50 likeliest
        assert (how.temperature, how.top_k, how.top_p) == (0.2, 0, 1.0)
    tokens_BT = torch.randint(0, 300, (2, 100), generator=generator)
    with torch.no_grad():
        ours, theirs = model.logits(model(tokens_BT)), peer(tokens_BT).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    peer_tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = "床前 the quick 狐狸"
    assert peer_tokenizer(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
