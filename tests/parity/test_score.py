"""A trained role lies in a folder of its own inside a checkpoint, and transformers gives the same scores from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from minimind.checkpoints.checkpoint import Lineage, load, save
from minimind.network.model import ModelConfig
from minimind.network.score import ScoreModel
from minimind.text.tokenizer import Tokenizer
from tests.toys import assert_same, toy_model, weights


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_the_folder_of_a_role_and_gives_the_same_score(tmp_path: Path, tied: bool) -> None:
    config = ModelConfig(
        vocab_size=320,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
    )
    policy = toy_model(3, config)
    critic = ScoreModel.of(policy)
    tokens_BT = torch.randint(8, 300, (3, 20), generator=torch.Generator().manual_seed(1))
    assert torch.equal(critic.scores(tokens_BT), torch.zeros(3, 20))
    assert torch.equal(critic(tokens_BT), policy(tokens_BT))  # the same trunk, which is a copy
    with torch.no_grad():
        critic.score.weight.normal_(generator=torch.Generator().manual_seed(2))
        critic.model.norm.weight.add_(0.1)
    assert not torch.equal(critic.model.norm.weight, policy.model.norm.weight)
    tokenizer = Tokenizer.train(["the quick brown fox"] * 5, vocab_size=300)
    folder = save(
        tmp_path,
        12,
        model_config=config,
        weights=policy.state_dict(),
        roles={"critic": critic},
        tokenizer=tokenizer,
        train_state={},
        lineage=Lineage("a-run"),
    )
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "critic").eval()
    assert type(theirs).__name__ == ScoreModel.architecture
    text = "the quick fox 天"
    read = transformers.AutoTokenizer.from_pretrained(folder / "critic")
    assert read(text)["input_ids"] == tokenizer.encode(text)
    with torch.no_grad():
        expected_BT = critic.scores(tokens_BT)
        torch.testing.assert_close(theirs(tokens_BT[:1]).logits[:, 0], expected_BT[:1, -1], rtol=1e-4, atol=1e-5)
        for length in (1, 7):
            found = theirs(tokens_BT[1:2, :length]).logits[0, 0]
            torch.testing.assert_close(found, expected_BT[1, length - 1], rtol=1e-4, atol=1e-5)
        texts = ["the quick fox", "the brown fox jumps over the lazy dog 天", "a"]
        for side in ("left", "right"):
            padded = read(texts, padding=True, padding_side=side, return_tensors="pt")
            each = [critic.scores(torch.tensor([tokenizer.encode(text)]))[0, -1] for text in texts]
            torch.testing.assert_close(theirs(**padded).logits[:, 0], torch.stack(each), rtol=1e-4, atol=1e-5)
        packed = critic.scores(tokens_BT.reshape(1, -1), torch.arange(3).repeat_interleave(20)[None] + 1)
        torch.testing.assert_close(packed.view(3, 20), expected_BT, rtol=1e-4, atol=1e-5)
    assert_same(load(folder).roles["critic"], weights(critic))
    assert "lm_head.weight" not in weights(critic)
