from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from minimind.checkpoints.adapter_base import base_of, find_base
from minimind.checkpoints.checkpoint import (
    ADAPTER_CONFIG,
    Adapter,
    Lineage,
    checkpoint_bytes,
    load,
    load_model,
    read_sampling,
    save,
)
from minimind.checkpoints.folders import folder_of, newest, prune, steps
from minimind.checkpoints.manifest import ADAPTER_WEIGHTS, Base, CheckpointError, read_manifest, verify, weights_sha256
from minimind.inference.sampling import Sampling
from minimind.network.lora import LoraConfig, adapter_state, attach, merge
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.tokenizer import Tokenizer
from tests.disk import files_limited_to

CONFIG = ModelConfig(
    vocab_size=320, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16
)
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "train_state.pt",
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["床前明月光，疑是地上霜。", "the quick brown fox"] * 5, vocab_size=300)


class Saver:
    """Saves checkpoints of one small model into a folder."""

    def __init__(self, root: Path, tokenizer: Tokenizer) -> None:
        self.root = root
        self.tokenizer = tokenizer

    def __call__(self, step: int, seed: int = 0, **changes: Any) -> Path:
        model = MiniMind(CONFIG)
        model.initialize(torch.Generator().manual_seed(seed))
        arguments: dict[str, Any] = {
            "model_config": CONFIG,
            "weights": model.state_dict(),
            "tokenizer": self.tokenizer,
            "train_state": {"step": step, "optimizer": {0: {"m": torch.arange(5000.0)}}, "rng": [(1, None, True, 0.5)]},
            "lineage": Lineage("a-run", "parent", 7, "data0"),
        }
        return save(self.root, step, **{**arguments, **changes})


@pytest.fixture
def saver(tmp_path: Path, tokenizer: Tokenizer) -> Saver:
    return Saver(tmp_path / "checkpoints", tokenizer)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Another content of a checkpoint's file, with a manifest that says so."""
    (folder / name).write_bytes(content)
    manifest = read_manifest(folder)
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "manifest_sha256": digest}))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_is_saved_is_loaded(saver: Saver) -> None:
    model = MiniMind(CONFIG)
    model.initialize(torch.Generator().manual_seed(3))
    folder = saver(1000, weights=model.state_dict())
    assert folder == folder_of(saver.root, 1000) == saver.root / "step_00001000"
    assert names(folder) == sorted([*FILES, "manifest.json"])
    assert names(saver.root) == ["step_00001000"]
    loaded = load(folder, expect=CONFIG)
    assert (loaded.folder, loaded.step, loaded.model_config) == (folder, 1000, CONFIG)
    assert loaded.lineage == Lineage("a-run", "parent", 7, "data0")
    assert loaded.tokenizer_fingerprint == saver.tokenizer.fingerprint
    torch.testing.assert_close(loaded.weights, dict(model.state_dict()), rtol=0, atol=0)
    assert loaded.train_state is not None
    assert loaded.train_state["rng"] == [(1, None, True, 0.5)]
    assert torch.equal(loaded.train_state["optimizer"][0]["m"], torch.arange(5000.0))
    assert Tokenizer.load(folder).fingerprint == saver.tokenizer.fingerprint
    assert load(folder, weights_only=True).train_state is None


