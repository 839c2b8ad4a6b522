from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.runs.directory import RunDirectory, RunStateError, RunTakenError
from jobs.stages.pretrain import pretrain
from jobs.stages.spec import RunSpec
from jobs.stages.trying import next_commands
from jobs.text.prepare import Prepared
from jobs.text.tokenizer import TokenizerSpec, run_tokenizer
from jobs.training import launch
from jobs.training.nodes import Tell
from jobs.training.request import JobRequest
from jobs.training.run import resume, resumed_spec, start, train
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import read_manifest
from minimind.config import override
from minimind.events import read_events
from minimind.language import speaking
from tests.small import SAMPLES, SETTINGS, Screen, end_of, kill_at, small_spec, write_chats, write_rows


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def stored(home: Path) -> RunSpec:
    """A spec as a run keeps it: nothing left open, every path absolute."""
    return small_spec(scaling__workers=2)


@pytest.mark.slow
def test_a_run_from_settings_to_its_end(home: Path, screen: Screen) -> None:
    assert train(JobRequest(stage="pretrain", settings=SETTINGS, model="tiny"), screen) == 0
    run = RunDirectory.find(paths.runs(), "small")
    assert run.state().word == "SUCCEEDED"
    assert RunSpec.model_validate(run.spec()) == small_spec()
    for said in ("Checked pretrain.jsonl", "Disk: up to", "step 8/8", "bits/byte", "SUCCEEDED", "step_00000008"):
        assert said in screen.text
    assert train(JobRequest(stage="pretrain", settings={"name": "small"}, from_resume=True), screen) == 0
    assert "The run 'small' has finished already; nothing is left to do." in screen.text


def test_a_run_that_fails_gives_its_reason_and_an_exit_status(home: Path, screen: Screen) -> None:
    broken = SETTINGS | {"optim.learning_rate": 1e30, "loop.max_bad_steps": 2}
    assert train(JobRequest(stage="pretrain", settings=broken, model="tiny"), screen) == 1
    assert "not a number in 2 steps in a row" in screen.text
    run = RunDirectory.find(paths.runs(), "small")
    assert run.state().word == "FAILED"
    more = {"name": "small", "loop.max_bad_steps": 3}
    assert train(JobRequest(stage="pretrain", settings=more, from_resume=True), screen) == 1
    assert "not a number in 3 steps in a row" in screen.text


def test_a_name_that_is_taken_is_refused_unless_asked(home: Path, screen: Screen) -> None:
    start(small_spec(loop__max_steps=1), screen)
    with pytest.raises(RunStateError, match="exists already .SUCCEEDED") as caught:
        start(small_spec(), screen)
    for way_out in ("--from_resume 1", "--name", "--overwrite 1"):
        assert way_out in str(caught.value)
    with pytest.raises(ValueError, match="data file"):
        start(small_spec(data__path="none.jsonl"), screen, overwrite=True)
    assert RunDirectory.find(paths.runs(), "small").state().word == "SUCCEEDED"  # nothing is lost by a slip
    run = start(small_spec(loop__max_steps=2), screen, overwrite=True)
    assert checkpoint_folders.steps(run.checkpoints) == [2]


def test_a_second_start_and_a_second_resume_are_refused(home: Path, screen: Screen) -> None:
    run = start(small_spec(loop__max_steps=1), screen)
    before = run.events_path.read_bytes()
    with run.hold():
        for overwrite in (False, True):
            with pytest.raises(RunStateError, match="is running already"):
                start(small_spec(), screen, overwrite=overwrite)
        with pytest.raises(RunStateError, match="is running already"):
            resume("small", {}, screen)
    assert run.events_path.read_bytes() == before


def test_nothing_is_left_of_a_start_that_was_refused(home: Path, screen: Screen, tmp_path: Path) -> None:
    for settings in ({"data__path": "none.jsonl"}, {"data__tokenizer": "none"}, {"init_from": "gone"}):
        with pytest.raises(ValueError, match="none|gone"):
            start(small_spec(**settings), screen)
    with pytest.raises(ValueError, match="no row that can be used"):
        start(small_spec(data__path=str(write_rows(tmp_path / "empty.jsonl", []))), screen)
    assert not paths.runs().exists()


