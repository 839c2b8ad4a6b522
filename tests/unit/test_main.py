from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import __main__ as cli
from jobs import paths
from jobs.cluster import local as cluster
from jobs.runs.directory import RunDirectory
from jobs.stages.flags import FLAGS
from jobs.stages.table import STAGES
from jobs.text.tokenizer import TokenizerSpec, run_tokenizer
from minimind.checkpoints import folders as checkpoint_folders
from minimind.text.tokenizer import Tokenizer
from tests.shell import Main, Shell
from tests.small import CHATS, SAMPLES, SETTINGS, Screen, end_of, kill_at, small_flags, write_chats, write_rows


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return Shell(capsys)


@pytest.fixture
def rows(home: Path) -> Path:
    return write_rows(home / "data" / "rows.jsonl", [f"row number {number}" for number in range(40)])


TRAIN = ["train", "pretrain"]
VERBS = [
    [],
    ["train"],
    [*TRAIN],
    ["train", "sft"],
    ["train", "lora"],
    ["train", "tokenizer"],
    ["sweep"],
    ["sweep", "pretrain"],
    ["resume"],
    ["demo"],
    ["data"],
    ["data", "fetch"],
    ["data", "check"],
    ["data", "show"],
    ["plan"],
    ["plan", "pretrain"],
    ["runs"],
    ["show"],
    ["attach"],
    ["logs"],
    ["rm"],
    ["stop"],
    ["convert"],
    ["cluster"],
    ["serve"],
    ["chat"],
    ["gpu-check"],
]


@pytest.mark.parametrize("main", [cli.main, cli.minimind])
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help(shell: Shell, verb: list[str], main: Main) -> None:
    assert shell(main, *verb, "--help") == 0
    program = "minimind" if main is cli.minimind else "python -m jobs"
    assert shell.out.startswith(" ".join(["usage:", program, *verb]))
    trains = len(verb) == 2 and verb[0] in ("train", "sweep")
    assert ("--detach" in shell.out) == (main is cli.minimind and (trains or verb in (["demo"], ["resume"])))


def test_the_helps_say_where_relative_paths_count_from(shell: Shell) -> None:
    shell(cli.main, "data", "check", "--help")
    assert "relative paths count from MINIMIND_HOME" in " ".join(shell.out.split())
    shell(cli.minimind, "data", "check", "--help")
    assert "relative paths count from this folder" in " ".join(shell.out.split())
    shell(cli.main, *TRAIN, "--help")
    assert all(f"--{flag} " in " ".join(shell.out.split()) for flag in FLAGS)
    assert STAGES["pretrain"].title in " ".join(shell.out.split())


def test_train_show_runs_and_resume(shell: Shell) -> None:
    assert shell(cli.main, *TRAIN, *small_flags()) == 0
    assert "SUCCEEDED" in shell.out
    assert "samples" in shell.out
    run = RunDirectory.find(paths.runs(), "small")
    whole = end_of(run)
    assert shell(cli.main, "runs") == 0
    assert "small" in shell.out
    assert shell(cli.main, "show", "small") == 0
    assert "max_seq_len=32" in shell.out
    assert shell(cli.main, "stop", "small") == 1
    assert "the run 'small' is not running, it is SUCCEEDED: there is nothing to stop" in shell.err
    for again in (["--name", "small", "--from_resume", "1"], [*small_flags(), "--from_resume", "1"]):
        kill_at(run, 6)
        assert shell(cli.main, *TRAIN, *again) == 0
        assert end_of(run) == whole
    kill_at(run, 6)
    assert shell(cli.main, "resume", "small", "--batch_size", "2", "--num_workers", "1") == 0
    assert checkpoint_folders.steps(run.checkpoints)[-1] == 8
    assert shell(cli.main, "resume", "small") == 0
    assert "has finished already" in shell.out


def test_train_takes_its_settings_from_a_file_and_flags_win(shell: Shell, home: Path) -> None:
    best = home / "best.json"
    best.write_text(json.dumps(SETTINGS | {"loop.max_steps": 2, "init_from": None, "data.split_cjk": True}), "utf-8")
    assert shell(cli.main, *TRAIN, "--spec", "best.json", "--max_steps", "3") == 0
    spec = RunDirectory.find(paths.runs(), "small").spec()
    assert spec["loop"]["max_steps"] == 3
    assert spec["model"]["vocab_size"] == SETTINGS["model.vocab_size"]
    assert spec["data"]["split_cjk"] is True
    best.write_text('{"loop.batchsize": 4}')
    assert shell(cli.main, *TRAIN, "--spec", str(best), "--name", "other") == 1
    assert "loop.batchsize: no setting 'batchsize' in 'loop'; names there: batch_size" in shell.err
    for content, complaint in (("{", "cannot be read"), ("[]", "it holds one object, dotted path -> value")):
        best.write_text(content)
        assert shell(cli.main, *TRAIN, "--spec", str(best)) == 1
        assert complaint in shell.err