def test_neither_saving_nor_loading_draws_random_numbers(saver: Saver) -> None:
    before = torch.get_rng_state()
    model = MiniMind(CONFIG)
    torch.set_rng_state(before)
    load(
        save(
            saver.root,
            1,
            model_config=CONFIG,
            weights=model.state_dict(),
            tokenizer=saver.tokenizer,
            train_state={},
            lineage=Lineage("a-run"),
        ),
        CONFIG,
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_are_kept_in_fp32(saver: Saver) -> None:
    half = {
        name: tensor.half().t() if tensor.dim() == 2 else tensor
        for name, tensor in MiniMind(CONFIG).state_dict().items()
    }
    half = {name: tensor.t() if tensor.dim() == 2 else tensor for name, tensor in half.items()}
    loaded = load(saver(1, weights=half))
    assert {tensor.dtype for tensor in loaded.weights.values()} == {torch.float32}


def test_equal_content_gives_equal_files(saver: Saver, tmp_path: Path) -> None:
    first = saver(5)
    second = Saver(tmp_path / "elsewhere", saver.tokenizer)(5)
    assert read_manifest(first) == read_manifest(second)
    assert weights_sha256(first) == weights_sha256(second)
    assert weights_sha256(first) != weights_sha256(saver(6, seed=1))


def test_the_manifest_says_where_a_checkpoint_comes_from(saver: Saver) -> None:
    manifest = read_manifest(saver(5))
    assert manifest["files"].keys() == set(FILES)
    del manifest["files"]
    assert manifest == {
        "schema_version": 1,
        "run_id": "a-run",
        "step": 5,
        "parent_run": "parent",
        "parent_step": 7,
        "tokenizer_fingerprint": saver.tokenizer.fingerprint,
        "data_fingerprint": "data0",
    }


def test_generation_config_names_the_control_tokens(saver: Saver) -> None:
    config = json.loads((saver(1) / "generation_config.json").read_text())
    assert (config["pad_token_id"], config["bos_token_id"], config["eos_token_id"]) == (0, 1, 2)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.2),
        Sampling(temperature=0.0, repetition_penalty=1.1),
        Sampling(temperature=0.8, top_k=40, top_p=0.9, min_p=0.05, repetition_penalty=1.2),
    ],
)
def test_sampling_defaults_travel_with_the_checkpoint(saver: Saver, sampling: Sampling) -> None:
    folder = saver(1, sampling=sampling)
    assert read_sampling(folder) == sampling
    config = json.loads((folder / "generation_config.json").read_text("utf-8"))
    assert config["do_sample"] is (sampling.temperature > 0)
    assert (config.get("top_k") == sampling.top_k) is (sampling.temperature > 0)


@pytest.mark.parametrize(
    ("content", "sampling"),
    [
        ({}, None),
        ({"_from_model_config": True, "eos_token_id": 2, "temperature": None}, None),
        ({"do_sample": True}, Sampling()),
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, Sampling(temperature=0.0, top_p=0.9)),
        ({"do_sample": True, "temperature": 0.6, "top_k": None, "_from_model_config": True}, Sampling(temperature=0.6)),
        ({"temperature": 1, "top_k": 20, "repetition_penalty": 1.05}, Sampling(1, 20, repetition_penalty=1.05)),
    ],
)
def test_sampling_defaults_of_other_makers(tmp_path: Path, content: dict[str, Any], sampling: Sampling | None) -> None:
    assert read_sampling(tmp_path) is None
    (tmp_path / "generation_config.json").write_text(json.dumps(content), "utf-8")
    assert read_sampling(tmp_path) == sampling


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"temperature": "hot"}', "temperature = 'hot' is not a number"),
        ('{"top_k": 2.5}', "top_k = 2.5 is not a number"),
        ('{"top_p": true}', "top_p = True is not a number"),
        ('{"top_p": 3}', "top_p = 3: allowed is above 0 and at most 1"),
        ("[]", "holds no JSON object"),
        ("{", "cannot be read"),
    ],
)
def test_sampling_defaults_that_cannot_be_are_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "generation_config.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"generation_config\.json") as told:
        read_sampling(tmp_path)
    assert words in str(told.value)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_flipped_byte_is_found_in_every_file(saver: Saver, name: str) -> None:
    folder = saver(1)
    flip_a_byte(folder / name)
    with pytest.raises(CheckpointError, match=name) as caught:
        load(folder)
    assert "damaged" in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_truncated_file_is_named_with_its_size(saver: Saver, name: str) -> None:
    folder = saver(1)
    size = (folder / name).stat().st_size
    os.truncate(folder / name, size - 1)
    with pytest.raises(CheckpointError, match=rf"{name} has {size - 1} bytes, {size} were written"):
        verify(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name} is missing.*{size} bytes"):
        verify(folder)


def test_no_manifest_no_checkpoint(saver: Saver) -> None:
    folder = saver(1)
    saver(2)
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"no manifest\.json.*minimind convert"):
        load(folder)
    with pytest.raises(CheckpointError, match=r"no checkpoint folder .*step_7; checkpoints beside it: .*step_00000002"):
        verify(saver.root / "step_7")