def test_a_killed_run_resumes_to_the_same_end(home: Path, screen: Screen) -> None:
    whole = end_of(start(small_spec(), screen))
    run = RunDirectory.find(paths.runs(), "small")
    kill_at(run, 6)
    (run.path / "STOP").touch()  # an old wish to stop does not stop the new attempt
    assert resume("small", {}, screen).state().word == "SUCCEEDED"
    assert end_of(run) == whole
    assert [event["step"] for event in read_events(run.events_path, {"state"}) if "step" in event] == [0, 6]


@pytest.mark.slow
def test_a_resume_needs_neither_its_tokenizer_run_nor_the_run_it_came_from(home: Path, screen: Screen) -> None:
    run_tokenizer(TokenizerSpec(name="words", path=str(SAMPLES), vocab_size=600), screen)
    mother = start(small_spec(name="mother", data__tokenizer="words", loop__max_steps=2), screen)
    settings = {"name": "child", "init_from": "mother", "data__tokenizer": "words", "loop__max_steps": 4}
    whole = end_of(start(small_spec(**settings), screen))
    child = RunDirectory.find(paths.runs(), "child")
    assert child.spec()["init_from"] == "mother@2"  # what the run means for ever
    kill_at(child, 2)
    shutil.rmtree(mother.path)
    shutil.rmtree(paths.runs() / "words")
    shutil.rmtree(paths.cache())
    resume("child", {}, screen)
    assert end_of(child) == whole
    newest = read_manifest(checkpoint_folders.folder_of(child.checkpoints, 4))
    assert (newest["parent_run"], newest["parent_step"]) == ("mother", 2)


def test_first_weights_are_those_of_the_named_step(home: Path, screen: Screen) -> None:
    mother = start(small_spec(name="mother", loop__max_steps=4), screen)
    still = {"optim__learning_rate": 1e-30, "loop__max_steps": 2}
    child = start(small_spec(name="child", init_from="mother@2", **still), screen)
    first, last = (
        checkpoints.load(checkpoint_folders.folder_of(run.checkpoints, 2)).weights["model.embed_tokens.weight"]
        for run in (mother, child)
    )
    assert (first - last).abs().max() < 1e-6


@pytest.mark.slow
def test_a_resume_without_a_checkpoint_starts_as_the_run_did(home: Path, screen: Screen) -> None:
    start(small_spec(name="mother", loop__max_steps=2), screen)
    child = start(small_spec(name="child", init_from="mother", loop__max_steps=2), screen)
    whole = end_of(child)
    kill_at(child, 0)
    resume("child", {"init_from": "mother"}, screen)
    assert end_of(child) == whole


def test_data_that_changed_is_not_trained_on_in_silence(home: Path, screen: Screen) -> None:
    path = home / "data" / "rows.jsonl"
    path.parent.mkdir()
    shutil.copy(SAMPLES, path)
    run = start(small_spec(data__path=str(path)), screen)
    assert run.spec()["data"]["path"] == "data/rows.jsonl"
    kill_at(run, 6)
    with path.open("a") as file:
        file.write('{"text": "one more"}\n')
    with pytest.raises(ValueError, match=f"--data_path .data.path.: {path} is not what the run 'small' began with"):
        resume("small", {}, screen)
    # A run from before digests were kept: its workers compare the data with the checkpoint's.
    forget_created(run)
    assert resume("small", {}, screen).state().word == "FAILED"
    assert "Bring the old file back" in run.state().reason
    shutil.copy(SAMPLES, path)
    assert resume("small", {}, screen).state().word == "SUCCEEDED"


def forget_created(run: RunDirectory) -> None:
    """Make of a run one that was created before spec.json said when, and from which files."""
    content = json.loads(run.spec_path.read_text("utf-8"))
    del content["created"]
    run.spec_path.write_text(json.dumps(content), "utf-8")