def test_a_sweep_that_cannot_begin_is_refused_before_it_is_submitted(shell: Shell, home: Path) -> None:
    assert shell(cli.minimind, "sweep", "sft") == 1
    assert "sft goes on from weights" in shell.err
    RunDirectory(paths.sweeps() / "pretrain-batch", "sweep").create({})
    assert shell(cli.minimind, "sweep", "pretrain") == 1
    assert "the sweep 'pretrain-batch' exists already" in shell.err
    assert shell(cli.main, "sweep", "pretrain", "--space", "bach", "--name", "s") == 1
    assert "space 'bach': there are batch, rate, rank" in shell.err


@pytest.mark.slow
def test_sft_and_lora_go_on_from_a_run(shell: Shell) -> None:
    assert shell(cli.main, *TRAIN, *small_flags(loop__max_steps=1)) == 0
    chats = CHATS.read_text("utf-8").splitlines(keepends=True)[:40]
    (paths.home() / "chats.jsonl").write_text("".join(chats), "utf-8")
    argv = ["--data_path", "chats.jsonl", "--max_steps", "2", "--max_seq_len", "96", "--workers", "0"]
    for stage in ("sft", "lora"):
        assert shell(cli.main, "train", stage, *argv) == 1
        assert f"{stage} goes on from weights that have learnt language" in shell.err
        assert shell(cli.main, "train", stage, *argv, "--from_weight", "small", "--set", "data.mix=0.2") == 0
        assert "forgetting" in shell.out
        run = RunDirectory.find(paths.runs(), stage)
        whole = end_of(run)
        kill_at(run, 1)
        assert shell(cli.main, "resume", stage) == 0
        assert end_of(run) == whole
    assert "of memory saved" in shell.out
    assert shell(cli.main, "train", "sft", "--name", "other", *argv, "--from_weight", "gone") == 1
    assert "'gone': no run 'gone'" in shell.err
    mixed = ["--from_weight", "small", "--set", "data.mix=1.5"]
    assert shell(cli.main, "train", "sft", "--name", "other", *argv, *mixed) == 1
    assert "data.mix = '1.5': Input should be less than 1" in shell.err


