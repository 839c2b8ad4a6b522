from __future__ import annotations

from pathlib import Path

import pytest
import torch

import minimind.checkpoints.checkpoint as checkpoints
from jobs.convert import import_weights
from jobs.stages.sampling import WRITING
from jobs.text.tokenizer import TokenizerSpec, learn
from jobs.training.run import start
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.convert import UPSTREAM_YARN
from minimind.checkpoints.manifest import read_manifest
from minimind.inference.sampling import Sampling
from minimind.network.model import MiniMind
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer
from tests.small import SAMPLES, Screen, small_spec
from tests.toys import assert_same

CONFIG = small_spec().model


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A folder as upstream leaves it: fp16 weights in a .pth, the tokenizer beside them."""
    folder = tmp_path / "out"
    learn(TokenizerSpec(path=str(SAMPLES), vocab_size=600), folder)
    weights = {name: tensor.half() for name, tensor in MiniMind(CONFIG).state_dict().items()}
    torch.save(weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}, folder / "pretrain_32.pth")
    return folder


def test_upstream_weights_become_a_checkpoint_to_train_on_from(home: Path, upstream: Path, tmp_path: Path) -> None:
    screen = Screen()
    folder = import_weights(upstream / "pretrain_32.pth", tmp_path / "imported", screen, tokenizer=None)
    loaded = checkpoints.load(folder)
    assert folder == tmp_path / "imported" / "step_00000000"
    assert loaded.model_config == CONFIG
    assert loaded.lineage.run_id == "imported"
    assert checkpoints.read_sampling(folder) == WRITING  # nobody knows better
    expected = torch.load(upstream / "pretrain_32.pth", weights_only=True)
    assert_same(loaded.weights, {name: expected[name].float() for name in loaded.weights})
    assert f"minimind chat {folder}\n" in screen.text
    assert f"--from_weight {folder} " in screen.text
    run = start(small_spec(init_from=str(folder), loop__max_steps=1), screen)
    assert run.state().word == "SUCCEEDED"
    manifest = read_manifest(checkpoint_folders.folder_of(run.checkpoints, 1))
    assert (manifest["parent_run"], manifest["parent_step"]) == ("imported", 0)
    assert manifest["tokenizer_fingerprint"] == loaded.tokenizer_fingerprint


def test_sampling_defaults_beside_the_weights_are_kept(upstream: Path, tmp_path: Path) -> None:
    (upstream / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_k": 20}', "utf-8")
    folder = import_weights(upstream / "pretrain_32.pth", tmp_path / "imported", Screen(), tokenizer=None)
    assert checkpoints.read_sampling(folder) == Sampling(temperature=0.6, top_k=20)


def test_the_tokenizer_may_lie_elsewhere(upstream: Path, tmp_path: Path) -> None:
    weights = tmp_path / "alone" / "model.pth"
    weights.parent.mkdir()
    (upstream / "pretrain_32.pth").rename(weights)
    with pytest.raises(ValueError, match=f"no tokenizer at {weights.parent}/tokenizer.json"):
        import_weights(weights, tmp_path / "imported", Screen(), tokenizer=None)
    assert import_weights(weights, tmp_path / "imported", Screen(), tokenizer=upstream).is_dir()


def test_a_tokenizer_of_another_size_is_refused(upstream: Path, tmp_path: Path) -> None:
    learn(TokenizerSpec(path=str(SAMPLES), vocab_size=500), tmp_path / "other")
    with pytest.raises(ValueError, match="the tokenizer in .*/other has 500 ids, the model has 600"):
        import_weights(upstream / "pretrain_32.pth", tmp_path / "imported", Screen(), tokenizer=tmp_path / "other")
    assert not (tmp_path / "imported").exists()


def test_nothing_is_written_over_and_nothing_is_read_from_nowhere(upstream: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{upstream} exists already"):
        import_weights(upstream / "pretrain_32.pth", upstream, Screen(), tokenizer=None)
    with pytest.raises(ValueError, match=f"weights not found: {tmp_path}/none.pth. {tmp_path} holds: out."):
        import_weights(tmp_path / "none.pth", tmp_path / "imported", Screen(), tokenizer=None)


def test_foreign_weights_are_refused_in_words(upstream: Path, tmp_path: Path) -> None:
    torch.save({"some.weight": torch.zeros(3)}, upstream / "other.pth")
    with pytest.raises(ValueError, match="not the weights of a MiniMind model"):
        import_weights(upstream / "other.pth", tmp_path / "imported", Screen(), tokenizer=None)
    assert not (tmp_path / "imported").exists()


def test_a_padded_embedding_gets_spare_ids(upstream: Path, tmp_path: Path) -> None:
    weights = torch.load(upstream / "pretrain_32.pth", weights_only=True)
    padding = torch.zeros(40, weights["model.embed_tokens.weight"].shape[1], dtype=torch.float16)
    wide = torch.cat([weights["model.embed_tokens.weight"], padding])
    torch.save(weights | {"model.embed_tokens.weight": wide, "lm_head.weight": wide}, upstream / "wide.pth")
    screen = Screen()
    model, tokenizer, _ = checkpoints.load_model(
        import_weights(upstream / "wide.pth", tmp_path / "imported", screen, tokenizer=None)
    )
    assert (model.config.vocab_size, tokenizer.vocab_size) == (640, 640)
    assert "40 rows more than the tokenizer has ids" in screen.text


def test_upstreams_switch_for_long_texts(upstream: Path, tmp_path: Path) -> None:
    folder = import_weights(
        upstream / "pretrain_32.pth", tmp_path / "long", Screen(), tokenizer=None, rope_scaling=True
    )
    assert checkpoints.load(folder).model_config == CONFIG.model_copy(update={"rope_scaling": UPSTREAM_YARN})


def test_the_chat_template_that_came_with_the_weights_is_kept_and_trained_with(
    home: Path, upstream: Path, tmp_path: Path
) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\nSO: {{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\nSO: {% endif %}"
    )
    (upstream / "chat_template.jinja").write_text(template, "utf-8")
    screen = Screen()
    folder = import_weights(upstream / "pretrain_32.pth", tmp_path / "imported", screen, tokenizer=None)
    assert "Chat template: the one that came with its tokenizer." in screen.text
    plain = Tokenizer.train([SAMPLES.read_text("utf-8")], 600)
    assert plain.foreign_template is None
    run = start(small_spec("sft", name="taught", init_from=str(folder), loop__max_steps=1), screen)
    last = Tokenizer.load(checkpoint_folders.folder_of(run.checkpoints, 1))
    assert last.foreign_template == template
    prompt = render(last, [{"role": "user", "content": "hi"}], add_generation_prompt=True).ids
    assert last.decode(prompt).endswith("<|im_start|>assistant\nSO: ")
