from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from jobs import __main__ as cli
from jobs.stages import flags
from jobs.stages.lora import lora
from jobs.stages.pretrain import pretrain
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.text.tokenizer import TOKENIZER_FLAGS, TokenizerSpec
from minimind.config import override
from minimind.network.lora import LoraConfig


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    flags.add_flags(parser, pretrain, "30m")
    return parser


def test_the_handbooks_flags_reach_their_settings(parser: argparse.ArgumentParser) -> None:
    line = "--batch_size 2 --accumulation_steps 16 --max_seq_len 128 --num_workers 2 --dtype float16 --epochs 3"
    line += " --learning_rate 5e-4 --data_path data/pretrain_hq.jsonl --from_weight pretrain --use_compile 1"
    spec = flags.apply(pretrain(), flags.changes(parser.parse_args(line.split())))
    assert (spec.loop.batch_size, spec.loop.accumulation_steps, spec.loop.epochs) == (2, 16, 3)
    assert (spec.data.max_seq_len, spec.data.num_workers, spec.data.path) == (128, 2, "data/pretrain_hq.jsonl")
    assert (spec.loop.dtype, spec.loop.compile) == ("float16", True)
    assert (spec.optim.learning_rate, spec.init_from) == (5e-4, "pretrain")


def test_every_flag_is_a_setting_and_says_what_it_is_and_its_default(parser: argparse.ArgumentParser) -> None:
    text = " ".join(parser.format_help().split())
    for flag, path in flags.FLAGS.items():
        description = flags.field_of(RunSpec, path).description
        assert description, f"{path} has no description"
        assert f"--{flag} " in text
        assert " ".join(description.split()) in text
    assert "rows per forward pass on one worker (default: 8)" in text
    assert "(default: 512; tiny: 256)" in text
    assert "a few percent faster (default: 0)" in text
    assert "--optimizer adamw|muon" in text
    assert "--model SIZE size, hidden x layers: tiny (160x4), 30m (512x8)" in text
    assert "(default: 30m)" in text


def test_a_stage_with_an_adapter_has_its_flags_too(parser: argparse.ArgumentParser) -> None:
    with_adapter = argparse.ArgumentParser(allow_abbrev=False)
    flags.add_flags(with_adapter, lora, "30m")
    text = " ".join(with_adapter.format_help().split())
    for flag, path in flags.ADAPTER_FLAGS.items():
        description = flags.field_of(RunSpec, path).description
        assert description
        assert f"--{flag} " in text
        assert description in text
        assert f"--{flag} " not in parser.format_help()
    settings = flags.changes(
        with_adapter.parse_args(["--lora_rank", "4", "--lora_alpha", "8", "--lora_dropout", "0.1"])
    )
    adapter = flags.apply(lora(), settings).adapter
    assert adapter == LoraConfig(rank=4, alpha=8, dropout=0.1)
    with pytest.raises(ValueError, match=r"--lora_rank \(adapter.rank\) = '0'"):
        flags.apply(lora(), {"adapter.rank": "0"})


def test_nothing_given_changes_nothing(parser: argparse.ArgumentParser) -> None:
    assert flags.changes(parser.parse_args([])) == {}
    assert flags.apply(pretrain(), {}) == pretrain()


def test_set_reaches_everything(parser: argparse.ArgumentParser) -> None:
    args = parser.parse_args(["--set", "optim.weight_decay=0.1", "--set", 'eval.prompts=["a=b"]', "--max_steps", "7"])
    settings = flags.changes(args)
    assert settings == {"optim.weight_decay": "0.1", "eval.prompts": '["a=b"]', "loop.max_steps": "7"}
    spec = flags.apply(pretrain(), settings)
    assert (spec.optim.weight_decay, spec.eval.prompts, spec.loop.max_steps) == (0.1, ("a=b",), 7)


@pytest.mark.parametrize("text", ["optim.weight_decay", "=3", ""])
def test_a_set_that_is_no_assignment_is_refused(parser: argparse.ArgumentParser, text: str) -> None:
    with pytest.raises(ValueError, match="it takes PATH=VALUE, such as --set optim.weight_decay=0.1") as caught:
        flags.changes(parser.parse_args(["--set", text]))
    assert repr(text) in str(caught.value)


def test_a_setting_given_twice_is_refused(parser: argparse.ArgumentParser) -> None:
    for line in ("--epochs 2 --set loop.epochs=3", "--set loop.epochs=2 --set loop.epochs=3"):
        with pytest.raises(ValueError, match="loop.epochs is given twice: '2' and '3'"):
            flags.changes(parser.parse_args(line.split()))


def test_what_is_wrong_is_named_by_its_flag_and_all_at_once() -> None:
    with pytest.raises(ValueError, match="batch_size") as caught:
        flags.apply(pretrain(), {"loop.batch_size": "0", "optim.weight_decay": "x", "loop.epoch": "2"})
    lines = str(caught.value).splitlines()
    assert lines[0] == "loop.epoch: no setting 'epoch' in 'loop'; names there: epochs"
    assert lines[1].startswith("optim.weight_decay = 'x': ")
    assert lines[2].startswith("--batch_size (loop.batch_size) = '0': ")