def test_what_a_stage_learns_of_a_file(
    shell: Shell, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_chats(tmp_path / "chats.jsonl", [("q", f"answer {number}") for number in range(9)])
    assert shell(cli.minimind, "data", "show", path.name, "--rows", "2") == 0
    assert "⟦answer 1<|im_end|>⟧" in shell.out
    assert "answer 2" not in shell.out
    assert shell(cli.minimind, "data", "show", str(rows), "--stage", "pretrain") == 0
    assert "⟦row number 0<|im_end|>⟧" in shell.out
    assert shell(cli.minimind, "data", "show", "none.jsonl") == 1
    assert f"{tmp_path}/none.jsonl: no such file" in shell.err


def test_minimind_trains_here_without_workers(
    shell: Shell, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = small_flags(loop__max_steps=1, data__path=None, scaling__workers=None)
    assert shell(cli.minimind, *TRAIN, *flags, "--workers", "0", "--data_path", "home/data/rows.jsonl") == 0
    spec = RunDirectory.find(paths.runs(), "small").spec()
    assert spec["data"]["path"] == "data/rows.jsonl"
    kill_at(RunDirectory.find(paths.runs(), "small"), 0)
    assert shell(cli.minimind, "resume", "small", "--workers", "0", "--data_path", "home/data/rows.jsonl") == 0


def test_the_tokenizer_stage(shell: Shell, rows: Path) -> None:
    argv = ["train", "tokenizer", "--data_path", "data/rows.jsonl", "--vocab_size", "300", "--name", "words"]
    assert shell(cli.main, *argv, "--set", "max_texts=20") == 0
    run = RunDirectory.find(paths.runs(), "words")
    assert Tokenizer.load(run.path / "tokenizer").vocab_size == 300
    assert run.spec()["max_texts"] == 20
    assert shell(cli.main, *argv) == 1
    assert "the run 'words' exists already" in shell.err
    assert shell(cli.main, *argv, "--overwrite", "1") == 0
    assert shell(cli.main, "resume", "words") == 1
    assert "python -m jobs train tokenizer --name words --overwrite 1" in shell.err
    assert shell(cli.main, "train", "tokenizer", "--vocab_size", "5") == 1
    assert "--vocab_size (vocab_size) = '5': Input should be greater than or equal to 292" in shell.err


BAD_LINES = {
    "a flag of another stage": (
        ["--group_size", "2"],
        2,
        ["--group_size: no such flag here; it is one of: train grpo"],
    ),
    "an unknown flag": (["--batchsize", "2"], 2, ["--batchsize: no such flag; near: --batch_size"]),
    "an unknown setting": (
        ["--set", "optim.weight_decy=1"],
        1,
        ["optim.weight_decy: no setting 'weight_decy' in 'optim'; names there: weight_decay"],
    ),
    "a setting of nothing": (
        ["--set", "loops.epochs=1"],
        1,
        ["no setting 'loops' at the top level; names there: loop"],
    ),
    "no assignment": (["--set", "epochs"], 1, ["--set 'epochs': it takes PATH=VALUE"]),
    "batch_size 0": (
        ["--batch_size", "0"],
        1,
        ["--batch_size (loop.batch_size) = '0': Input should be greater than or equal to 1"],
    ),
    "a word for a number": (
        ["--epochs", "many"],
        1,
        ["--epochs (loop.epochs) = 'many': Input should be a valid integer"],
    ),
    "an unknown dtype": (["--dtype", "fp8"], 1, ["--dtype (loop.dtype) = 'fp8'", "'bfloat16'"]),
    "a limit that is no size": (["--vram", "all"], 1, ["--vram (memory.vram) = 'all'", "such as 8GB"]),
    "an unknown preset": (["--preset", "bold"], 2, ["argument --preset: preset 'bold'", "conservative (保守)"]),
    "a run that does not fit": (
        ["--workers", "0", "--model", "tiny", "--vram", "60MB"],
        1,
        ["the run does not fit: a step needs", "has 60 MB", "--batch_size 1 --accumulation_steps 8"],
    ),
    "an unknown model": (["--model", "7b"], 2, ["argument --model: '7b' is no size", "the nearest is 123m", "tiny"]),
    "an impossible shape": (["--hidden_size", "33"], 1, ["hidden_size = 33 must be a multiple of num_attention_heads"]),
    "a bad name": (["--name", "a/b"], 1, ["--name (name) = 'a/b': run name 'a/b': a name has 1 to 100 letters"]),
    "a flag of half a switch": (["--from_resume", "yes"], 2, ["argument --from_resume: 'yes' is neither 0 nor 1"]),
    "rows wider than the model": (
        ["--max_seq_len", "40000"],
        1,
        ["--max_seq_len (data.max_seq_len) = 40000 is more than model.max_position_embeddings = 32768"],
    ),
    "a run to resume that is not there": (
        ["--from_resume", "1"],
        1,
        ["no run 'pretrain' at", "there is no run yet", "leave --from_resume out"],
    ),
    "a preset for a run that goes on": (["--from_resume", "1", "--preset", "standard"], 1, ["is for a new run"]),
    "two ways at once": (["--from_resume", "1", "--overwrite", "1"], 1, ["give one of them"]),
    "no cluster": ([], 1, ["this process is not part of a Ray cluster", "--workers 0"]),
    "first weights of no run": (
        ["--workers", "0", "--from_weight", "gone"],
        1,
        ["'gone': no run 'gone' at", "A folder is named with a slash in it, such as ./gone"],
    ),
    "first weights of no folder": (
        ["--workers", "0", "--from_weight", "./none"],
        1,
        ["checkpoint not found", "none"],
    ),
    "a tokenizer that is not there": (["--workers", "0", "--tokenizer", "./none"], 1, ["tokenizer not found", "/none"]),
    "a missing file": (
        ["--workers", "0", "--data_path", "data/none.jsonl"],
        1,
        ["data file (`minimind data fetch` brings the stock data to data/stock/) not found", "holds: rows.jsonl."],
    ),
}


@pytest.mark.parametrize("main", [cli.main, cli.minimind])
def test_plan_says_whether_a_stage_fits(shell: Shell, main: Main) -> None:
    assert shell(main, "plan", "sft", "--model", "tiny", "--vram", "4GB", "--system", "wsl2") == 0
    assert "fits: " in shell.out
    assert "Disk: up to" in shell.out
    assert shell(main, "plan", "sft", "--model", "tiny", "--vram", "850MB", "--preset", "激进", "--system", "wsl2") == 1
    assert "does not fit" in shell.err
    assert shell(main, "plan", "sft", "--system", "wsl2") == 1
    assert "name its memory with --vram" in shell.err
    assert shell(main, "plan", "--table", "sft") == 2
    assert "'sft' is neither 0 nor 1" in shell.err
    assert shell(main, "plan", "--table", "1", "sft") == 1
    assert "leave 'sft' out" in shell.err
    assert shell(main, "plan") == 1
    assert "plan: name a stage, or --table" in shell.err
    assert not paths.runs().exists()


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_command_lines_are_refused_in_words(shell: Shell, rows: Path, case: str) -> None:
    extra, status, said = BAD_LINES[case]
    given = [] if "--data_path" in extra else ["--data_path", "data/rows.jsonl"]
    assert shell(cli.main, *TRAIN, *given, *extra) == status
    for text in said:
        assert text in shell.err
    assert "Traceback" not in shell.err
    assert not paths.runs().exists()


def test_minimind_refuses_before_it_submits(shell: Shell) -> None:
    for extra, text in (
        (["--batch_size", "0"], "--batch_size (loop.batch_size) = '0'"),
        (["--set", "loop.x=1"], "no setting 'x'"),
    ):
        assert shell(cli.minimind, *TRAIN, *extra) == 1
        assert text in shell.err
    assert shell(cli.minimind, "train", "tokenizer", "--vocab_size", "x") == 1
    assert "--vocab_size (vocab_size) = 'x'" in shell.err
    RunDirectory(paths.runs() / "pretrain").create({"name": "pretrain", "stage": {"kind": "pretrain"}})
    assert shell(cli.minimind, *TRAIN) == 1
    assert "the run 'pretrain' exists already" in shell.err
    RunDirectory(paths.runs() / "tokenizer").create({"name": "tokenizer", "stage": {"kind": "tokenizer"}})
    assert shell(cli.minimind, "train", "tokenizer") == 1
    assert "the run 'tokenizer' exists already" in shell.err
    assert not cluster.state_path().exists()


BAD_ROWS = {
    "a broken JSON line": (b'{"text": "fine"}\n{"text": "bro\n', [":2: broken JSON"]),
    "wrong fields": (
        b'{"text": "fine"}\n{"conversations": []}\n',
        [":2: this is conversation data: use --stage sft"],
    ),
    "invalid UTF-8": (b'{"text": "fine"}\n{"text": "\xff\xfe"}\n', [":2: not UTF-8: byte 0xff"]),
    "an empty row": (b'{"text": "fine"}\n{"text": "  "}\n', [":2: the row is empty"]),
    "an empty set": (b"", ["no row that can be used"]),
    "one text alone": (b'{"text": "the only one"}\n', ["can't be split into training and validation"]),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_data_is_refused_with_file_and_line(shell: Shell, home: Path, case: str) -> None:
    content, said = BAD_ROWS[case]
    path = home / "bad.jsonl"
    path.write_bytes(content)
    assert shell(cli.main, *TRAIN, *small_flags(data__path="bad.jsonl", model__vocab_size=292)) == 1
    everything = shell.out + shell.err
    for text in said:
        assert (f"{path}{text}" if text.startswith(":") else text) in everything
    assert "Traceback" not in everything


def test_example_rows_are_a_file_to_begin_with(shell: Shell, home: Path) -> None:
    assert shell(cli.minimind, "data", "example", "sft") == 0
    (home / "chat.jsonl").write_text(shell.out, "utf-8")
    assert shell(cli.main, "data", "check", "chat.jsonl", "--stage", "sft") == 0
    assert "Nothing stands in the way" in shell.out


def test_rows_longer_than_max_seq_len_are_read_in_pieces(shell: Shell, home: Path) -> None:
    write_rows(home / "long.jsonl", ["word " * 500, "short"])
    assert shell(cli.main, *TRAIN, *small_flags(data__path="long.jsonl", model__vocab_size=300)) == 0
    assert "1 longer than 32 tokens are read in pieces" in shell.out


def test_a_vocabulary_that_does_not_match(shell: Shell) -> None:
    run_tokenizer(TokenizerSpec(name="words", path=str(SAMPLES), vocab_size=500), Screen())
    assert shell(cli.main, *TRAIN, *small_flags(), "--tokenizer", "words") == 1
    assert "has 500 ids, the model has 600: set the model to it with --set model.vocab_size=500" in shell.err


def test_a_failed_run_gives_an_exit_status_and_its_reason(shell: Shell) -> None:
    flags = small_flags(optim__learning_rate=1e30, loop__max_bad_steps=2)
    assert shell(cli.main, *TRAIN, *flags) == 1
    assert "not a number in 2 steps in a row" in shell.out


def test_a_second_start_is_refused(shell: Shell) -> None:
    assert shell(cli.main, *TRAIN, *small_flags(loop__max_steps=1)) == 0
    assert shell(cli.main, *TRAIN, *small_flags()) == 1
    assert "the run 'small' exists already (SUCCEEDED" in shell.err
    with RunDirectory.find(paths.runs(), "small").hold():
        for extra in ([], ["--overwrite", "1"], ["--from_resume", "1"]):
            assert shell(cli.main, *TRAIN, *small_flags(), *extra) == 1
            assert "the run 'small' is running already" in shell.err


def test_stop_asks_a_running_run(shell: Shell) -> None:
    run = RunDirectory(paths.runs() / "busy")
    run.create({"name": "busy", "stage": {"kind": "pretrain"}})
    with run.hold():
        assert shell(cli.main, "stop", "busy") == 0
    assert run.stop_requested()
    assert "busy stops at its next step" in shell.out
    assert shell(cli.main, "stop", "none") == 1
    assert "no run 'none'" in shell.err
    assert "runs there: busy" in shell.err


@pytest.mark.parametrize("main", [cli.main, cli.minimind])
def test_data_check(shell: Shell, rows: Path, main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rows.parent)
    path = "rows.jsonl" if main is cli.minimind else "data/rows.jsonl"
    run_tokenizer(TokenizerSpec(name="words", path=str(rows), vocab_size=300), Screen())
    assert shell(main, "data", "check", path, "--tokenizer", "words", "--max_seq_len", "3") == 0
    assert "tokens per row" in shell.out
    assert "cut: longer than max_seq_len" in shell.out
    tokenizer = "../runs/words/tokenizer" if main is cli.minimind else "runs/words/tokenizer"
    assert shell(main, "data", "check", path, "--tokenizer", tokenizer) == 0
    assert "tokens per row" in shell.out
    assert shell(main, "data", "check", path, "--eval", path) == 1
    assert "40 leaked" in shell.out
    assert shell(main, "data", "check", path, "--stage", "sft") == 1
    assert "this is plain text: use --stage pretrain" in shell.out
    assert shell(main, "data", "check", "none.jsonl") == 1
    assert f"{rows.parent if main is cli.minimind else paths.home()}/none.jsonl: no such file" in shell.err
    assert shell(main, "data", "check", path, "--max_seq_len", "0") == 2
    assert "'0' is not a whole number of at least 1" in shell.err


def test_convert_counts_paths_like_everything_else(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell(cli.minimind, "convert", "none.pth", "out") == 1
    assert f"weights not found: {tmp_path}/none.pth" in shell.err
    assert shell(cli.main, "convert", "none.pth", "out") == 1
    assert f"weights not found: {paths.home()}/none.pth" in shell.err


def test_chat_counts_paths_like_everything_else(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell(cli.minimind, "chat", "./none") == 1
    assert f"checkpoint not found: {tmp_path}/none" in shell.err
    assert shell(cli.main, "chat", "./none") == 1
    assert f"checkpoint not found: {paths.home()}/none" in shell.err


def test_the_cluster_that_is_not_there(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert shell(cli.main, "cluster", "status") == 1
    assert "Not running. Start it: minimind cluster start" in shell.out
    assert shell(cli.main, "cluster", "stop") == 0
    assert "No cluster that was started here is running." in shell.out
    assert shell(cli.main, "attach", "anything") == 1
    assert "minimind cluster start" in shell.err


def test_a_full_disk_is_told_in_a_sentence(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(paths.home())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert shell(cli.main, *TRAIN, *small_flags()) == 1
    assert "1.0 KB are free: make room, set MINIMIND_HOME to another disk" in shell.err
    assert not paths.runs().exists()


def test_a_run_whose_files_are_damaged_is_told_with_its_file(shell: Shell) -> None:
    run = RunDirectory(paths.runs() / "broken")
    run.create({"name": "broken", "stage": {"kind": "pretrain"}})
    run.spec_path.write_text(json.dumps({"schema_version": 99}))
    assert shell(cli.main, "resume", "broken") == 1
    assert f"{run.spec_path} has schema_version 99" in shell.err
