from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.runs import samples
from jobs.runs.directory import RunDirectory, RunTakenError
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.text.prepare import Prepared, prepare
from jobs.training.environment import environment
from jobs.training.worker import work
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import read_manifest
from minimind.device.distributed import Parallel
from minimind.events import Event, metric_series, read_events
from tests.disk import files_limited_to
from tests.small import SAMPLES, Screen, end_of, kill_at, small_spec, write_rows
from tests.toys import assert_same


class Begun:
    """A run that is created and prepared, as `train` does it."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.run = RunDirectory(paths.runs() / spec.name)
        prepared = prepare(spec, Screen())
        identity = self.run.create(spec.model_dump(mode="json"))
        self.prepared = prepared.model_copy(update={"identity": identity})

    def work(self, spec: RunSpec | None = None, prepared: Prepared | None = None) -> str:
        """Train in this process; gives the state that the run is in then."""
        work(spec or self.spec, prepared or self.prepared, self.run, Parallel())
        return self.run.state().word

    @property
    def steps(self) -> list[int]:
        return checkpoint_folders.steps(self.run.checkpoints)

    @property
    def running(self) -> list[Event]:
        """The beginnings of all attempts."""
        return [event for event in read_events(self.run.events_path, {"state"}) if event["state"] == "RUNNING"]

    def notes(self, kind: str) -> list[str]:
        return [event["text"] for event in read_events(self.run.events_path, {"note"}) if event["kind"] == kind]


@pytest.fixture
def begun(home: Path) -> Begun:
    return Begun(small_spec())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run that every interrupted one must end like."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(tmp_path_factory.mktemp("uninterrupted")))
        begun = Begun(small_spec(loop__save_interval=1, loop__keep_last=99))
        assert begun.work() == "SUCCEEDED"
    return begun.run


def test_a_run_goes_to_its_end_and_leaves_everything(begun: Begun, uninterrupted: RunDirectory) -> None:
    assert begun.work() == "SUCCEEDED"
    events = read_events(begun.run.events_path)
    assert [event["state"] for event in events if event["type"] == "state"] == ["RUNNING", "SUCCEEDED"]
    start = events[0]
    assert (start["step"], start["total_steps"], start["world"]) == (0, 8, 1)
    assert start["environment"].keys() >= {"torch", "device", "threads", "command", "commit"}
    steps, losses = metric_series(begun.run.events_path, "train/loss")
    assert steps == list(range(1, 9))
    assert losses[-1] < losses[0]
    assert metric_series(begun.run.events_path, "val/bits_per_byte")[0] == [0, 4, 8]
    tokens = metric_series(begun.run.events_path, "train/tokens")[1]
    assert tokens == sorted(tokens)
    assert tokens[0] > 0
    assert [event["path"] for event in events if event["type"] == "checkpoint"][-1] == "checkpoints/step_00000008"
    folder = checkpoint_folders.folder_of(begun.run.checkpoints, 8)
    assert checkpoints.read_sampling(folder) == STAGES["pretrain"].sampling(begun.spec.model)
    assert begun.steps == [4, 6, 8]  # the last two, and the best that was validated when it was looked at
    samples = [json.loads(line) for line in begun.run.samples_path.read_text("utf-8").splitlines()]
    assert not any("<|" in sample["continuation"] for sample in samples)  # a new model writes ids that no text has
    assert [sample["prompt"] for sample in samples] == ["中国的首都是", "The capital of France is"]
    assert {sample["step"] for sample in samples} == {8}
    assert all(sample["continuation"] for sample in samples)
    assert len(list((begun.run.path / "tensorboard").iterdir())) == 1
    assert end_of(begun.run) == end_of(uninterrupted)


def test_a_checkpoint_tells_where_it_comes_from(begun: Begun) -> None:
    begun.prepared = begun.prepared.model_copy(update={"parent_run": "mother", "parent_step": 5})
    begun.work()
    manifest = read_manifest(checkpoint_folders.folder_of(begun.run.checkpoints, 8))
    assert (manifest["run_id"], manifest["parent_run"], manifest["parent_step"]) == ("small", "mother", 5)
    assert manifest["data_fingerprint"] == begun.prepared.data_fingerprint
    kill_at(begun.run, 6)
    begun.prepared = begun.prepared.model_copy(update={"parent_run": None, "parent_step": None})
    begun.work()  # who resumes need not know the parent
    again = read_manifest(checkpoint_folders.folder_of(begun.run.checkpoints, 8))
    assert again.pop("files")["model.safetensors"] == manifest.pop("files")["model.safetensors"]
    assert again == manifest


@pytest.mark.parametrize("step", [1, 4, 7])
def test_killed_and_resumed_it_ends_as_if_it_had_not_been(begun: Begun, uninterrupted: RunDirectory, step: int) -> None:
    shutil.copytree(uninterrupted.checkpoints, begun.run.checkpoints)
    shutil.copy(uninterrupted.events_path, begun.run.events_path)
    kill_at(begun.run, step)
    assert begun.run.state().word == "FAILED"
    assert begun.work() == "SUCCEEDED"
    assert end_of(begun.run) == end_of(uninterrupted)
    saved = [
        checkpoints.load(checkpoint_folders.folder_of(run.checkpoints, 8)).train_state
        for run in (begun.run, uninterrupted)
    ]
    assert_same(saved[0], saved[1])
    for name in ("train/loss", "train/tokens", "train/lr"):
        assert metric_series(begun.run.events_path, name) == metric_series(uninterrupted.events_path, name)
    validations = [
        dict(zip(*metric_series(run.events_path, "val/loss"), strict=True)) for run in (begun.run, uninterrupted)
    ]
    assert validations[0].items() >= validations[1].items()
    measured = [event["step"] for event in read_events(begun.run.events_path) if "val/loss" in event.get("values", {})]
    assert measured.count(0) == 1  # what was measured is not measured again
    resumed = [event["step"] for event in read_events(begun.run.events_path) if event.get("state") == "RUNNING"]
    assert resumed == [0, step]


def test_a_stop_ends_at_the_next_step_with_a_checkpoint(begun: Begun, uninterrupted: RunDirectory) -> None:
    (begun.run.path / "STOP").touch()
    assert begun.work() == "STOPPED"
    assert begun.steps == [1]
    assert not begun.run.samples_path.exists()
    begun.run.clear_stop()
    assert begun.work() == "SUCCEEDED"
    assert end_of(begun.run) == end_of(uninterrupted)


def test_a_run_that_is_done_is_only_finished_again(begun: Begun) -> None:
    begun.work()
    before = end_of(begun.run)
    begun.run.samples_path.unlink()
    assert begun.work() == "SUCCEEDED"
    assert end_of(begun.run) == before
    assert begun.run.samples_path.exists()


@pytest.mark.parametrize("damage", ["flipped byte", "missing file"])
def test_a_damaged_checkpoint_is_skipped_with_a_note(begun: Begun, uninterrupted: RunDirectory, damage: str) -> None:
    begun.work()
    kill_at(begun.run, 6)
    file = checkpoint_folders.folder_of(begun.run.checkpoints, 6) / "model.safetensors"
    if damage == "missing file":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)
    assert begun.work() == "SUCCEEDED"
    (note,) = begun.notes("checkpoint_skipped")
    assert note.startswith("skipped step_00000006: ")
    assert "model.safetensors is " + ("missing" if damage == "missing file" else "damaged") in note
    assert read_events(begun.run.events_path, {"state"})[-2]["step"] == 4
    assert end_of(begun.run) == end_of(uninterrupted)


def test_another_models_checkpoint_is_refused(begun: Begun) -> None:
    begun.work()
    kill_at(begun.run, 6)
    assert begun.work(small_spec(model__num_hidden_layers=3)) == "FAILED"
    reason = begun.run.state().reason
    assert "is a checkpoint of another model: num_hidden_layers is 2 in the checkpoint and 3 in this run" in reason
    assert begun.steps == [4, 6]


def test_other_data_or_another_tokenizer_is_refused(begun: Begun, tmp_path: Path) -> None:
    begun.work()
    kill_at(begun.run, 6)
    own = checkpoint_folders.folder_of(begun.run.checkpoints, 6)
    texts = [json.loads(line)["text"] for line in SAMPLES.read_text("utf-8").splitlines()]
    changed = small_spec(data__path=str(write_rows(tmp_path / "more.jsonl", [*texts, "one more"])))
    assert begun.work(changed, prepare(changed, Screen(), own=own)) == "FAILED"
    reason = begun.run.state().reason
    assert "was trained on other data" in reason
    assert begun.prepared.data_fingerprint in reason
    assert "--from_weight small@latest" in reason
    split = small_spec(data__split_cjk=False)
    prepared = prepare(split, Screen()).model_copy(update={"identity": begun.run.identity})
    assert begun.work(split, prepared) == "FAILED"
    assert "was made with another tokenizer" in begun.run.state().reason


def test_a_loss_that_is_no_number_fails_the_run_with_the_rows(home: Path) -> None:
    begun = Begun(small_spec(optim__learning_rate=1e30, loop__max_bad_steps=3))
    assert begun.work() == "FAILED"
    reason = begun.run.state().reason
    assert "not a number in 3 steps in a row (max_bad_steps = 3)" in reason
    assert "Lower --learning_rate" in reason
    notes = [event for event in read_events(begun.run.events_path, {"note"}) if event["kind"] == "step_skipped"]
    assert len(notes) == 3
    assert all(len(note["rows"]) == 8 for note in notes)
    assert read_events(begun.run.events_path, {"state"})[-1]["traceback"]


def test_a_disk_that_is_full_while_saving_fails_the_run_and_loses_nothing(
    begun: Begun, uninterrupted: RunDirectory
) -> None:
    largest = max(file.stat().st_size for file in checkpoint_folders.folder_of(uninterrupted.checkpoints, 1).iterdir())
    (begun.run.path / "STOP").touch()
    begun.work()
    begun.run.clear_stop()
    with files_limited_to(largest // 2):
        assert begun.work() == "FAILED"
    assert "the checkpoint of step 2 could not be written" in begun.run.state().reason
    assert "make room" in begun.run.state().reason
    assert sorted(path.name for path in begun.run.checkpoints.iterdir()) == ["step_00000001"]
    assert begun.work() == "SUCCEEDED"
    assert end_of(begun.run) == end_of(uninterrupted)


def test_a_run_that_is_running_is_not_started_again(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.training.worker.PATIENCE_S", 0.0)
    with RunDirectory(begun.run.path).hold(), pytest.raises(RunTakenError, match="is running already"):
        begun.work()
    assert not begun.run.events_path.exists()


def test_a_worker_leaves_a_run_alone_that_it_was_not_started_for(begun: Begun) -> None:
    begun.prepared = begun.prepared.model_copy(update={"identity": "of another"})
    with pytest.raises(RunTakenError, match="created anew by another process"):
        begun.work()
    assert not begun.run.events_path.exists()
    assert begun.run.state().word == "PENDING"
    begun.prepared = begun.prepared.model_copy(update={"identity": None})
    with pytest.raises(RunTakenError, match="is not what is to be trained: it has other seed"):
        begun.work(small_spec(seed=7))
    assert not begun.run.events_path.exists()
    begun.prepared = begun.prepared.model_copy(update={"identity": begun.run.identity})
    assert begun.work() == "SUCCEEDED"


def test_what_nobody_expected_is_recorded_and_raised(begun: Begun) -> None:
    (begun.run.path / "tensorboard").touch()
    with pytest.raises(FileExistsError):
        begun.work()
    assert begun.run.state().word == "FAILED"
    assert "tensorboard" in begun.run.state().reason
    assert not begun.run.is_running


def test_another_rank_waits_for_the_failure_that_both_have(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.training.worker.FAILED_TOGETHER_S", 0.0)
    shutil.rmtree(begun.prepared.shards)
    with pytest.raises(ValueError, match="no token shards"):  # rank 0 knows nothing of it: only raising frees it
        work(begun.spec, begun.prepared, begun.run, Parallel(rank=1, world=1))
    assert not begun.run.events_path.exists()
    assert begun.work() == "FAILED"
    monkeypatch.undo()
    work(begun.spec, begun.prepared, begun.run, Parallel(rank=1, world=1))


@pytest.mark.slow
def test_the_best_checkpoint_stays(home: Path) -> None:
    settings = {"loop__eval_interval": 1, "loop__save_interval": 1, "loop__keep_last": 1, "loop__keep_best": 2}
    begun = Begun(small_spec(optim__learning_rate=0.3, optim__schedule="constant", **settings))
    begun.work()
    measured = dict(zip(*metric_series(begun.run.events_path, "val/loss"), strict=True))
    before_the_last = sorted(range(1, 8), key=lambda step: measured[step])
    assert begun.steps == sorted({*before_the_last[:2], 8})


def test_no_samples_where_none_are_asked_for(home: Path) -> None:
    begun = Begun(small_spec(eval__sample_tokens=0, loop__max_steps=1))
    begun.work()
    assert begun.run.samples_path.read_text() == ""
    assert samples.read(begun.run) == []


@pytest.mark.slow
def test_float16_with_its_scaler_resumes_bit_for_bit(home: Path) -> None:
    spec = small_spec(loop__dtype="float16", loop__max_steps=4)
    begun = Begun(spec)
    assert begun.work() == "SUCCEEDED"
    whole = end_of(begun.run)
    kill_at(begun.run, 2)
    assert begun.work() == "SUCCEEDED"
    assert end_of(begun.run) == whole


@pytest.mark.slow
def test_a_run_keeps_its_dtype_where_auto_would_be_another(home: Path) -> None:
    spec = small_spec(loop__dtype="float16", loop__max_steps=4)
    begun = Begun(spec)
    assert begun.work() == "SUCCEEDED"
    whole = end_of(begun.run)
    kill_at(begun.run, 2)
    assert begun.work(small_spec(loop__dtype="auto", loop__max_steps=4)) == "SUCCEEDED"  # float32, in tests of workers
    assert end_of(begun.run) == whole
    (note,) = begun.notes("precision")
    assert note == "the run goes on in float16, as it began; on what it has now a new run would take float32"
    dtypes = [state["environment"]["dtype"] for state in begun.running]
    assert dtypes == ["float16", "float16"]


@pytest.mark.slow
def test_a_run_that_has_learnt_everything_succeeds_though_its_samples_are_longer_than_its_context(home: Path) -> None:
    begun = Begun(small_spec(model__max_position_embeddings=64, data__max_seq_len=64, eval__sample_tokens=60))
    assert begun.work() == "SUCCEEDED"
    assert begun.notes("no_samples") == []
    assert len(begun.run.samples_path.read_text("utf-8").splitlines()) == 2


def test_a_run_that_has_learnt_everything_succeeds_without_its_samples(home: Path) -> None:
    begun = Begun(small_spec())
    begun.run.samples_path.mkdir()
    assert begun.work() == "SUCCEEDED"
    assert begun.steps[-1] == 8
    (note,) = begun.notes("no_samples")
    assert "Is a directory" in note
    assert begun.work() == "SUCCEEDED"


def test_the_environment_of_a_run() -> None:
    found = environment(Parallel(), "minimind train pretrain")
    assert found["torch"] == torch.__version__
    assert found["device"] == "cpu"
    assert found["command"] == "minimind train pretrain"
    assert found["source"]


@pytest.mark.slow
def test_a_run_under_a_limit_goes_down_the_ladder_and_resumes_there(home: Path) -> None:
    free = Begun(small_spec(name="free", data__max_seq_len=128))
    assert free.work() == "SUCCEEDED"
    whole = Begun(small_spec(name="whole", data__max_seq_len=128, memory__vram="4MB"))
    assert whole.work() == "SUCCEEDED"
    notes = whole.notes("out_of_memory")
    assert notes
    assert "out of memory after step 0: at most 2 rows at once from now on" in notes[0]
    for run in (free.run, whole.run):
        assert metric_series(run.events_path, "train/loss")[0] == list(range(1, 9))
    losses = [metric_series(run.events_path, "train/loss")[1] for run in (free.run, whole.run)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    peaks = metric_series(whole.run.events_path, "perf/peak_memory_bytes")[1]
    assert max(peaks) <= 4 << 20
    end = end_of(whole.run)
    kill_at(whole.run, 4)
    assert whole.work() == "SUCCEEDED"
    assert end_of(whole.run) == end
    assert whole.notes("out_of_memory") == notes  # it began where it stood


def test_a_limit_below_the_weights_fails_the_run_in_words(home: Path) -> None:
    begun = Begun(small_spec(memory__vram="0.1MB"))
    assert begun.work() == "FAILED"
    reason = begun.run.state().reason
    assert reason.startswith("out of memory outside the steps of training. ")
    assert "the limit is 102 KB" in reason
    assert "What helps: a smaller model" in reason