def test_named() -> None:
    assert flags.named("loop.dtype") == "--dtype (loop.dtype)"
    assert flags.named("optim.beta1") == "optim.beta1"
    assert flags.named("path", TOKENIZER_FLAGS) == "--data_path (path)"


def test_paths_count_from_the_folder_and_names_of_runs_stay(tmp_path: Path) -> None:
    settings = {
        "data.path": "a.jsonl",
        "eval.path": "~/e.jsonl",
        "data.mix_path": "m.jsonl",
        "eval.pretrain_path": "/p.jsonl",
        "data.tokenizer": "./tok",
        "init_from": "pretrain@best",
        "seed": "1",
    }
    assert flags.absolute(settings, tmp_path) == {
        "data.path": f"{tmp_path}/a.jsonl",
        "eval.path": f"{Path.home()}/e.jsonl",
        "data.mix_path": f"{tmp_path}/m.jsonl",
        "eval.pretrain_path": "/p.jsonl",
        "data.tokenizer": f"{tmp_path}/tok",
        "init_from": "pretrain@best",
        "seed": "1",
    }
    assert flags.absolute({"data.tokenizer": "tok", "eval.path": "null", "init_from": None}, tmp_path) == {
        "data.tokenizer": "tok",
        "eval.path": "null",
        "init_from": None,
    }
    assert flags.absolute({"data.path": "/x/a.jsonl"}, tmp_path) == {"data.path": "/x/a.jsonl"}


@pytest.mark.parametrize("path", ["data.path", "init_from", "data.tokenizer", "roles.teacher"])
@pytest.mark.parametrize("value", [5, ["a"]])
def test_a_place_that_is_no_text_is_refused_in_words(path: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Input should be a valid string") as caught:
        flags.absolute({path: value}, tmp_path)
    assert f"{flags.named(path)} = {value!r}" in str(caught.value)


def test_arguments_say_the_same_again(parser: argparse.ArgumentParser) -> None:
    settings = {"data.path": "/my data/a=b.jsonl", "eval.prompts": '["x y"]'}
    assert flags.changes(parser.parse_args(flags.arguments(settings))) == settings
    spec = flags.apply(pretrain(), {"loop.compile": True, "init_from": None, "eval.prompts": ["a", "b"], "seed": 3})
    typed = {path: flags.at(spec, path) for path in ("loop.compile", "init_from", "eval.prompts", "seed")}
    assert flags.apply(pretrain(), flags.changes(parser.parse_args(flags.arguments(typed)))) == spec


def test_a_larger_model_brings_the_widths_that_belong_to_it() -> None:
    spec = flags.apply(pretrain("30m"), {"model.hidden_size": "768", "model.num_hidden_layers": "16"})
    assert spec.model == pretrain("123m").model


def test_the_tokenizers_flags(parser: argparse.ArgumentParser) -> None:
    parser = argparse.ArgumentParser()
    for flag, field in TOKENIZER_FLAGS.items():
        info = flags.field_of(TokenizerSpec, field)
        flags.add_flag(parser, flag, field, info, f"{info.description}, 100%")
    flags.add_set(parser, "max_texts=50")
    args = parser.parse_args(["--vocab_size", "700", "--set", "max_texts=9"])
    spec = flags.apply(TokenizerSpec(), flags.changes(args, TOKENIZER_FLAGS), TOKENIZER_FLAGS)
    assert spec == override(TokenizerSpec(), {"vocab_size": 700, "max_texts": 9})
    assert "100%" in parser.format_help()
    with pytest.raises(ValueError, match=r"--vocab_size \(vocab_size\) = '5': .*292"):
        flags.apply(TokenizerSpec(), {"vocab_size": "5"}, TOKENIZER_FLAGS)


def test_default_text_and_at() -> None:
    assert flags.default_text(True) == "1"
    assert flags.default_text(0.5) == "0.5"
    assert flags.at(pretrain(), "data.limits.max_bad_rows") == 0
    assert flags.at(pretrain(), "roles.teacher") is None


@pytest.mark.parametrize("name", ["grpo", "spo", "ppo"])
def test_a_stage_that_tries_prompts_does_not_speak_of_rows(name: str) -> None:
    parser, stage = argparse.ArgumentParser(allow_abbrev=False), STAGES[name]
    flags.add_flags(parser, stage.preset, "30m", other_words=stage.words)
    text = " ".join(parser.format_help().split())
    for what in ("rows per", "row order", "packed row", "training rows", "over the data"):
        assert what not in text
    assert "--batch_size N prompts whose answers are learnt from in one forward pass on one worker (default: 4" in text
    assert set(stage.words) <= set(flags.FLAGS.values())


def test_the_command_line_has_the_words_of_its_stage(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, said in {"train": "as many prompts are drawn as there are", "sweep": "tokens of a prompt and an"}.items():
        with pytest.raises(SystemExit):
            cli.main([verb, "spo", "--help"])
        assert said in " ".join(capsys.readouterr().out.split())