@pytest.mark.slow
def test_a_moved_home_goes_on_and_files_may_lie_elsewhere(
    home: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = home / "data" / "rows.jsonl"
    rows.parent.mkdir()
    shutil.copy(SAMPLES, rows)
    held_out = write_rows(home / "eval.jsonl", ["held out", "and more of it"])
    whole = end_of(start(small_spec(data__path=str(rows), eval__path=str(held_out)), screen))
    kill_at(RunDirectory.find(paths.runs(), "small"), 6)
    moved = home.rename(tmp_path / "moved")
    monkeypatch.setenv("MINIMIND_HOME", str(moved))
    run = resume("small", {}, screen)
    assert run.state().word == "SUCCEEDED"
    assert end_of(run) == whole

    kill_at(run, 6)
    elsewhere = (moved / "data" / "rows.jsonl").rename(tmp_path / "elsewhere.jsonl")
    with pytest.raises(ValueError, match=r"data file .* not found"):
        resume("small", {}, screen)
    assert end_of(resume("small", {"data.path": str(elsewhere)}, screen)) == whole
    other = write_rows(tmp_path / "other.jsonl", ["held out", "and another of it"])
    kill_at(run, 6)
    settings = {"data.path": str(elsewhere), "eval.path": str(other)}
    with pytest.raises(ValueError, match=r"eval\.path: .*other\.jsonl is not what the run 'small' began with"):
        resume("small", settings, screen)
    with pytest.raises(ValueError, match="eval.pretrain_path: the run has None, asked for is"):
        resume("small", {"data.path": str(elsewhere), "eval.pretrain_path": str(other)}, screen)


def test_a_run_that_was_created_anew_is_not_trained_on(
    home: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between create() and the worker's lock another process may overwrite the run: its settings are not ours."""
    mine, theirs = small_spec(seed=1, loop__max_steps=2), small_spec(seed=2, loop__max_steps=2)
    launched = launch.launch

    def late(spec: RunSpec, prepared: Prepared, run: RunDirectory, say: Tell) -> None:
        RunDirectory(run.path).create(theirs.model_dump(mode="json"), overwrite=True)
        launched(spec, prepared, run, say)

    monkeypatch.setattr(launch, "launch", late)
    with pytest.raises(RunTakenError, match="the run 'small' was created anew by another process just now"):
        start(mine, screen)
    run = RunDirectory.find(paths.runs(), "small")
    assert run.spec()["seed"] == 2
    assert run.state().word == "PENDING"
    assert not run.events_path.exists()


def test_what_was_not_trained_here_is_not_taken_for_ours(
    home: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Ray the workers leave a run alone that is not theirs; who waits for them says it."""
    spec = small_spec(loop__max_steps=1)

    def taken(spec: RunSpec, prepared: Prepared, run: RunDirectory, say: Tell) -> None:
        RunDirectory(run.path).create(spec.model_dump(mode="json"), overwrite=True)

    monkeypatch.setattr(launch, "launch", taken)
    with pytest.raises(RunTakenError, match="created anew"):
        start(spec, screen)
    run = RunDirectory.find(paths.runs(), "small")
    with ExitStack() as stack:
        monkeypatch.setattr(launch, "launch", lambda *_: stack.enter_context(RunDirectory(run.path).hold()))
        with pytest.raises(RunStateError, match="is running already"):
            resume("small", {}, screen)


@pytest.mark.slow
def test_held_out_rows_without_an_answer_are_refused_before_the_run_exists(home: Path, screen: Screen) -> None:
    start(small_spec(loop__max_steps=1), screen)
    late = write_chats(home / "late.jsonl", [("word " * 300, f"answer {number}") for number in range(3)])
    settings = {"init_from": "small", "data__max_seq_len": 96, "name": "chat", "loop__max_steps": 1}
    with pytest.raises(
        ValueError,
        match=rf"eval.path: {late}, 3 rows for sft: 3 fully_masked \(nothing to learn from: no answer, or none",
    ):
        start(small_spec("sft", eval__path=str(late), **settings), screen)
    assert [path.name for path in paths.runs().iterdir()] == ["small"]


@pytest.mark.slow
def test_an_unknown_run_is_named_with_those_near(home: Path, screen: Screen) -> None:
    start(small_spec(loop__max_steps=1), screen)
    with pytest.raises(ValueError, match="no run 'smal' at .*runs there: small"):
        resume("smal", {}, screen)


def test_contradicting_switches_are_refused(home: Path, screen: Screen) -> None:
    with pytest.raises(ValueError, match="--from_resume 1 continues the run and --overwrite 1 deletes it"):
        train(JobRequest(stage="pretrain", settings={}, from_resume=True, overwrite=True), screen)


def test_the_same_flags_again_resume(stored: RunSpec) -> None:
    assert resumed_spec(stored, {}) == stored
    assert (
        resumed_spec(stored, {path: str(value) for path, value in SETTINGS.items() if "workers" not in path}) == stored
    )
    assert resumed_spec(stored, {"model": stored.model.model_dump()}) == stored


def test_relative_paths_of_a_resume_count_from_home(home: Path) -> None:
    stored = small_spec(data__path="data/a.jsonl")
    for same in ("data/a.jsonl", str(home / "data" / "a.jsonl")):
        assert resumed_spec(stored, {"data.path": same}) == stored
        assert resumed_spec(small_spec(data__path=same), {"data.path": "data/a.jsonl"}) == stored
    assert resumed_spec(stored, {"data.path": "/elsewhere/b.jsonl"}).data.path == "/elsewhere/b.jsonl"


@pytest.mark.parametrize(
    ("settings", "batch"),
    [
        ({"loop.batch_size": "8"}, (8, 1, 2)),
        ({"loop.batch_size": "1"}, (1, 8, 2)),
        ({"loop.batch_size": "2", "loop.accumulation_steps": "4"}, (2, 4, 2)),
        ({"scaling.workers": "1"}, (4, 4, 1)),
        ({"scaling.workers": "0"}, (4, 4, 1)),
        ({"scaling.workers": "4", "loop.batch_size": "2"}, (2, 2, 4)),
    ],
)
def test_a_resume_keeps_the_global_batch(stored: RunSpec, settings: dict[str, str], batch: tuple[int, ...]) -> None:
    spec = resumed_spec(stored, settings)
    assert (spec.loop.batch_size, spec.loop.accumulation_steps, spec.world) == batch
    assert spec.global_batch_size == stored.global_batch_size == 16


@pytest.mark.parametrize(
    "settings",
    [
        {"loop.batch_size": "3"},
        {"loop.accumulation_steps": "4"},
        {"scaling.workers": "3"},
        {"loop.batch_size": "8", "loop.accumulation_steps": "2"},
    ],
)
def test_another_global_batch_is_refused_with_the_numbers(stored: RunSpec, settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is a global batch of \d+ rows; the run has 16") as caught:
        resumed_spec(stored, settings)
    assert "Choose numbers whose product is 16" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.num_workers", "2"),
        ("data.limits.max_duplicates", "5"),
        ("loop.keep_last", "7"),
        ("memory.vram", "6GB"),
        ("loop.save_interval", "3"),
        ("loop.max_bad_steps", "3"),
        ("loop.activation_checkpointing", "1"),
        ("eval.sample_tokens", "9"),
        ("scaling.max_failures", "9"),
    ],
)
def test_what_changes_nothing_learnt_may_change(stored: RunSpec, path: str, value: str) -> None:
    assert resumed_spec(stored, {path: value}) == override(stored, {path: value}) != stored


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"loop.epochs": "2"}, "--epochs (loop.epochs): the run has 1, asked for is 2"),
        ({"optim.weight_decay": "0.3"}, "optim.weight_decay: the run has 0.01, asked for is 0.3"),
        ({"model": pretrain("30m").model.model_dump()}, "--hidden_size (model.hidden_size): the run has 32"),
        ({"optim.lr_scale.critic": "2"}, "optim.lr_scale.critic: the run has None, asked for is 2.0"),
        ({"eval.best": "val/bits_per_byte"}, "eval.best: the run has 'val/loss'"),
        ({"seed": "1"}, "--seed (seed): the run has 42, asked for is 1"),
        ({"data.max_seq_len": "64"}, "--max_seq_len (data.max_seq_len): the run has 32"),
        ({"model.rope_scaling": '{"factor": 2, "original_max_position_embeddings": 8}'}, "model.rope_scaling: the run"),
    ],
)
def test_what_would_change_the_result_is_refused(stored: RunSpec, settings: dict[str, str], line: str) -> None:
    with pytest.raises(ValueError, match="a resumed run keeps its settings") as caught:
        resumed_spec(stored, settings)
    assert line in str(caught.value)
    assert "--name OTHER --from_weight small@latest" in str(caught.value)


def test_cpus_that_were_left_open_stay_open(home: Path, screen: Screen) -> None:
    run = start(small_spec(loop__max_steps=1), screen)
    assert run.spec()["scaling"]["cpus_per_worker"] is None
    assert run.spec()["scaling"]["workers"] == 0


@pytest.mark.slow
def test_a_run_shows_and_keeps_its_memory_plan(home: Path, screen: Screen) -> None:
    run = start(small_spec(loop__max_steps=1), screen)
    plan = run.plan()
    assert plan is not None
    assert (plan["verdict"], plan["card"]) == ("fits", "CPU")
    assert "fits: " in screen.text


@pytest.mark.slow
def test_a_run_that_does_not_fit_is_not_created(home: Path, screen: Screen) -> None:
    with pytest.raises(ValueError, match="the run does not fit"):
        start(small_spec(memory__vram="1MB"), screen)
    assert not (paths.runs() / "small").exists()


def test_a_preset_chooses_the_sizes_of_a_run(home: Path, screen: Screen) -> None:
    settings = {name: value for name, value in SETTINGS.items() if name != "loop.accumulation_steps"}
    assert (
        train(
            JobRequest(stage="pretrain", settings=settings | {"loop.max_steps": 1}, model="tiny", preset="standard"),
            screen,
        )
        == 0
    )
    spec = RunSpec.model_validate(RunDirectory.find(paths.runs(), "small").spec())
    assert spec.loop.batch_size == 4, "as given"
    with pytest.raises(RunStateError, match="exists already"):
        train(JobRequest(stage="pretrain", settings=settings, model="tiny", preset="standard"), screen)


def test_a_run_that_tried_ends_with_what_to_ask_next(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(small_spec(loop__max_steps=1), Screen())
    questions = str(SAMPLES.with_name("rl.jsonl"))
    settings = {name: value for name, value in SETTINGS.items() if not name.startswith(("model.", "data."))}
    settings |= {"data.path": questions, "data.max_seq_len": 96, "init_from": "small", "loop.max_steps": 1}
    settings |= {"stage.rewards": '[{"is": "language", "language": "en"}]', "stage.max_new_tokens": 8}
    said = {}
    for name, lang in (("one", "en"), ("two", "zh")):
        screen = Screen()
        with speaking(lang):
            assert train(JobRequest(stage="spo", settings=settings | {"name": name}), screen) == 0
        said[name] = screen.text
        commands = [f"  minimind eval {name} --against small@1", f"  minimind show {name} --samples"]
        assert [line.rstrip() for line in screen.text.splitlines() if "  minimind " in line][-2:] == commands
    assert "Next:" in said["one"]
    screen = Screen()
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "stop_requested", lambda self: True)
        assert train(JobRequest(stage="spo", settings=settings | {"name": "three", "loop.max_steps": 2}), screen) == 0
    assert "Next: minimind resume three" in screen.text
    assert "它对留出的问题写些什么，各值多少" in said["two"]
    screen = Screen()
    sft = {"init_from": "small", "name": "chat", "data.path": str(SAMPLES.with_name("sft.jsonl"))}
    plain = {name: value for name, value in settings.items() if not name.startswith("stage.")}
    assert train(JobRequest(stage="sft", settings=plain | sft), screen) == 0
    assert "Next:" not in screen.text


def test_commands_name_first_weights_as_a_shell_takes_them(home: Path) -> None:
    for weights, words in {"./a b": f"'{home}/a b'", "sft@best": "sft@best"}.items():
        ((_, command), _) = next_commands(small_spec("grpo", init_from=weights))
        assert command == f"minimind eval small --against {words}"
    worse = [command for _, command in next_commands(small_spec("grpo", init_from="taught"), newest_is_best=False)]
    assert "minimind eval small@best --against taught" in worse
    assert "minimind chat small@best" in worse
    ((_, command),) = next_commands(small_spec("grpo", init_from="none"))
    assert command == "minimind show small --samples"