def test_a_manifest_of_another_schema_is_refused(saver: Saver) -> None:
    folder = saver(1)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(CheckpointError, match="schema_version 99; this program reads 1"):
        verify(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(CheckpointError, match="cannot be read as a manifest"):
        verify(folder)


def test_another_models_checkpoint_is_refused_with_both_shapes(saver: Saver) -> None:
    other = CONFIG.model_copy(update={"hidden_size": 64, "rope_theta": 1e4})
    with pytest.raises(CheckpointError, match="hidden_size is 32 in the checkpoint and 64 in this run") as caught:
        load(saver(1), expect=other)
    assert "rope_theta is 1000000.0 in the checkpoint and 10000.0 in this run" in str(caught.value)


def test_weights_that_do_not_fit_their_own_config_are_refused(saver: Saver) -> None:
    weights = MiniMind(CONFIG).state_dict()
    wide = {**weights, "model.norm.weight": torch.ones(33)}
    with pytest.raises(CheckpointError, match=r"step 1 .*model\.norm\.weight is \[33\], the model's is \[32\]"):
        saver(1, weights=wide)
    with pytest.raises(CheckpointError, match="lm_head.weight is not part of the model"):
        saver(1, weights={**weights, "lm_head.weight": torch.ones(320, 32)})
    del weights["model.norm.weight"]
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is missing"):
        saver(1, weights=weights)
    folder = saver(1)
    replace_file(folder, "model.safetensors", safetensors.torch.save(wide))
    with pytest.raises(CheckpointError, match=r"weights of .*model\.norm\.weight is \[33\]"):
        load(folder)


def test_a_train_state_that_could_not_be_loaded_is_refused_when_it_is_saved(saver: Saver) -> None:
    import numpy as np

    with pytest.raises(CheckpointError, match=r"train_state\['a'\]\[1\] is a numpy\.float64"):
        saver(1, train_state={"a": [1.0, np.float64(2.0)]})
    with pytest.raises(CheckpointError, match=r"train_state has the key \(1, 2\) of type tuple"):
        saver(1, train_state={(1, 2): 0})
    assert not saver.root.exists()


def test_a_disk_without_the_space_is_refused_before_anything_is_written(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver(1)
    usage = shutil.disk_usage(saver.root)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        CheckpointError, match=r"step 2 needs 8\.\d MB \(\d+ bytes\).*has 1\.0 MB \(1000000 bytes\) free"
    ) as caught:
        saver(2)
    assert str(saver.root) in str(caught.value)
    assert "make room" in str(caught.value)
    assert names(saver.root) == ["step_00000001"]


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors", "train_state.pt"])
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing_half_written(saver: Saver, file: str) -> None:
    first = saver(1)
    sizes = sorted((path.stat().st_size, path.name) for path in first.iterdir())
    at = next(index for index, (_, name) in enumerate(sizes) if name == file)
    smaller = sizes[at - 1][0] if at else 0
    with (
        files_limited_to((smaller + sizes[at][0]) // 2),
        pytest.raises(CheckpointError, match="step 2 could not be") as caught,
    ):
        saver(2)
    assert f"{saver.root}/step_00000002.partial" in str(caught.value)
    assert "are free there" in str(caught.value)
    assert names(saver.root) == ["step_00000001"]
    assert newest(saver.root) == (first, [])
    saver(2)
    assert newest(saver.root) == (saver.root / "step_00000002", [])


KILLS = """
import os, shutil, signal, sys
from pathlib import Path
import torch
from minimind.checkpoints.checkpoint import Lineage, load, save
from minimind.checkpoints.folders import newest, prune
from minimind.checkpoints.manifest import weights_sha256
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.tokenizer import Tokenizer

torch.set_num_threads(1)
base, config = Path(sys.argv[1]), ModelConfig.model_validate_json(sys.argv[2])
tokenizer = Tokenizer.load(base)
os.fsync = lambda _: None  # a killed process does not lose what it has written; only a power cut does
operations = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")

models = [MiniMind(config) for _ in range(4)]

def write(root, step, seed):
    return save(root, step, model_config=config, weights=models[seed].state_dict(), tokenizer=tokenizer,
                train_state={"step": step}, lineage=Lineage("a-run"))

def die_at(moment, root):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event in operations and any(str(root) in str(argument) for argument in arguments):
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

template, root = base / "template", base / "checkpoints"
write(template, 1, seed=1)
write(template, 2, seed=2)
old, new = weights_sha256(template / "step_00000002"), weights_sha256(write(base / "new", 2, seed=3))
moment, killed = 0, True
while killed:
    moment += 1
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)
    child = os.fork()
    if child == 0:
        die_at(moment, root)
        write(root, 2, seed=3)  # replaces a checkpoint, which takes all the operations of a new one, and more
        prune(root, keep_last=2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    assert killed or status == 0
    folder, skipped = newest(root)
    assert not skipped, skipped
    loaded = load(folder, config)
    assert loaded.step == 2
    prune(root, keep_last=2)
    assert sorted(path.name for path in root.iterdir()) == ["step_00000001", "step_00000002"]
    assert weights_sha256(root / "step_00000002") in (old, new)
    if moment % 5 == 0 or not killed:
        write(root, 2, seed=3)
        assert weights_sha256(root / "step_00000002") == new
print(moment - 1)
"""


@pytest.mark.slow
def test_a_kill_at_any_file_operation_loses_nothing_and_loads_nothing_half_written(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """A subprocess forks children that kill themselves at their first, second, ... file operation while saving."""
    tokenizer.save(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", KILLS, str(tmp_path), CONFIG.model_dump_json()],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_a_partial_folder_is_never_loaded(saver: Saver) -> None:
    """Even if it is complete: it was not renamed, so nobody promised that it is on the disk."""
    folder = saver(1)
    shutil.copytree(folder, saver.root / "step_00000002.partial")
    assert newest(saver.root) == (folder, [])
    assert steps(saver.root) == [1]


def test_an_interrupt_takes_the_partial_folder_away(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    saver(1)
    monkeypatch.setattr(torch, "save", lambda *_: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            saver(2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert names(saver.root) == ["step_00000001"]


def test_the_same_step_is_replaced(saver: Saver) -> None:
    old, new = weights_sha256(saver(1, seed=1)), weights_sha256(saver(1, seed=2))
    assert old != new
    assert names(saver.root) == ["step_00000001"]


def test_a_replacement_that_was_cut_off_between_its_two_moves(saver: Saver) -> None:
    folder = saver(1)
    aside = saver.root / "step_00000001.replaced"
    folder.rename(aside)
    assert newest(saver.root) == (aside, [])
    prune(saver.root, keep_last=1)
    assert newest(saver.root) == (folder, [])
    shutil.copytree(folder, aside)
    assert newest(saver.root) == (folder, [])
    prune(saver.root, keep_last=5)
    assert names(saver.root) == ["step_00000001"]
    shutil.copytree(folder, aside)
    flip_a_byte(folder / "model.safetensors")
    prune(saver.root, keep_last=5)
    assert newest(saver.root) == (folder, [])


def test_the_newest_that_verifies_is_taken_with_a_note_for_each_skipped(saver: Saver) -> None:
    assert newest(saver.root) == (None, [])
    for step in (1, 2, 3):
        saver(step)
    flip_a_byte(saver.root / "step_00000003" / "model.safetensors")
    (saver.root / "step_00000002" / "train_state.pt").unlink()
    folder, skipped = newest(saver.root)
    assert folder == saver.root / "step_00000001"
    assert [note.split(":")[0] for note in skipped] == ["skipped step_00000003", "skipped step_00000002"]
    assert "model.safetensors is damaged" in skipped[0]
    assert "train_state.pt is missing" in skipped[1]


def test_steps_are_ordered_as_numbers(saver: Saver) -> None:
    for name in ("step_00000009", "step_100000000", "step_00000010", "other", "step_x"):
        (saver.root / name).mkdir(parents=True)
    assert steps(saver.root) == [9, 10, 100_000_000]
    assert steps(saver.root / "nowhere") == []


def test_prune_keeps_the_last_and_the_best(saver: Saver) -> None:
    for step in range(1, 7):
        saver(step)
    (saver.root / "step_00000007.partial").mkdir()
    removed = prune(saver.root, keep_last=2, best_steps=[3, 99])
    assert [path.name for path in removed] == ["step_00000001", "step_00000002", "step_00000004"]
    assert names(saver.root) == ["step_00000003", "step_00000005", "step_00000006"]
    assert prune(saver.root, keep_last=2, best_steps=[3]) == []


def test_prune_does_not_count_damaged_checkpoints_that_are_newer(saver: Saver) -> None:
    for step in range(1, 6):
        saver(step)
    for step in (4, 5):
        flip_a_byte(saver.root / f"step_{step:08d}" / "config.json")
    prune(saver.root, keep_last=2)
    assert steps(saver.root) == [2, 3, 4, 5]
    prune(saver.root, keep_last=1)
    assert steps(saver.root) == [3, 4, 5]
    flip_a_byte(saver.root / "step_00000003" / "config.json")
    assert prune(saver.root, keep_last=1) == []
    saver(6)
    prune(saver.root, keep_last=1)
    assert steps(saver.root) == [6]


def test_the_estimate_of_the_size_is_near_and_never_below(saver: Saver) -> None:
    model = MiniMind(CONFIG)
    count = model.parameter_count()
    moments = {"m": [torch.zeros(count)], "v": [torch.zeros(count)]}
    folder = saver(1, train_state=moments)
    actual = sum(path.stat().st_size for path in folder.iterdir())
    assert actual <= checkpoint_bytes(count, optimizer_states=2) <= actual + 8_000_000
    assert checkpoint_bytes(10**8, 2) == pytest.approx(1.2e9, rel=0.01)


def test_the_error_pickles() -> None:
    error = pickle.loads(pickle.dumps(CheckpointError("what and where")))
    assert isinstance(error, CheckpointError)
    assert str(error) == "what and where"


def test_the_weights_file_is_plain_safetensors(saver: Saver) -> None:
    weights = safetensors.torch.load_file(saver(1) / "model.safetensors")
    assert set(weights) == set(MiniMind(CONFIG).state_dict())
    assert "lm_head.weight" not in weights


LORA = LoraConfig(rank=4, alpha=12, dropout=0.25, target_modules=("q_proj", "down_proj"))
ADAPTER_FILES = tuple(name for name in FILES if name != "model.safetensors") + (ADAPTER_CONFIG, ADAPTER_WEIGHTS)


class Adapters:
    """A base run and an adapter on it, in a folder of runs."""

    def __init__(self, runs: Path, tokenizer: Tokenizer) -> None:
        self.runs = runs
        self.save_base = Saver(runs / "base" / "checkpoints", tokenizer)
        self.base = self.save_base(8)
        self.save = Saver(runs / "lora" / "checkpoints", tokenizer)
        self.model = MiniMind(CONFIG)
        self.model.load_state_dict(load(self.base).weights)
        attach(self.model, LORA, torch.Generator().manual_seed(1))
        for tensor in adapter_state(self.model).values():
            tensor.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(2))

    def __call__(self, step: int, **changes: Any) -> Path:
        arguments = {"weights": adapter_state(self.model), "adapter": Adapter(LORA, base_of(self.base))}
        return self.save(step, **{**arguments, **changes})


@pytest.fixture
def adapters(tmp_path: Path, tokenizer: Tokenizer) -> Adapters:
    return Adapters(tmp_path / "runs", tokenizer)


def test_an_adapter_is_saved_without_its_base_and_loaded(adapters: Adapters) -> None:
    folder = adapters(2)
    assert names(folder) == sorted([*ADAPTER_FILES, "manifest.json"])
    loaded = load(folder, expect=CONFIG)
    assert loaded.adapter == Adapter(LORA, base_of(adapters.base))
    torch.testing.assert_close(loaded.weights, adapter_state(adapters.model), rtol=0, atol=0)
    assert (loaded.step, loaded.lineage, loaded.model_config) == (2, Lineage("a-run", "parent", 7, "data0"), CONFIG)
    assert loaded.train_state is not None
    assert load(folder, weights_only=True).train_state is None
    assert newest(adapters.save.root) == (folder, [])
    assert load(adapters.base).adapter is None


def test_the_manifest_of_an_adapter_names_its_base(adapters: Adapters) -> None:
    folder = adapters(2)
    manifest = read_manifest(folder)
    assert manifest["schema_version"] == 1
    assert manifest["files"].keys() == set(ADAPTER_FILES)
    assert manifest["base"] == {
        "run_id": "a-run",
        "step": 8,
        "folder": str(adapters.base),
        "weights_sha256": weights_sha256(adapters.base),
    }
    assert "base" not in read_manifest(adapters.base)
    settings = json.loads((folder / ADAPTER_CONFIG).read_text())
    assert (settings["r"], settings["base_model_name_or_path"]) == (4, str(adapters.base))


def test_the_fingerprint_of_an_adapter_is_that_of_its_own_weights(adapters: Adapters) -> None:
    first, same = weights_sha256(adapters(2)), weights_sha256(adapters(3))
    for tensor in adapter_state(adapters.model).values():
        tensor.add_(1.0)
    assert first == same != weights_sha256(adapters(4))


@pytest.mark.parametrize("name", [*ADAPTER_FILES, "manifest.json"])
def test_a_flipped_byte_is_found_in_every_file_of_an_adapter(adapters: Adapters, name: str) -> None:
    folder = adapters(2)
    flip_a_byte(folder / name)
    with pytest.raises(CheckpointError, match=rf"{name}.* damaged"):
        load_model(folder)


def test_weights_that_are_not_the_adapters_are_refused(adapters: Adapters) -> None:
    weights = dict(adapter_state(adapters.model))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    with pytest.raises(CheckpointError, match=rf"step 2 .*{name} is \[5, 32\], the model's is \[4, 32\]"):
        adapters(2, weights={**weights, name: torch.zeros(5, 32)})
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is not part of the model"):
        adapters(2, weights={**weights, "model.norm.weight": torch.ones(32)})
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        adapters(2, weights=adapters.model.state_dict())


def test_a_plain_checkpoint_is_loaded_as_a_model(saver: Saver) -> None:
    folder = saver(1)
    random = torch.get_rng_state()
    model, tokenizer, checkpoint = load_model(folder, expect=CONFIG)
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.training
    assert tokenizer.fingerprint == saver.tokenizer.fingerprint
    assert (checkpoint.folder, checkpoint.step, checkpoint.train_state) == (folder, 1, None)
    torch.testing.assert_close(dict(model.state_dict()), load(folder).weights, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="hidden_size is 32 in the checkpoint and 64 in this run"):
        load_model(folder, expect=CONFIG.model_copy(update={"hidden_size": 64}))


def test_an_adapter_is_loaded_as_a_model_with_it_merged_in(adapters: Adapters) -> None:
    folder = adapters(2)
    random = torch.get_rng_state()
    model, _, checkpoint = load_model(folder, expect=CONFIG)
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.training
    assert list(model.state_dict()) == list(MiniMind(CONFIG).state_dict())
    torch.testing.assert_close(dict(model.state_dict()), merge(adapters.model), rtol=0, atol=0)
    assert checkpoint.adapter is not None
    tokens = torch.arange(12).view(2, 6)
    torch.testing.assert_close(model(tokens), adapters.model.eval()(tokens), rtol=0, atol=1e-5)


def test_the_base_is_found_where_it_was_or_beside_the_adapter(adapters: Adapters, tmp_path: Path) -> None:
    folder = adapters(2)
    adapters(8)  # has the name of the base's folder
    assert find_base(folder) == adapters.base
    moved = tmp_path / "elsewhere" / "runs"
    moved.parent.mkdir()
    adapters.runs.rename(moved)
    assert find_base(moved / "lora/checkpoints/step_00000002") == moved / "base/checkpoints/step_00000008"
    side_by_side = tmp_path / "downloads"
    shutil.copytree(moved / "lora/checkpoints/step_00000002", side_by_side / "my-adapter")
    with pytest.raises(CheckpointError, match="it is in none of"):
        load_model(side_by_side / "my-adapter")
    shutil.copytree(moved / "base/checkpoints/step_00000008", side_by_side / "step_00000008")
    model, _, _ = load_model(side_by_side / "my-adapter")
    torch.testing.assert_close(dict(model.state_dict()), merge(adapters.model), rtol=0, atol=0)


def test_an_adapter_without_its_base_says_what_it_needs_and_where_it_looked(adapters: Adapters) -> None:
    folder = adapters(2)
    adapters(8)
    expected = weights_sha256(adapters.base)
    shutil.rmtree(adapters.base)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    text = str(caught.value)
    assert f"{folder} is an adapter for step 8 of the run 'a-run', whose weights have the sha256 {expected}" in text
    assert f"it is in none of {adapters.base}, {folder.parent}/step_00000008" in text
    assert "Copy it to one of these places" in text


def test_a_base_with_other_weights_is_refused_with_both_fingerprints(adapters: Adapters) -> None:
    folder, old = adapters(2), weights_sha256(adapters.base)
    adapters.save_base(8, seed=1)
    new = weights_sha256(adapters.base)
    assert new != old
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert f"have the sha256 {old}; the weights of {adapters.base} have the sha256 {new}" in str(caught.value)
    assert "bring the old checkpoint back, or train the adapter anew" in str(caught.value)


def test_a_damaged_base_is_refused(adapters: Adapters) -> None:
    folder = adapters(2)
    flip_a_byte(adapters.base / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"{adapters.base}: model.safetensors is damaged"):
        load_model(folder)
    (adapters.base / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be read as a manifest"):
        find_base(folder)


def test_a_base_is_known_by_its_weights(adapters: Adapters) -> None:
    assert base_of(adapters.base) == Base("a-run", 8, str(adapters.base), weights_sha256(adapters.base))
    with pytest.raises(CheckpointError, match="is no adapter: it has a whole model"):
        find_base(adapters.base)


def test_an_adapter_is_no_base(adapters: Adapters) -> None:
    folder = adapters(2)
    with pytest.raises(CheckpointError, match=f"{folder} is an adapter, .* take its base, step 8 of the run 'a-run'"):
        base_of(folder)
